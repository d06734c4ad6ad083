"""The nodes that one apply plan has to consider: those that changed, and those that they push or pull.

Invariant: closed: whatever stands where a considered thing is to go, shares its path, or is its missing directory is
considered too.
"""

from __future__ import annotations

from collections.abc import Iterable

from meshsync.content.record import Kind
from meshsync.ids import ROOT, NodeId
from meshsync.sync.disk_rows import Path
from meshsync.sync.listing import Shown
from meshsync.sync.synced_tree import Group, SyncedTree
from meshsync.sync.view import View


class Worklist:
    """`nodes` are all considered nodes; `shown` what of them is shown, by first node, with its path."""

    def __init__(self, synced: SyncedTree, view: View) -> None:
        self._synced = synced
        self._view = view
        self.nodes: dict[NodeId, None] = {}
        self.shown: dict[NodeId, tuple[Path, Shown]] = {}

    def add_all(self) -> None:
        """Consider everything that differs between the view and the disk."""
        differing: list[NodeId] = [node for node in self._synced.rows if self._view.face(node) is None]
        for _, shown in self._view.walk():
            if not self._is_done(shown):
                differing += shown.nodes
        self._close(differing)

    def add(self, nodes: Iterable[NodeId]) -> None:
        """Consider those of `nodes` that differ between the view and the disk, and what they lead to."""
        above: dict[NodeId, tuple[NodeId, ...]] = {}  # parent → all that it is shown as one with: siblings share it
        self._close([node for node in nodes if self._differs(node, above)])

    def _differs(self, node: NodeId, above: dict[NodeId, tuple[NodeId, ...]]) -> bool:
        face = self._view.face(node)
        if face is None:
            return True
        parents = above.get(face.parent)
        if parents is None:
            parents = above[face.parent] = self._view.merged(face.parent)
        return not self._is_done(self._view.shown_in(parents, face))

    def _close(self, nodes: Iterable[NodeId]) -> None:
        pending = list(nodes)
        while pending:
            node = pending.pop()
            if node in self.nodes or node == ROOT:
                continue
            self.nodes[node] = None
            group = self._synced.group(node)
            pending += [row.node for row in group]
            shown = self._view.shown(node)
            if shown is None:
                pending += self._in_it(group)
                continue
            pending += shown.nodes
            if shown.face.node not in self.shown:
                pending += self._lead_to(shown, tuple(row.node for row in group))

    def _in_it(self, group: Group) -> list[NodeId]:
        """A directory that is to go cannot before what lies in it: an earlier plan for that may be given up with it."""
        directory = tuple(row.node for row in group if row.kind is Kind.DIRECTORY)
        return [row.node for name in self._synced.names(directory) for row in self._synced.child(directory, name)]

    def _lead_to(self, shown: Shown, group: tuple[NodeId, ...]) -> list[NodeId]:
        path = self._view.path_of(shown.face.node)
        assert path is not None
        self.shown[shown.face.node] = path, shown
        above = self._view.merged(shown.face.parent)
        found = [row.node for row in self._synced.child(above, shown.name)]
        if shown.face.parent != ROOT and not any(node in self._synced.rows for node in above):
            found.append(shown.face.parent)
        if shown.kind is Kind.DIRECTORY and set(group) != set(shown.nodes):
            found += self._below(shown, group)
        return found

    def _below(self, shown: Shown, group: tuple[NodeId, ...]) -> list[NodeId]:
        """A directory that is new on disk, or begins or ceases to be one with others: all in it may have to move."""
        found = [node for child in self._view.shown_children(shown.face.node).values() for node in child.nodes]
        for name in self._synced.names(group):
            found += [row.node for row in self._synced.child(group, name)]
        return found

    def _is_done(self, shown: Shown) -> bool:
        for order, face in enumerate(shown.faces):
            row = self._synced.rows.get(face.node)
            if (
                row is None
                or row.order != order
                or row.parent != face.parent
                or row.name != shown.name
                or row.natural != face.name
                or row.placement != face.placement
                or row.versions != face.versions
                or row.copy_of != face.copy_of
                or row.content != shown.content
                or row.executable != shown.executable
                or (shown.kind is Kind.FILE and row.mtime_ns != shown.face.mtime_ns)
            ):
                return False
        return True
