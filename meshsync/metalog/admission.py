"""Whether a verified entry or stored record may enter the log, by the membership. Decided alike at relay and peers.

Invariant: nothing of a device that may not write enters the view; what a removed device signed up to its pins stays,
and what it signed beyond them is quarantined, never lost silently (`semantics.md` 4.5 and 5.1).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from meshsync.errors import AccessError, NotAMember, RoleForbids
from meshsync.ids import DeviceId, EntryId, short
from meshsync.metalog.chain import ChainSet
from meshsync.metalog.entry import OpenedEntry
from meshsync.metalog.fields import ChainHead
from meshsync.metalog.membership import Membership


class Reason(enum.Enum):
    """Why an entry is refused, by what to do next."""

    NOT_A_MEMBER = "not a member"
    """Refuse; if the membership chain may be behind, fetch it and ask again."""

    ROLE_FORBIDS = "role forbids"
    """Refuse: a reader or backup does not write."""

    BEYOND_PIN = "beyond pin"
    """Quarantine and list: signed by a removed or demoted device after its last accepted entry, or on a branch."""

    EPOCH_UNKNOWN = "epoch unknown"
    """Fetch the membership chain, then ask again; refuse if it is complete."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An entry or record that may not enter, and the sentence that says so."""

    reason: Reason
    what: str
    device: DeviceId
    membership: Membership

    def error(self) -> AccessError:
        """Return the error for a caller that cannot go on."""
        kind = NotAMember if self.reason is Reason.NOT_A_MEMBER else RoleForbids
        return kind(self.what, device=short(self.device), folder=short(self.membership.folder))


def may_append_entry(membership: Membership, entry: OpenedEntry, chains: ChainSet | None = None) -> Refusal | None:
    """Return None if `entry` may enter the log under `membership`, else why not.

    `chains` are the delivered entries. With them, an entry that a removed device signed later on a branch below its pin
    is told from the pinned past; without them, or before the pin itself is delivered, it is let through, and `off_pins`
    finds it afterwards.
    """
    pins = [pin for pin in membership.pins_of(entry.device) if pin.chain == entry.chain]
    if pins:
        if not _within(entry, pins, chains):
            return Refusal(Reason.BEYOND_PIN, "an entry beyond the device's last one", entry.device, membership)
    elif not membership.may_write(entry.device):
        return _no_right(membership, entry.device, "write")
    if not membership.knows_epoch(entry.envelope.epoch):
        return Refusal(Reason.EPOCH_UNKNOWN, "an entry under an unknown epoch", entry.device, membership)
    return None


def may_append_stored(membership: Membership, device: DeviceId) -> Refusal | None:
    """Return None if `device` may sign stored records and checkpoints' uploads: any member that may read."""
    return None if membership.may_read(device) else _no_right(membership, device, "say what is stored")


def off_pins(chains: ChainSet, pins: tuple[ChainHead, ...]) -> list[EntryId]:
    """Return the delivered entries of the pinned chains that no pin covers, to be kept out of the view.

    A pin that is not delivered yet covers all entries below its sequence number.
    """
    covered: set[EntryId] = set()
    waiting_seq: dict[bytes, int] = {}
    for pin in pins:
        row = chains.row(pin.entry)
        if row is None:
            waiting_seq[pin.chain] = max(pin.seq, waiting_seq.get(pin.chain, 0))
        while row is not None and row.id not in covered:
            covered.add(row.id)
            row = chains.row(EntryId(row.prev))
    return [
        row.id
        for chain in sorted({pin.chain for pin in pins})
        for row in chains.rows(chain)
        if row.id not in covered and row.seq >= waiting_seq.get(chain, 0)
    ]


def beyond_pins(membership: Membership, chains: ChainSet) -> set[EntryId]:
    """Return the delivered entries that count for nothing, since their device was removed or demoted before them."""
    off = {name for pins in membership.pins.values() for name in off_pins(chains, pins)}
    for chain in {head.chain for head in chains.heads()}:
        rows = chains.rows(chain)
        device = rows[0].device
        is_pinned = any(pin.chain == chain for pin in membership.pins_of(device))
        if not is_pinned and has_ended(membership, device):
            off.update(row.id for row in rows)
    return off


def is_apart(refusal: Refusal) -> bool:
    """Whether a refused entry that a member brings is kept in quarantine, and not thrown away.

    It is beyond the pins of its device, or on a chain of which whoever ended that device had nothing: some member may
    have had it before, and have built on it.
    """
    return refusal.reason is Reason.BEYOND_PIN or (
        refusal.reason in (Reason.NOT_A_MEMBER, Reason.ROLE_FORBIDS) and has_ended(refusal.membership, refusal.device)
    )


def has_ended(membership: Membership, device: DeviceId) -> bool:
    """Whether `device` could write once, and was removed or demoted."""
    return device in membership.pins and not membership.may_write(device)


def _within(entry: OpenedEntry, pins: list[ChainHead], chains: ChainSet | None) -> bool:
    if entry.head in pins:
        return True
    above = [pin for pin in pins if pin.seq > entry.envelope.seq]
    if chains is None or any(pin.entry not in chains for pin in above):
        return bool(above)
    return any(chains.is_ancestor(entry.id, pin.entry) for pin in above)


def _no_right(membership: Membership, device: DeviceId, action: str) -> Refusal:
    role = membership.role(device)
    if role is None:
        return Refusal(Reason.NOT_A_MEMBER, "this folder does not know this device", device, membership)
    return Refusal(Reason.ROLE_FORBIDS, f"a {role.name.lower()} cannot {action}", device, membership)
