"""What a device that may not write leaves out of the log: its user's changes stay on its disk, and hold nothing up.

Invariant: pure. What stands in the way of what others did is named here, and moved out of it by the agent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from meshsync.content.record import Drop, Kind, Mark, Op, Place, Put
from meshsync.ids import NodeId
from meshsync.sync.disk_rows import Path
from meshsync.sync.draft import Draft
from meshsync.sync.reconcile import NOTHING_FROZEN, Frozen, Plan
from meshsync.sync.settle import is_removed
from meshsync.sync.synced_tree import SyncedTree
from meshsync.sync.view import View


@dataclass(frozen=True, slots=True)
class Unpublished:
    """Changes that nobody is told of: where they are, and what a plan leaves out for them."""

    paths: frozenset[Path]
    frozen: Frozen


def without_publishing(
    reconciled: Callable[[Frozen], Plan], frozen: Frozen, synced: SyncedTree
) -> tuple[Plan, Unpublished]:
    """Return the plan that publishes nothing and touches nothing of its user's, and what it left out."""
    own, paths = NOTHING_FROZEN, frozenset[Path]()
    while True:
        plan = reconciled(frozen | own)
        if not plan.publish:
            return plan, Unpublished(paths, own)
        more = own | _changed(plan.publish, synced)
        assert more != own, "what may not be published is planned all the same"
        own, paths = more, paths | _where(plan.publish, synced)


def overtaken(own: Frozen, synced: SyncedTree, view: View) -> list[NodeId]:
    """Return the nodes changed here that others have changed or removed since."""
    found = []
    for node in sorted(own.unseen):
        row, face = synced.rows.get(node), view.face(node)
        if row is None:
            continue
        if face is None:
            if is_removed(row, view):
                found.append(node)
        elif (face.versions, face.parent, face.name, face.executable) != (
            row.versions,
            row.parent,
            row.natural,
            row.executable if row.kind is Kind.FILE else face.executable,  # an attribute has no version
        ):
            found.append(node)
    return found


def _changed(draft: Draft, synced: SyncedTree) -> Frozen:
    paths = {change.op.path for change in draft.changes if isinstance(change.op, Put | Place) and change.op.path}
    nodes = {node for change in draft.changes for node in (*_nodes(change.op), *change.gone) if node in synced.rows}
    return Frozen(frozenset(paths), frozenset(nodes))


def _where(draft: Draft, synced: SyncedTree) -> frozenset[Path]:
    """Return one path for each change: of what went, of its topmost directory only."""
    paths: set[Path] = set()
    for change in draft.changes:
        if isinstance(change.op, Put | Place):
            paths.add(change.op.path)
        else:
            at = synced.path_of(next(iter(_nodes(change.op))))
            if at:
                paths.add(at)
    return frozenset(paths)


def _nodes(op: Op) -> Collection[NodeId]:
    if isinstance(op, Drop):
        return [item.node for item in op.items]
    return [] if isinstance(op, Mark) or op.node is None else [op.node]
