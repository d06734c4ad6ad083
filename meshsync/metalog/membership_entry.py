"""The entries of a folder's membership chain and their bytes: linear, hash-linked, signed, readable by the relay.

Invariant: an `OpenedMembership` exists only for bytes whose form and signatures were checked. Whether its author may
make the change is for the fold to tell (`membership.Membership.apply`). Key boxes and names stay sealed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec

from meshsync import limits
from meshsync.codec.canonical import Record, decode, encode
from meshsync.crypto.hashing import digest
from meshsync.crypto.identity import DeviceKeys
from meshsync.crypto.signing import verify
from meshsync.errors import FormatUnsupported, MalformedMessage
from meshsync.ids import ID_SIZE_BYTES, DeviceId, FolderId, RecordId
from meshsync.metalog.fields import (
    RECORD_VERSION,
    Addresses,
    ChainHead,
    Count,
    Device,
    Epoch,
    Hash,
    Key,
    KeyBox,
    SealedName,
    Seq,
    Signature,
    check_ascending,
    check_version,
)
from meshsync.roles import Role

SIGNATURE_KIND = "membership"
TICKET_SIGNATURE_KIND = "admission"
CONSENT_SIGNATURE_KIND = "enrolment"
_IdOrNone = Annotated[bytes, msgspec.Meta(max_length=ID_SIZE_BYTES)]
_ChunkSize = Annotated[int, msgspec.Meta(ge=limits.CUTTING_SIZE_BYTES_MIN, le=limits.CHUNK_SIZE_BYTES_MAX)]


class Box(Record, frozen=True, order=True):
    """Folder secret and current epoch key, sealed to `recipient`: a device, or the public key of an open ticket."""

    recipient: Device
    sealed: KeyBox


class WrappedKey(Record, frozen=True, order=True):
    """An earlier epoch's key, sealed under the new one."""

    epoch: Epoch
    sealed: KeyBox


Pins = Annotated[tuple[ChainHead, ...], msgspec.Meta(max_length=limits.PINS_MAX)]


class Genesis(Record, frozen=True, tag=1):
    """The first entry: its author owns the folder. Fixes for ever the suite and the bounds of a chunk in bytes.

    `epoch` and `secret` are the commitments to the first epoch key and to the folder secret, which every later box must
    hold too (`crypto.folder_keys`); `box` holds the owner's keys; the names are sealed or empty.
    """

    suite: Seq
    chunk_min: _ChunkSize
    chunk_mean: _ChunkSize
    chunk_max: _ChunkSize
    nonce: Hash
    box_public: Key
    epoch: Epoch
    secret: Hash
    box: KeyBox
    folder_name: SealedName = b""
    device_name: SealedName = b""


class Invite(Record, frozen=True, tag=2):
    """A single-use ticket: whoever signs with the key `ticket` may admit itself with `role` until `expires_s`.

    `expires_s`: seconds since 1970. `box` is sealed to the box key that the ticket's secret derives, under `epoch`, the
    current epoch; it is empty exactly for the role BACKUP.
    """

    ticket: Device
    role: Role
    expires_s: Count
    epoch: Epoch
    box: Annotated[bytes, msgspec.Meta(max_length=limits.KEY_BOX_BYTES_MAX)]


class Revoke(Record, frozen=True, tag=3):
    """An open ticket is withdrawn."""

    ticket: Device


class Admit(Record, frozen=True, tag=4):
    """The author becomes a member by `ticket`; signed by its own key and by the ticket's. `role` is the invite's."""

    ticket: Device
    role: Role
    box_public: Key
    device_name: SealedName = b""


class Rekey(Record, frozen=True, tag=5):
    """A new epoch. `boxes`: one for each member that may read, and one for each invite that stays open.

    An open invite without a box is closed by the rekey. `wrapped` holds the key of the epoch before, and of epochs that
    lost a conflict, under the new key; so one box opens the history. Both ascend.
    """

    epoch: Epoch
    boxes: Annotated[tuple[Box, ...], msgspec.Meta(max_length=limits.MEMBERS_MAX + limits.INVITES_OPEN_MAX)]
    wrapped: Annotated[tuple[WrappedKey, ...], msgspec.Meta(min_length=1, max_length=limits.WRAPPED_KEYS_MAX)]


class Remove(Record, frozen=True, tag=6):
    """`device` is no member any more; its chains end at `pins`, the last accepted entries of each branch.

    An owner's removal carries the rekey, so that both happen or neither. A device that leaves by itself has none.
    """

    device: Device
    pins: Pins
    rekey: Rekey | None


class ChangeRole(Record, frozen=True, tag=7):
    """`device` gets `role`. Lowered below WRITER, its chains are pinned as by a removal; otherwise `pins` is empty."""

    device: Device
    role: Role
    pins: Pins = ()


class SetRelay(Record, frozen=True, tag=8):
    """The folder is stored at `relay`, reached at `addresses`; without addresses, no longer."""

    relay: Device
    addresses: Addresses


class SetPolicy(Record, frozen=True, tag=9):
    """Retention and limits as opaque bytes; `number` grows with each change."""

    number: Seq
    policy: Annotated[bytes, msgspec.Meta(max_length=limits.POLICY_BYTES_MAX)]


class Enrol(Record, frozen=True, tag=10):
    """`device`, whose secrets are kept off-line, becomes an owner by the author's hand, since it is never there itself.

    `box` is sealed to `box_public` under `epoch`, the current epoch. `consent` is the signature of `device` over
    `consent_statement`: nobody but the device that it names can enrol it.
    """

    device: Device
    epoch: Epoch
    box_public: Key
    box: KeyBox
    consent: Signature
    device_name: SealedName = b""


Change = Genesis | Invite | Revoke | Admit | Rekey | Remove | ChangeRole | SetRelay | SetPolicy | Enrol


class MembershipBody(Record, frozen=True):
    """What is signed. In the genesis `seq` is 0, and `folder` and `prev` are empty, since its hash names the folder."""

    version: Seq
    folder: _IdOrNone
    device: Device
    seq: Count
    prev: _IdOrNone
    change: Change


class SignedMembership(Record, frozen=True):
    """An entry as sent and kept; `ticket_signature` is empty but in an admission."""

    body: Annotated[bytes, msgspec.Meta(max_length=limits.MEMBERSHIP_ENTRY_BYTES_MAX)]
    signature: Signature
    ticket_signature: Annotated[bytes, msgspec.Meta(max_length=64)]


@dataclass(frozen=True, slots=True)
class OpenedMembership:
    """A verified membership entry. `data` are its bytes as sent, `id` their hash; a genesis's id is the folder's."""

    id: RecordId
    body: MembershipBody
    data: bytes

    @property
    def author(self) -> DeviceId:
        """Who signed it."""
        return self.body.device

    @property
    def change(self) -> Change:
        """What it does."""
        return self.body.change

    @property
    def folder(self) -> FolderId:
        """The folder it belongs to."""
        return FolderId(self.body.folder or self.id)


def membership_id(data: bytes) -> RecordId:
    """Return the hash of a signed membership entry as sent."""
    return RecordId(digest("membership", data))


def consent_statement(device: DeviceId, box_public: bytes, by: DeviceId) -> bytes:
    """Return what the off-line key `device` signs so that `by` may enrol it in its folders."""
    return device + box_public + by


def sign_genesis(keys: DeviceKeys, genesis: Genesis) -> OpenedMembership:
    """Found a folder owned by the device of `keys`. Raises MalformedMessage if `genesis` is out of bounds."""
    return _sign(keys, MembershipBody(RECORD_VERSION, b"", keys.device, 0, b"", genesis), None)


def sign_change(
    keys: DeviceKeys, folder: FolderId, prev: RecordId, seq: int, change: Change, *, ticket: DeviceKeys | None = None
) -> OpenedMembership:
    """Make the entry number `seq` of `folder`, after `prev`; `ticket` signs too if `change` is an Admit.

    Raises MalformedMessage if `change` is out of bounds. Whether it is allowed, the fold tells.
    """
    return _sign(keys, MembershipBody(RECORD_VERSION, folder, keys.device, seq, prev, change), ticket)


def open_membership(data: bytes) -> OpenedMembership:
    """Return the verified entry in `data`.

    Raises MalformedMessage, FormatUnsupported (a newer version or suite), SignatureInvalid.
    """
    signed = decode(SignedMembership, data, limits.MEMBERSHIP_ENTRY_BYTES_MAX)
    check_version(signed.body, "membership entry")
    body = decode(MembershipBody, signed.body, limits.MEMBERSHIP_ENTRY_BYTES_MAX)
    _check_form(body)
    verify(body.device, SIGNATURE_KIND, signed.body, signed.signature)
    if isinstance(body.change, Admit):
        verify(body.change.ticket, TICKET_SIGNATURE_KIND, signed.body, signed.ticket_signature)
    elif signed.ticket_signature:
        raise MalformedMessage("a membership entry with a ticket's signature that admits nobody")
    if isinstance(body.change, Enrol):
        statement = consent_statement(DeviceId(body.change.device), body.change.box_public, DeviceId(body.device))
        verify(DeviceId(body.change.device), CONSENT_SIGNATURE_KIND, statement, body.change.consent)
    return OpenedMembership(membership_id(data), body, data)


def _sign(keys: DeviceKeys, body: MembershipBody, ticket: DeviceKeys | None) -> OpenedMembership:
    data = encode(body)
    second = ticket.sign(TICKET_SIGNATURE_KIND, data) if ticket is not None else b""
    return open_membership(encode(SignedMembership(data, keys.sign(SIGNATURE_KIND, data), second)))


def _check_form(body: MembershipBody) -> None:
    change = body.change
    link_size = 0 if body.seq == 0 else ID_SIZE_BYTES
    if len(body.folder) != link_size or len(body.prev) != link_size or (body.seq == 0) != isinstance(change, Genesis):
        raise MalformedMessage("a membership entry names its folder, previous entry or place wrongly")
    match change:
        case Genesis():
            if change.suite != limits.SUITE:
                raise FormatUnsupported(f"a folder of suite {change.suite}; this build knows suite {limits.SUITE} only")
            if not change.chunk_min <= change.chunk_mean <= change.chunk_max:
                raise MalformedMessage("a genesis whose chunk sizes do not ascend")
        case Invite():
            if bool(change.box) != change.role.may_read:
                raise MalformedMessage("an invite gives keys exactly to a role that may read")
        case Rekey():
            _check_rekey(change)
        case Remove():
            check_ascending(change.pins, "pins")
            if change.rekey is not None:
                _check_rekey(change.rekey)
        case ChangeRole():
            check_ascending(change.pins, "pins")
        case _:
            pass


def _check_rekey(rekey: Rekey) -> None:
    check_ascending(tuple(box.recipient for box in rekey.boxes), "the recipients of a rekey")
    check_ascending(tuple(wrapped.epoch for wrapped in rekey.wrapped), "the epochs wrapped in a rekey")
