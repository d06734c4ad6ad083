"""Where directories are: moves in the order of their stamps, one that would make a cycle skipped.

Invariant: after every call the tree is what replaying all moves in stamp order gives, so the order of arrival does not
matter, and following parents from any directory ends at the root.
Source: Kleppmann, Mulligan, Gomes, Beresford, "A highly-available move operation for replicated trees", IEEE TPDS 2022.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator

from meshsync.ids import ROOT, NodeId
from meshsync.sync.node import Node, Placement

Lookup = Callable[[NodeId], Node]
Resolve = Callable[[Placement], Placement]


class _Move:
    """One move in the log. `before` is what it replaced in the tree, None while it is skipped or undone."""

    __slots__ = ("before", "node", "placement")

    def __init__(self, node: Node, placement: Placement) -> None:
        self.node = node
        self.placement = placement
        self.before: Placement | None = None


class MoveLog:
    """The moves of all directories since genesis. `resolve` gives a placement whose parent is a known directory."""

    def __init__(self, node: Lookup, resolve: Resolve) -> None:
        self._node = node
        self._resolve = resolve
        self._moves: list[_Move] = []

    def insert(self, node: Node, placement: Placement) -> Iterator[Node]:
        """Take one move of the directory `node`; yield the nodes whose place may have changed."""
        at = bisect.bisect(self._moves, placement.stamp, key=lambda move: move.placement.stamp)
        later = self._moves[at:]
        self._undo(later)
        move = _Move(node, placement)
        self._moves.insert(at, move)
        self._redo([move, *later])
        yield node
        yield from (move.node for move in later)

    def replay(self, change: Callable[[], None]) -> Iterator[Node]:
        """Undo all moves, call `change`, which may set where directories start, and redo them; yield moved nodes."""
        self._undo(self._moves)
        change()
        self._redo(self._moves)
        yield from (move.node for move in self._moves)

    def _undo(self, moves: list[_Move]) -> None:
        for move in reversed(moves):
            if move.before is not None:
                move.node.tree, move.before = move.before, None

    def _redo(self, moves: list[_Move]) -> None:
        for move in moves:
            target = self._resolve(move.placement)
            if not self._is_below(target.parent, move.node.id):
                move.before, move.node.tree = move.node.tree, target

    def _is_below(self, node: NodeId, top: NodeId) -> bool:
        while node != ROOT:
            if node == top:
                return True
            tree = self._node(node).tree
            assert tree is not None, "a parent in the tree is a directory"
            node = tree.parent
        return False
