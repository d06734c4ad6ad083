"""Keeps every directory's table of faces equal to what the nodes' faces are.

Invariant: after `settle`, a face stands in the table of its parent exactly if its node shows it, and a directory shows
itself exactly if it has a live version or something in its table.
"""

from __future__ import annotations

from collections.abc import Iterable

from meshsync.ids import ROOT, NodeId
from meshsync.sync.faces import Context, build_faces
from meshsync.sync.listing import Listing
from meshsync.sync.node import DIRECTORY, Face, Node


class Tables:
    """Applies changes of nodes to the tables, and tells which nodes may now show otherwise."""

    def __init__(
        self, nodes: dict[NodeId, Node], copies: dict[NodeId, NodeId], context: Context, listing: Listing
    ) -> None:
        self._nodes = nodes
        self._copies = copies
        self._context = context
        self._listing = listing
        self._queue: dict[NodeId, None] = {}
        self._touched: dict[tuple[NodeId, bytes], set[NodeId]] = {}  # place → directories that came or went there

    def add(self, node: NodeId) -> None:
        """Note that `node` has to be looked at."""
        self._queue[node] = None

    def settle(self) -> set[NodeId]:
        """Look at all noted nodes; return the nodes whose faces, or whose names in their directory, may differ."""
        changed: set[NodeId] = set()
        while self._queue:
            first = next(iter(self._queue))
            del self._queue[first]
            node = self._nodes.get(first)
            if node is not None and node.id != ROOT:
                self._refresh(node, changed)
        for (parent, name), moved in self._touched.items():
            self._mark(self._listing.group(parent, name), moved, changed)
        self._touched.clear()
        return changed

    def _refresh(self, node: Node, changed: set[NodeId]) -> None:
        old, new = node.faces, build_faces(node, self._context)
        if len(old) == len(new) and all(a.same(b) for a, b in zip(old, new, strict=True)):
            return
        self._listing.forget()
        for face in old:
            self._remove(face, node.id)
        node.faces = new
        for face in new:
            self._insert(face, node.id)
        for face in (*old, *new):
            changed.add(face.node)
            self._touched.setdefault((face.parent, face.name), set())
        places = [{(f.parent, f.name) for f in faces if f.content == DIRECTORY} for faces in (old, new)]
        for place in places[0] ^ places[1]:
            self._touched[place].add(node.id)

    def _insert(self, face: Face, owner: NodeId) -> None:
        if face.node != owner:
            self._copies[face.node] = owner
        parent = self._nodes[face.parent]
        if not parent.table:
            self._queue[parent.id] = None
        parent.table[face.name] = (*parent.table.get(face.name, ()), face)

    def _remove(self, face: Face, owner: NodeId) -> None:
        if self._copies.get(face.node) == owner:
            del self._copies[face.node]
        parent = self._nodes[face.parent]
        rest = tuple(other for other in parent.table[face.name] if other is not face)
        if rest:
            parent.table[face.name] = rest
        else:
            del parent.table[face.name]
        if not parent.table:
            self._queue[parent.id] = None

    def _mark(self, group: list[Face], moved: set[NodeId], changed: set[NodeId]) -> None:
        """Nodes of one name may swap names; directories that begin or cease to be one change the names below them."""
        changed.update(face.node for face in group)
        here = {face.node for face in group if face.content == DIRECTORY}
        if (moved - here and here) or (moved and len(here) > 1):
            self._mark_below(here | moved, changed)

    def _mark_below(self, directories: Iterable[NodeId], changed: set[NodeId]) -> None:
        pending = list(directories)
        while pending:
            for faces in self._nodes[pending.pop()].table.values():
                for face in faces:
                    changed.add(face.node)
                    if face.content == DIRECTORY:
                        pending.append(face.node)
