"""The disk as it will be while a plan is carried out: where each object is before the next action.

Invariant: follows every action that is planned, so a path given to an action is right when its turn comes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from meshsync.content.record import Kind
from meshsync.ids import ROOT, NodeId
from meshsync.sync.actions import InParked, Parked, Place
from meshsync.sync.disk_rows import Path, Stat, parked_id
from meshsync.sync.local_tree import LocalTree
from meshsync.sync.synced_tree import Group, SyncedTree, directories


class Unit:
    """One object on disk: the rows of one path, or what the plan makes. `parked` if it is out of the tree.

    `origin` is the path at which a scan saw it, None for what the plan makes or what was parked.
    """

    __slots__ = (
        "blocked",
        "children",
        "claimed",
        "kind",
        "name",
        "node",
        "nodes",
        "origin",
        "parent",
        "parked",
        "rows",
        "stat",
    )

    def __init__(
        self, node: NodeId, parent: Unit | None, name: bytes, kind: Kind, rows: Group, stat: Stat | None
    ) -> None:
        self.node = node
        self.parent = parent
        self.name = name
        self.kind = kind
        self.rows = rows
        self.stat = stat
        self.nodes = directories(rows)
        self.children: dict[bytes, Unit | None] = {}  # what the plan changed; the rest is as synced
        self.parked: Parked | None = None
        self.origin: Path | None = None
        self.blocked = False
        self.claimed = False


class DiskPlan:
    """Units by node, loaded as they are asked for. `waiting` nodes, and all beneath them, must not be acted upon."""

    def __init__(self, synced: SyncedTree, local: LocalTree, waiting: Collection[NodeId]) -> None:
        self._synced = synced
        self._local = local
        self._waiting = waiting
        self._units: dict[NodeId, Unit] = {}
        self.root = Unit(ROOT, None, b"", Kind.DIRECTORY, (), None)
        self.root.nodes = (ROOT,)
        self.root.origin = ()
        parked = synced.parked()
        self._parks = max(parked, default=-1) + 1
        for number, nodes in parked.items():
            self._load_parked(Parked(number), nodes)

    def unit(self, node: NodeId) -> Unit | None:
        """Return the object that holds `node`, None if none does."""
        chain: list[NodeId] = []
        while node != ROOT and node not in self._units:
            row = self._synced.rows.get(node)
            if row is None or len(chain) > len(self._synced.rows):
                return None
            chain.append(node)
            node = row.parent
        unit = self.root if node == ROOT else self._units[node]
        for below in reversed(chain):
            unit = self._load(unit, below)
        return unit

    def add(self, parent: Unit, name: bytes, kind: Kind, nodes: Collection[NodeId]) -> Unit:
        """Return a new object at a free name."""
        unit = Unit(next(iter(nodes)), parent, name, kind, (), None)
        unit.claimed = True
        parent.children[name] = unit
        self.claim(unit, nodes)
        return unit

    def claim(self, unit: Unit, nodes: Collection[NodeId]) -> None:
        """From now on `unit` holds `nodes`, the first of which names it as a parent."""
        unit.node = next(iter(nodes), unit.node)
        for node in nodes:
            self._units[node] = unit

    def at(self, parent: Unit, name: bytes) -> Unit | None:
        """Return what is called `name` in `parent`, None for nothing that is known."""
        if name in parent.children:
            return parent.children[name]
        rows = self._synced.child(parent.nodes, name)
        return self._load(parent, rows[0].node) if rows else None

    def is_free(self, parent: Unit, name: bytes) -> bool:
        """Tell whether nothing unknown lies there: neither new to this device nor unobserved.

        What lay in `parent` lay where it was when it was seen, wherever this plan has moved it.
        """
        if parent.origin is None or name in parent.children:
            return True
        path = (*parent.origin, name)
        return self._local.at(path) is None and self._local.is_observed(path)

    def is_obstructed(self, parent: Unit, name: bytes) -> bool:
        """Tell whether what keeps the place from being free was observed there: it is new to this device."""
        return parent.origin is not None and self._local.at((*parent.origin, name)) is not None

    def place(self, unit: Unit) -> Place:
        """Return where `unit` is now."""
        names: list[bytes] = []
        at: Unit | None = unit
        while at is not None and at is not self.root:
            if at.parked is not None:
                return InParked(at.parked, tuple(reversed(names))) if names else at.parked
            names.append(at.name)
            at = at.parent
        return tuple(reversed(names))

    def is_below(self, unit: Unit, top: Unit) -> bool:
        """Tell whether `unit` lies in `top`."""
        at = unit.parent
        while at is not None:
            if at is top:
                return True
            at = at.parent
        return False

    def move(self, unit: Unit, parent: Unit, name: bytes) -> None:
        """`unit` went to a name that is free, or whose object is gone."""
        self.take(unit)
        unit.parent, unit.name = parent, name
        parent.children[name] = unit

    def take(self, unit: Unit) -> None:
        """`unit` left its place."""
        if unit.parked is None and unit.parent is not None:
            unit.parent.children[unit.name] = None
        unit.parked = None

    def park(self, unit: Unit) -> Parked:
        """`unit` went, or came into being, out of the tree."""
        self.take(unit)
        unit.parked, unit.parent = Parked(self._parks), None
        self._parks += 1
        return unit.parked

    def exchange(self, unit: Unit, other: Unit) -> None:
        """Both changed places; `other` is in the tree."""
        parked, parent, name = unit.parked, unit.parent, unit.name
        assert other.parent is not None and other.parked is None
        unit.parked, unit.parent, unit.name = None, other.parent, other.name
        unit.parent.children[unit.name] = unit
        other.parked, other.parent, other.name = parked, parent, name
        if parked is None and parent is not None:
            parent.children[name] = other

    def children(self, unit: Unit) -> Iterator[Unit]:
        """Yield what is known to lie in `unit` now."""
        for name in {**dict.fromkeys(self._synced.names(unit.nodes)), **unit.children}:
            child = self.at(unit, name)
            if child is not None:
                yield child

    def parent_id(self, unit: Unit) -> NodeId:
        """Return the parent that a row of `unit` has where it is now."""
        if unit.parked is not None:
            return parked_id(unit.parked.number)
        assert unit.parent is not None
        return unit.parent.node

    def _load_parked(self, parked: Parked, nodes: list[NodeId]) -> None:
        rows = tuple(sorted((self._synced.rows[node] for node in nodes), key=lambda row: (row.order, row.node)))
        unit = Unit(rows[0].node, None, rows[0].name, rows[0].kind, rows, rows[0].stat)
        unit.parked = parked
        unit.blocked = any(row.node in self._waiting for row in rows)
        self.claim(unit, nodes)

    def _load(self, parent: Unit, node: NodeId) -> Unit:
        found = self._units.get(node)
        if found is not None:
            return found
        row = self._synced.rows[node]
        # A directory that this plan gave to other nodes does not answer to the row's parent any more.
        rows = self._synced.child(parent.nodes, row.name) or (row,)
        path = self._synced.path_of(node)
        seen = None if path is None else self._local.at(path)
        unit = Unit(rows[0].node, parent, row.name, row.kind, rows, row.stat if seen is None else seen.stat)
        unit.origin = path
        unit.blocked = parent.blocked or any(each.node in self._waiting for each in rows)
        self.claim(unit, [each.node for each in rows])
        return unit
