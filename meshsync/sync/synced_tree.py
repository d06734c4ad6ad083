"""The synced rows as a tree: by node, by path, and what operations have to name beside their node.

Invariant: every row stands under its parent's node and its name; rows of one path are found together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from meshsync.content.record import Kind
from meshsync.ids import ROOT, NodeId
from meshsync.sync.disk_rows import Path, SyncedRow, parked_number

Group = tuple[SyncedRow, ...]


class SyncedTree:
    """Mutable; the owner persists the rows. A row may be put before its parent's."""

    def __init__(self, rows: Iterable[SyncedRow] = ()) -> None:
        self.rows: dict[NodeId, SyncedRow] = {}
        self._children: dict[NodeId, dict[bytes, Group]] = {}
        self._copies: dict[NodeId, set[NodeId]] = {}  # node → rows of its untouched conflict copies
        self._derived: dict[NodeId, set[NodeId]] = {}  # parent → rows under derived names
        self._parked: set[NodeId] = set()
        for row in rows:
            self.put(row)

    def put(self, row: SyncedRow) -> None:
        """Add the row, or replace the node's."""
        self.remove(row.node)
        self.rows[row.node] = row
        names = self._children.setdefault(row.parent, {})
        names[row.name] = tuple(sorted((*names.get(row.name, ()), row), key=_order))
        if row.copy_of is not None:
            self._copies.setdefault(row.copy_of, set()).add(row.node)
        if row.name != row.natural:
            self._derived.setdefault(row.parent, set()).add(row.node)
        if parked_number(row.parent) is not None:
            self._parked.add(row.node)

    def remove(self, node: NodeId) -> None:
        """Forget the node's row, if there is one. Rows beneath it stay and have no path until it comes back."""
        row = self.rows.pop(node, None)
        if row is None:
            return
        names = self._children[row.parent]
        rest = tuple(other for other in names[row.name] if other.node != node)
        if rest:
            names[row.name] = rest
        else:
            del names[row.name]
            if not names:
                del self._children[row.parent]
        if row.copy_of is not None:
            self._copies[row.copy_of].discard(node)
        self._derived.get(row.parent, set()).discard(node)
        self._parked.discard(node)

    def group(self, node: NodeId) -> Group:
        """Return the rows that share the path of `node`, in order; () if it has no path."""
        path = self.path_of(node)
        return () if path is None else self.at(path)

    def path_of(self, node: NodeId) -> Path | None:
        """Return the path of `node`; None if it, or a directory above it, has no row."""
        names: list[bytes] = []
        while node != ROOT:
            row = self.rows.get(node)
            if row is None or len(names) > len(self.rows):
                return None
            names.append(row.name)
            node = row.parent
        return tuple(reversed(names))

    def at(self, path: Path) -> Group:
        """Return the rows at `path`, in order; () for nothing, and for the root."""
        parents: tuple[NodeId, ...] = (ROOT,)
        rows: Group = ()
        for name in path:
            rows = self.child(parents, name)
            parents = directories(rows)
        return rows

    def child(self, parents: Iterable[NodeId], name: bytes) -> Group:
        """Return the rows called `name` in the directory that the nodes `parents` are on disk."""
        found = [self._children[p][name] for p in parents if p in self._children and name in self._children[p]]
        if len(found) < 2:
            return found[0] if found else ()
        return tuple(sorted((row for rows in found for row in rows), key=_order))

    def names(self, parents: Iterable[NodeId]) -> list[bytes]:
        """Return the names in the directory that the nodes `parents` are on disk, sorted."""
        return sorted({name for parent in parents for name in self._children.get(parent, ())})

    def below(self, directories: Iterable[NodeId]) -> Iterator[SyncedRow]:
        """Yield the rows in the directory nodes and below them, whether these have rows themselves or not."""
        pending = list(directories)
        while pending:
            for rows in list(self._children.get(pending.pop(), {}).values()):
                yield from rows
                pending += [row.node for row in rows]

    def walk(self, top: Path = ()) -> Iterator[tuple[Path, Group]]:
        """Yield (path, rows) of everything at (unless it is the root) and below `top`, parents first."""
        rows = self.at(top)
        if top and not rows:
            return
        if top:
            yield top, rows
        pending: list[tuple[Path, tuple[NodeId, ...]]] = [(top, directories(rows) if top else (ROOT,))]
        while pending:
            at, parents = pending.pop()
            for name in self.names(parents):
                rows = self.child(parents, name)
                yield (*at, name), rows
                below = directories(rows)
                if below:
                    pending.append(((*at, name), below))

    def parked(self) -> dict[int, list[NodeId]]:
        """Return number → nodes of what an interrupted plan left out of the tree."""
        found: dict[int, list[NodeId]] = {}
        for node in self._parked:
            number = parked_number(self.rows[node].parent)
            assert number is not None
            found.setdefault(number, []).append(node)
        return found

    def copies_of(self, node: NodeId) -> list[SyncedRow]:
        """Return the rows of the untouched conflict copies of `node`, wherever they lie, in order of node."""
        return [self.rows[copy] for copy in sorted(self._copies.get(node, ()))]

    def derived_from(self, parents: Iterable[NodeId], natural: bytes) -> list[SyncedRow]:
        """Return the rows that want the name `natural` in a directory and lie there under a derived one."""
        rows = [self.rows[node] for parent in parents for node in sorted(self._derived.get(parent, ()))]
        return [row for row in rows if row.natural == natural and row.copy_of is None]


def directories(rows: Iterable[SyncedRow]) -> tuple[NodeId, ...]:
    """Return the nodes among `rows` that are directories."""
    return tuple(row.node for row in rows if row.kind is Kind.DIRECTORY)


def _order(row: SyncedRow) -> tuple[int, NodeId]:
    return row.order, row.node
