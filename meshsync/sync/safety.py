"""Reads a finished plan and holds what looks like an accident: absence is not deletion (`semantics.md` 4.8).

Invariant: pure; a hold delays publishing or applying here and never changes the view.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from meshsync.content.record import Drop, Kind, Put
from meshsync.limits import SAFETY_CHANGES_MIN, SAFETY_SHARE_MAX
from meshsync.sync.actions import Remove, WriteFile
from meshsync.sync.local_tree import LocalTree
from meshsync.sync.reconcile import Plan
from meshsync.sync.synced_tree import SyncedTree


class Why(enum.Enum):
    """The reason of a hold. The value is the words for the user."""

    EMPTIED = "the folder is empty here although it held files"
    MASS_DELETION = "unusually many files were deleted at once"
    MASS_REWRITE = "unusually many files were changed at once"


class Side(enum.Enum):
    """What is held."""

    PUBLISH = "publish"
    APPLY = "apply"


@dataclass(frozen=True, slots=True)
class Policy:
    """A change of more than `changes_min` files, and of more than `share_max` of all, is held. `released` passes."""

    changes_min: int = SAFETY_CHANGES_MIN
    share_max: float = SAFETY_SHARE_MAX
    released: frozenset[Side] = frozenset()


@dataclass(frozen=True, slots=True)
class Held:
    """`side` of the plan must wait for the user: `count` of `total` files are concerned."""

    side: Side
    why: Why
    count: int
    total: int


def check(plan: Plan, synced: SyncedTree, local: LocalTree, policy: Policy) -> Held | None:
    """Return what of the plan is held, the publishing side first; None if all may go on.

    A missing root never comes this far: it is reported by the scan, and nothing is reconciled.
    """
    total = sum(1 for row in synced.rows.values() if row.kind is not Kind.DIRECTORY)
    if Side.PUBLISH not in policy.released:
        dropped, rewritten = _published(plan, synced)
        if total and not len(local) and dropped:
            return Held(Side.PUBLISH, Why.EMPTIED, dropped, total)
        held = _weigh(Side.PUBLISH, dropped, rewritten, total, policy)
        if held is not None:
            return held
    if Side.APPLY not in policy.released:
        removed = sum(1 for action in plan.apply if isinstance(action, Remove) and action.kind is not Kind.DIRECTORY)
        replaced = sum(1 for action in plan.apply if isinstance(action, WriteFile) and action.expected is not None)
        return _weigh(Side.APPLY, removed, replaced, total, policy)
    return None


def _published(plan: Plan, synced: SyncedTree) -> tuple[int, int]:
    """Return how many nodes the plan drops and how many it rewrites. A new mtime alone rewrites nothing."""
    dropped = rewritten = 0
    for change in plan.publish.changes:
        if isinstance(change.op, Drop):
            dropped += len(change.gone)
        elif isinstance(change.op, Put) and change.op.replaces and change.op.content.kind is not Kind.DIRECTORY:
            old = None if change.op.node is None else synced.rows.get(change.op.node)
            rewritten += old is None or old.content != change.op.content
    return dropped, rewritten


def _weigh(side: Side, deleted: int, rewritten: int, total: int, policy: Policy) -> Held | None:
    for count, why in ((deleted, Why.MASS_DELETION), (rewritten, Why.MASS_REWRITE)):
        if count > policy.changes_min and count > total * policy.share_max:
            return Held(side, why, count, total)
    return None
