"""Where the content of a planned write lies on this disk, if the same plan takes it away from there.

It may lie nowhere else in the world: a version that was overwritten comes back when what overwrote it is dropped, and
then lies in its conflict copy only, which ends with that. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from meshsync.content.record import Content, Kind
from meshsync.sync.actions import Action, Move, Place, Remove, WriteFile, gone_by
from meshsync.sync.synced_tree import SyncedTree


def keep_sources(actions: Sequence[Action], synced: SyncedTree) -> list[Action]:
    """Return `actions` with `lies_at` set where another one of them takes away what a write needs."""
    taken: dict[Content, Place] = {}
    for action in actions:
        for content in _taken(action, synced):
            taken.setdefault(content, action.target)
    if not taken:
        return list(actions)
    return [_with_source(action, taken) for action in actions]


def _with_source(action: Action, taken: dict[Content, Place]) -> Action:
    if not isinstance(action, WriteFile) or action.lies_at is not None:
        return action
    source = taken.get(action.content)
    return action if source is None or source == action.target else replace(action, lies_at=source)


def _taken(action: Action, synced: SyncedTree) -> Iterator[Content]:
    """Yield the contents of files that `action` removes or overwrites."""
    nodes = set(gone_by(action))
    if isinstance(action, Remove) or (not isinstance(action, Move) and getattr(action, "expected", None) is not None):
        nodes.add(action.node)
    for node in nodes:
        row = synced.rows.get(node)
        if row is not None and row.kind is Kind.FILE and row.content.size:
            yield row.content
