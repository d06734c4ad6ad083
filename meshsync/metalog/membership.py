"""Who belongs to a folder, as the fold of its membership chain. Immutable values, pure functions.

Invariant: a `Membership` is reached only by entries that their authors were allowed to sign at that place; there is
always an owner, and a rekey boxes the new key to every member that may read, and to nobody who may not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from meshsync import limits
from meshsync.errors import IntegrityError, MalformedMessage, NotAMember, RoleForbids, TicketInvalid
from meshsync.ids import DeviceId, EpochId, FolderId, RecordId, short
from meshsync.metalog.fields import ChainHead
from meshsync.metalog.membership_entry import (
    Admit,
    Change,
    ChangeRole,
    Enrol,
    Genesis,
    Invite,
    OpenedMembership,
    Rekey,
    Remove,
    Revoke,
    SetPolicy,
    SetRelay,
    WrappedKey,
)
from meshsync.roles import Role

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Member:
    """One device of the folder. `ticket` is the key that admitted it, else empty; `name` is sealed.

    `enrolled_by` is empty, or the owner that enrolled it: then its secrets are kept off-line, and it never links.
    """

    device: DeviceId
    role: Role
    box_public: bytes
    name: bytes
    ticket: bytes
    enrolled_by: bytes = b""


@dataclass(frozen=True, slots=True)
class KeyBoxAt:
    """Folder keys sealed to one recipient, under `epoch`."""

    epoch: EpochId
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Membership:
    """The state after the entry `head`, number `seq` of the chain.

    `boxes` are of the current `epoch`, by device or ticket key; `wrapped` leads from each epoch to those before it.
    `superseded` are epochs that lost a conflict (`semantics.md` 5.1), with their boxes: readable, never sealed under.
    `pins` end the chains of removed and demoted devices, and stay when such a device comes back with a new chain.
    """

    folder: FolderId
    head: RecordId
    seq: int
    genesis: Genesis
    epoch: EpochId
    epochs: frozenset[EpochId]
    members: Mapping[DeviceId, Member]
    boxes: Mapping[bytes, KeyBoxAt]
    invites: Mapping[bytes, Invite] = field(default_factory=dict)
    wrapped: Mapping[EpochId, tuple[WrappedKey, ...]] = field(default_factory=dict)
    superseded: Mapping[EpochId, Mapping[bytes, KeyBoxAt]] = field(default_factory=dict)
    pins: Mapping[DeviceId, tuple[ChainHead, ...]] = field(default_factory=dict)
    relays: Mapping[DeviceId, tuple[str, ...]] = field(default_factory=dict)
    policy: SetPolicy | None = None

    @property
    def count(self) -> int:
        """The number of entries so far, which is the next entry's `seq`."""
        return self.seq + 1

    def role(self, device: DeviceId) -> Role | None:
        """Return the role of `device`, None if it is no member."""
        member = self.members.get(device)
        return member.role if member else None

    def is_member(self, device: DeviceId) -> bool:
        """Whether `device` belongs to the folder, in any role."""
        return device in self.members

    def may_write(self, device: DeviceId) -> bool:
        """Whether `device` may sign entries now."""
        role = self.role(device)
        return role is not None and role.may_write

    def may_read(self, device: DeviceId) -> bool:
        """Whether `device` holds the folder's keys and may sign stored records now."""
        role = self.role(device)
        return role is not None and role.may_read

    def owners(self) -> list[DeviceId]:
        """Return the owners in ascending order; never empty."""
        return sorted(device for device, member in self.members.items() if member.role.may_own)

    def acting_owners(self) -> list[DeviceId]:
        """Return the owners that can act, in ascending order: not those whose secrets are kept off-line."""
        return [device for device in self.owners() if not self.members[device].enrolled_by]

    def backups(self) -> list[DeviceId]:
        """Return the devices that keep what they cannot read, in the order in which they were admitted."""
        return [device for device, member in self.members.items() if member.role is Role.BACKUP]

    def keepers(self) -> tuple[DeviceId, ...]:
        """Return what keeps the folder's content and log sealed: its relays, then its backups.

        At most FOLDER_RELAYS_MAX, which is what an entry can speak of: backups that came later are members, and are
        brought nothing.
        """
        return (*sorted(self.relays), *self.backups())[: limits.FOLDER_RELAYS_MAX]

    def knows_epoch(self, epoch: EpochId) -> bool:
        """Whether `epoch` was ever current, on the winning or the losing side of a conflict."""
        return epoch in self.epochs or epoch in self.superseded

    def pins_of(self, device: DeviceId) -> tuple[ChainHead, ...]:
        """Return where the chains of a removed or demoted device end; empty if it never was."""
        return self.pins.get(device, ())

    def key_boxes(self, recipient: bytes) -> list[KeyBoxAt]:
        """Return the boxes for a device or a ticket's public key: the current epoch's first, then superseded ones."""
        member = self.members.get(DeviceId(recipient))
        names = (recipient, member.ticket) if member else (recipient,)
        found = []
        for boxes in (self.boxes, *self.superseded.values()):
            found += [boxes[name] for name in names if name in boxes][:1]
        return found

    def open_invite(self, ticket: bytes, now_s: int | None = None) -> Invite:
        """Return the invite of an unused ticket, by its public key.

        Raises TicketInvalid if it was used, revoked or never issued, or if `now_s` (seconds since 1970) is past it.
        """
        invite = self.invites.get(ticket)
        if invite is None:
            raise TicketInvalid("this ticket was used or revoked, or never issued", folder=short(self.folder))
        if now_s is not None and now_s > invite.expires_s:
            raise TicketInvalid("this ticket has expired", folder=short(self.folder))
        return invite

    def follows(self, entry: OpenedMembership) -> bool:
        """Whether `entry` is the next of this chain; if not, it is old, from elsewhere, ahead, or concurrent."""
        return (entry.folder, entry.body.seq, entry.body.prev) == (self.folder, self.seq + 1, self.head)

    def apply(self, entry: OpenedMembership, now_s: int | None = None) -> Membership:
        """Return the membership after `entry`.

        `now_s` (seconds since 1970) refuses expired tickets: give it when the newcomer itself presents the entry, and
        None when replaying a chain that others accepted. Raises IntegrityError if `entry` does not follow, NotAMember,
        RoleForbids, TicketInvalid, or MalformedMessage for a change that nobody may make.
        """
        if not self.follows(entry):
            raise IntegrityError("a membership entry does not continue the chain", folder=short(self.folder))
        return replace(self.with_change(entry.author, entry.change, now_s), head=entry.id, seq=entry.body.seq)

    def with_change(self, author: DeviceId, change: Change, now_s: int | None = None) -> Membership:
        """Return the membership as it would be after `author` made `change`; `head` and `seq` stay. Raises as `apply`.

        For asking before signing; only `apply` takes what others signed.
        """
        if isinstance(change, Admit):
            return self._admit(author, change, now_s)
        if isinstance(change, Remove) and change.device == author:
            return self._leave(author, change)
        self._require_owner(author)
        match change:
            case Invite():
                return self._invite(change)
            case Revoke():
                return self._revoke(change)
            case Rekey():
                return self._rekey(change)
            case Remove():
                return self._remove(change)
            case ChangeRole():
                return self._change_role(change)
            case SetRelay():
                return self._set_relay(change)
            case SetPolicy():
                return self._set_policy(change)
            case Enrol():
                return self._enrol(author, change)
            case _:
                raise MalformedMessage("a second genesis", folder=short(self.folder))

    def _require_owner(self, author: DeviceId) -> None:
        role = self.role(author)
        if role is None:
            raise NotAMember("the author of a membership entry is no member", **self._where(author))
        if not role.may_own:
            raise RoleForbids(f"a {role.name.lower()} cannot change the membership", **self._where(author))

    def _member(self, device: DeviceId) -> Member:
        member = self.members.get(device)
        if member is None:
            raise NotAMember("a membership entry concerns a device that is no member", **self._where(device))
        return member

    def _keep_an_owner(self, losing: DeviceId) -> None:
        if self.owners() == [losing]:
            raise RoleForbids(
                "the last owner cannot leave, be removed or lose its role",
                next_step="Make another device owner first.",
                **self._where(losing),
            )

    def _invite(self, change: Invite) -> Membership:
        if change.ticket in self.invites or change.ticket in self.boxes or DeviceId(change.ticket) in self.members:
            raise TicketInvalid("a ticket with this key exists already", folder=short(self.folder))
        if change.epoch != self.epoch:
            raise MalformedMessage("an invite under another epoch than the current one", folder=short(self.folder))
        if len(self.invites) >= limits.INVITES_OPEN_MAX:
            raise MalformedMessage(f"more than {limits.INVITES_OPEN_MAX} open invites", folder=short(self.folder))
        boxes = dict(self.boxes)
        if change.box:
            boxes[change.ticket] = KeyBoxAt(change.epoch, change.box)
        return replace(self, invites={**self.invites, change.ticket: change}, boxes=boxes)

    def _revoke(self, change: Revoke) -> Membership:
        self.open_invite(change.ticket)
        return replace(self, invites=_without(self.invites, change.ticket), boxes=_without(self.boxes, change.ticket))

    def _admit(self, author: DeviceId, change: Admit, now_s: int | None) -> Membership:
        invite = self.open_invite(change.ticket, now_s)
        if change.role != invite.role:
            raise TicketInvalid(f"this ticket admits as {invite.role.name.lower()} only", **self._where(author))
        if author in self.members:
            raise TicketInvalid("this device is a member already", **self._where(author))
        if len(self.members) >= limits.MEMBERS_MAX:
            raise MalformedMessage(f"more than {limits.MEMBERS_MAX} members", **self._where(author))
        member = Member(author, invite.role, change.box_public, change.device_name, change.ticket)
        return replace(self, members={**self.members, author: member}, invites=_without(self.invites, change.ticket))

    def _enrol(self, author: DeviceId, change: Enrol) -> Membership:
        device = DeviceId(change.device)
        if device in self.members or device in self.invites or device in self.boxes:
            raise MalformedMessage("an enrolment of a key that is known here already", **self._where(device))
        if change.epoch != self.epoch:
            raise MalformedMessage("an enrolment under another epoch than the current one", **self._where(device))
        if len(self.members) >= limits.MEMBERS_MAX:
            raise MalformedMessage(f"more than {limits.MEMBERS_MAX} members", **self._where(device))
        member = Member(device, Role.OWNER, change.box_public, change.device_name, b"", author)
        boxes = {**self.boxes, device: KeyBoxAt(change.epoch, change.box)}
        return replace(self, members={**self.members, device: member}, boxes=boxes)

    def _rekey(self, change: Rekey) -> Membership:
        wrapped = {item.epoch for item in change.wrapped}
        if change.epoch in self.epochs or change.epoch in wrapped:
            raise MalformedMessage("a rekey to an epoch that was before", folder=short(self.folder))
        if self.epoch not in wrapped:
            raise MalformedMessage("a rekey that does not wrap the epoch before it", folder=short(self.folder))
        boxes = {bytes(box.recipient): KeyBoxAt(change.epoch, box.sealed) for box in change.boxes}
        readers = {bytes(device) for device, member in self.members.items() if member.role.may_read}
        boxed_invites = boxes.keys() - readers
        if not readers <= boxes.keys() or not boxed_invites <= self._readable_invites():
            raise MalformedMessage("a rekey without a box for each member, or with one for others")
        invites = {
            key: _reboxed(invite, change.epoch, boxes)
            for key, invite in self.invites.items()
            if key in boxed_invites or not invite.role.may_read
        }
        return replace(
            self,
            epoch=change.epoch,
            epochs=self.epochs | wrapped | {change.epoch},
            boxes=boxes,
            invites=invites,
            wrapped={**self.wrapped, change.epoch: change.wrapped},
            superseded={epoch: held for epoch, held in self.superseded.items() if epoch not in wrapped},
        )

    def _readable_invites(self) -> set[bytes]:
        return {key for key, invite in self.invites.items() if invite.role.may_read}

    def _leave(self, author: DeviceId, change: Remove) -> Membership:
        if not self._member(author).role.may_read:
            raise RoleForbids("a backup signs no membership entry", **self._where(author))
        if change.rekey is not None:
            raise RoleForbids("a device that leaves cannot choose the next key", **self._where(author))
        self._keep_an_owner(author)
        return self._gone(author, change.pins)

    def _remove(self, change: Remove) -> Membership:
        self._member(change.device)
        if change.rekey is None:
            raise MalformedMessage("a removal without a rekey", **self._where(change.device))
        self._keep_an_owner(change.device)
        return self._gone(change.device, change.pins)._rekey(change.rekey)

    def _gone(self, device: DeviceId, pins: tuple[ChainHead, ...]) -> Membership:
        names = {bytes(device), self.members[device].ticket}
        boxes = {name: box for name, box in self.boxes.items() if name not in names}
        return replace(self._pin(device, pins), members=_without(self.members, device), boxes=boxes)

    def _pin(self, device: DeviceId, pins: tuple[ChainHead, ...]) -> Membership:
        """Pin the chains of `device`; a chain that is pinned already keeps its first pins.

        Pins count for the entries of `device` only, so a device that leaves cannot pin a chain of another.
        """
        held = self.pins_of(device)
        pinned_chains = {pin.chain for pin in held}
        new = tuple(pin for pin in pins if pin.chain not in pinned_chains)
        return replace(self, pins={**self.pins, device: (*held, *new)})

    def _change_role(self, change: ChangeRole) -> Membership:
        member = self._member(change.device)
        if not change.role.may_own:
            self._keep_an_owner(change.device)
        loses_writing = member.role.may_write and not change.role.may_write
        if change.pins and not loses_writing:
            raise MalformedMessage("pins for a device that goes on writing", **self._where(change.device))
        members = {**self.members, change.device: replace(member, role=change.role)}
        return replace(self._pin(change.device, change.pins) if loses_writing else self, members=members)

    def _set_relay(self, change: SetRelay) -> Membership:
        if not change.addresses:
            return replace(self, relays=_without(self.relays, change.relay))
        relays = {**self.relays, change.relay: change.addresses}
        if len(relays) > limits.FOLDER_RELAYS_MAX:
            raise MalformedMessage(f"more than {limits.FOLDER_RELAYS_MAX} relays", folder=short(self.folder))
        return replace(self, relays=relays)

    def _set_policy(self, change: SetPolicy) -> Membership:
        if self.policy is not None and change.number <= self.policy.number:
            raise MalformedMessage("a policy that does not come after the one in force", folder=short(self.folder))
        return replace(self, policy=change)

    def _where(self, device: DeviceId) -> dict[str, str]:
        return {"device": short(device), "folder": short(self.folder)}


def found(entry: OpenedMembership) -> Membership:
    """Return the membership of the folder that the genesis `entry` founds. Raises MalformedMessage if it is none."""
    genesis = entry.change
    if not isinstance(genesis, Genesis):
        raise MalformedMessage("a membership chain that does not begin with a genesis")
    owner = Member(entry.author, Role.OWNER, genesis.box_public, genesis.device_name, b"")
    return Membership(
        folder=entry.folder,
        head=entry.id,
        seq=0,
        genesis=genesis,
        epoch=genesis.epoch,
        epochs=frozenset({genesis.epoch}),
        members={owner.device: owner},
        boxes={owner.device: KeyBoxAt(genesis.epoch, genesis.box)},
    )


def replay(entries: Iterable[OpenedMembership], folder: FolderId) -> Membership:
    """Return the membership after a whole chain, genesis first.

    Raises IntegrityError if the genesis is not `folder`'s, MalformedMessage if there is none, and as `apply`.
    """
    chain = iter(entries)
    first = next(chain, None)
    if first is None:
        raise MalformedMessage("an empty membership chain", folder=short(folder))
    if first.folder != folder:
        raise IntegrityError("the genesis of another folder", folder=short(folder))
    return extended(found(first), chain)


def extended(membership: Membership, entries: Iterable[OpenedMembership]) -> Membership:
    """Return the membership after further entries of a chain that others accepted. Raises as `apply`."""
    for entry in entries:
        membership = membership.apply(entry)
    return membership


def _reboxed(invite: Invite, epoch: EpochId, boxes: Mapping[bytes, KeyBoxAt]) -> Invite:
    """Return `invite` under a new `epoch`, with its box from the rekey's `boxes` if it has one."""
    box = boxes[invite.ticket].sealed if invite.ticket in boxes else b""
    return Invite(invite.ticket, invite.role, invite.expires_s, epoch, box)


def _without(mapping: Mapping[K, V], key: K) -> dict[K, V]:
    return {name: value for name, value in mapping.items() if name != key}
