"""What happens when two owners changed the membership at the same time, without a relay to order them.

Invariant: every device that knows both branches picks the same one, by a rule over their first entries alone, so the
choice never flips as branches grow: remove, rekey and demotion beat other changes, then the lower hash wins. Where a
relay orders entries by compare-and-append, its order stands and nothing here is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from meshsync.errors import AccessError, IntegrityError, MalformedMessage
from meshsync.ids import short
from meshsync.metalog.membership import Membership
from meshsync.metalog.membership_entry import (
    Box,
    Change,
    ChangeRole,
    Enrol,
    Invite,
    OpenedMembership,
    Rekey,
    Remove,
    WrappedKey,
)

STAND_IN = b"\0"


@dataclass(frozen=True, slots=True)
class Merged:
    """The outcome of a conflict of owners.

    `repropose` are the losing entries whose change would still be allowed after the winners: each author signs its own
    again at the new head, with fresh boxes where it carries some. `dropped` are the rest. Both owners are told of all.
    """

    membership: Membership
    winners: tuple[OpenedMembership, ...]
    repropose: tuple[OpenedMembership, ...]
    dropped: tuple[OpenedMembership, ...]


def prefer(a: OpenedMembership, b: OpenedMembership, base: Membership) -> OpenedMembership:
    """Return which of two entries that both follow `base` stands. Symmetric in `a` and `b`."""
    return min(a, b, key=lambda entry: (not _restricts(entry.change, base), entry.id))


def merge(base: Membership, a: Sequence[OpenedMembership], b: Sequence[OpenedMembership]) -> Merged:
    """Return what stands of two branches, neither empty, after their common `base`.

    Raises IntegrityError if a branch does not follow `base` entry by entry, and what `Membership.apply` raises if a
    branch is not allowed by itself: then it is no branch, and the other stands.
    """
    fold_a, fold_b = _fold(base, a), _fold(base, b)
    a_stands = prefer(a[0], b[0], base) is a[0]
    winners, losers = (a, b) if a_stands else (b, a)
    stands, fell = (fold_a, fold_b) if a_stands else (fold_b, fold_a)
    lost_epochs = {
        epoch: fell.boxes if epoch == fell.epoch else {} for epoch in fell.epochs if epoch not in stands.epochs
    }
    merged = replace(
        stands,
        superseded={**stands.superseded, **lost_epochs},
        wrapped={**fell.wrapped, **stands.wrapped},
    )
    repropose, dropped = _sort_out(merged, losers)
    return Merged(merged, tuple(winners), repropose, dropped)


def _restricts(change: Change, base: Membership) -> bool:
    if isinstance(change, ChangeRole):
        before = base.role(change.device)
        return before is not None and change.role > before
    return isinstance(change, Remove | Rekey)


def _fold(base: Membership, branch: Sequence[OpenedMembership]) -> Membership:
    if not branch:
        raise IntegrityError("an empty branch of a membership chain", folder=short(base.folder))
    membership = base
    for entry in branch:
        membership = membership.apply(entry)
    return membership


def _sort_out(
    stands: Membership, losers: Sequence[OpenedMembership]
) -> tuple[tuple[OpenedMembership, ...], tuple[OpenedMembership, ...]]:
    repropose, dropped = [], []
    for entry in losers:
        try:
            stands = stands.with_change(entry.author, _fresh(entry.change, stands))
        except (AccessError, MalformedMessage):
            dropped.append(entry)
        else:
            repropose.append(entry)
    return tuple(repropose), tuple(dropped)


def _fresh(change: Change, stands: Membership) -> Change:
    """Return `change` as its author would sign it again after `stands`, with stand-ins for the new keys."""
    match change:
        case Rekey():
            return _rekey_after(change, stands)
        case Remove(rekey=Rekey() as rekey) if stands.is_member(change.device):
            remaining = {device: member for device, member in stands.members.items() if device != change.device}
            return Remove(change.device, change.pins, _rekey_after(rekey, replace(stands, members=remaining)))
        case Invite():
            return Invite(change.ticket, change.role, change.expires_s, stands.epoch, change.box)
        case Enrol():
            return msgspec.structs.replace(change, epoch=stands.epoch)
        case _:
            return change


def _rekey_after(rekey: Rekey, stands: Membership) -> Rekey:
    boxes = tuple(Box(device, STAND_IN) for device in sorted(stands.members) if stands.may_read(device))
    return Rekey(rekey.epoch, boxes, (WrappedKey(stands.epoch, STAND_IN),))
