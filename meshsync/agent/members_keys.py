"""Changes of the membership that carry keys or pins, made for the membership as it is when they are signed.

Invariant: what is built here boxes the new key to every member that may read and to nobody else, pins a device where
this device has it, and wraps each earlier key that some entry may name. Called while the membership cannot change.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshsync.agent.replica import Replica
from meshsync.crypto.envelope import box
from meshsync.crypto.folder_keys import FolderKeys, commitment, pack_bundle, wrap_epoch
from meshsync.errors import AccessError, RoleForbids
from meshsync.ids import DeviceId, short
from meshsync.limits import PINS_MAX, WRAPPED_KEYS_MAX
from meshsync.metalog.fields import ChainHead
from meshsync.metalog.membership_entry import Box, Change, ChangeRole, Enrol, Invite, Rekey, Remove, WrappedKey
from meshsync.metalog.membership_history import tell
from meshsync.roles import Role
from meshsync.runtime import Runtime

SECRET_SIZE_BYTES = 32


def pins_of(replica: Replica, device: DeviceId) -> tuple[ChainHead, ...]:
    """Return where the chains of `device` end here, every branch of them: its last accepted entries."""
    chains = replica.chains
    heads = (head for head in chains.heads() if chains.rows(head.chain)[0].device == device)
    return tuple(sorted(heads))[:PINS_MAX]


def make_rekey(replica: Replica, runtime: Runtime, without: DeviceId | None = None) -> Rekey:
    """Return a new epoch for every member that may read but `without`. Open invitations to readers end with it.

    It also wraps keys of epochs that lost against another owner's change, so that what was written under them stays
    readable, and may enter a relay's log. Raises AccessError if this device does not hold the current key.
    """
    membership, keys = replica.membership, replica.keys
    if membership.epoch not in keys.epochs:
        raise AccessError("this device does not hold the folder's present key", folder=short(replica.folder))
    new_key = runtime.random_bytes(SECRET_SIZE_BYTES)
    fresh = keys.with_epoch(new_key, make_current=True)
    bundle = pack_bundle(fresh)
    boxes = [
        Box(device, box(member.box_public, runtime.random_bytes(SECRET_SIZE_BYTES), bundle))
        for device, member in membership.members.items()
        if device != without and member.role.may_read
    ]
    return Rekey(commitment(new_key), tuple(sorted(boxes)), _wrapped(replica, keys, new_key))


def _wrapped(replica: Replica, keys: FolderKeys, new_key: bytes) -> tuple[WrappedKey, ...]:
    current = replica.membership.epoch
    lost = sorted(epoch for epoch in keys.epochs if epoch not in replica.membership.epochs)
    wrapped = (current, *lost[: WRAPPED_KEYS_MAX - 1])
    return tuple(
        WrappedKey(epoch, wrap_epoch(new_key, keys.epochs[epoch], replica.folder)) for epoch in sorted(wrapped)
    )


def make_removal(replica: Replica, runtime: Runtime, device: DeviceId) -> Remove:
    """Return the removal of `device` with a new key for the others."""
    return Remove(device, pins_of(replica, device), make_rekey(replica, runtime, without=device))


def make_role(replica: Replica, device: DeviceId, role: Role) -> ChangeRole | None:
    """Return the change of a member's role, None if it has that role. One that ends writing pins its chains."""
    before = replica.membership.role(device)
    if before is role:
        return None
    loses_writing = before is not None and before.may_write and not role.may_write
    return ChangeRole(device, role, pins_of(replica, device) if loses_writing else ())


@dataclass(frozen=True, slots=True)
class SheetPublic:
    """What may be known of a key that is kept off-line: its id, its box key, its consent to be enrolled by a device."""

    device: DeviceId
    box_public: bytes
    consent: bytes


def make_enrolment(replica: Replica, runtime: Runtime, sheet: SheetPublic, name: bytes) -> Enrol | None:
    """Return the enrolment of `sheet` with the present key and its sealed `name`, None if it is a member.

    Raises AccessError if this device does not hold the current key.
    """
    membership, keys = replica.membership, replica.keys
    if membership.is_member(sheet.device):
        return None
    if membership.epoch not in keys.epochs or keys.current != membership.epoch:
        raise AccessError("this device does not hold the folder's present key", folder=short(replica.folder))
    sealed = box(sheet.box_public, runtime.random_bytes(SECRET_SIZE_BYTES), pack_bundle(keys))
    return Enrol(sheet.device, membership.epoch, sheet.box_public, sealed, sheet.consent, name)


def make_due_rekey(replica: Replica, runtime: Runtime) -> Rekey | None:
    """Return a new epoch if somebody holds the key who may read no more, or lacks it who may; else None."""
    return make_rekey(replica, runtime) if tell(replica.membership_chain).key_is_due else None


def renewed(replica: Replica, runtime: Runtime, change: Change) -> Change | None:
    """Return `change`, of this device, which lost against another owner's, as it is to be signed after that one.

    None if it is done already, or cannot be done any more: an invitation under an earlier key, since nothing is kept of
    its ticket that a new key could be boxed to. Raises RoleForbids if this device may not change the membership now.
    """
    membership = replica.membership
    own = replica.device.device
    if not membership.may_read(own):
        raise RoleForbids("this device is no owner any more", device=short(own), folder=short(replica.folder))
    match change:
        case Rekey():
            return make_rekey(replica, runtime)
        case Remove() if not membership.is_member(change.device):
            return None if change.rekey is None else make_rekey(replica, runtime)  # some may have sealed under its key
        case Remove() if change.device == own:
            return Remove(own, pins_of(replica, own), None)
        case Remove():
            return make_removal(replica, runtime, change.device)
        case ChangeRole():
            return make_role(replica, change.device, change.role) if membership.is_member(change.device) else None
        case Enrol():
            enrolment = SheetPublic(DeviceId(change.device), change.box_public, change.consent)
            return make_enrolment(replica, runtime, enrolment, change.device_name)
        case Invite() if change.epoch != membership.epoch:
            return None
        case _:
            return change
