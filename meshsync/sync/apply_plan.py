"""Which actions bring the disk to the view, and in what order.

Invariant: a path that exists before and after the plan exists at every moment between its actions; nothing is removed
without a witness (`semantics.md` 4.5), and nothing of a waiting node is touched. Cycles of names are undone by
exchanges; what cannot be exchanged in place is parked in the control directory.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from meshsync.content.record import Kind
from meshsync.ids import ROOT, NodeId
from meshsync.sync.actions import Action, MakeDirectory, MakeLink, Move, Place, Remove, SetAttr, WriteFile
from meshsync.sync.disk_plan import DiskPlan, Unit
from meshsync.sync.disk_rows import Path, Stat, SyncedRow
from meshsync.sync.listing import Shown
from meshsync.sync.local_tree import LocalTree
from meshsync.sync.settle import is_removed, synced_row
from meshsync.sync.sources import keep_sources
from meshsync.sync.synced_tree import SyncedTree
from meshsync.sync.view import View
from meshsync.sync.worklist import Worklist


@dataclass(slots=True)
class Applied:
    """Actions in order; rows that are true already, and nodes whose rows are gone already, without any action.

    `undone` are nodes that are shown, or to be removed, and cannot be now; `obstructed` are those of them in whose
    place, or in which, lies something that is new to this device.
    """

    actions: list[Action] = field(default_factory=list)
    settled: list[SyncedRow] = field(default_factory=list)
    forgotten: list[NodeId] = field(default_factory=list)
    undone: set[NodeId] = field(default_factory=set)
    obstructed: set[NodeId] = field(default_factory=set)


def plan_apply(
    synced: SyncedTree,
    local: LocalTree,
    view: View,
    waiting: Collection[NodeId],
    nodes: Collection[NodeId] | None,
) -> Applied:
    """Return what to do for `nodes` and what they depend on, or for all nodes if None."""
    work = Worklist(synced, view)
    if nodes is None:
        work.add_all()
    else:
        work.add(nodes)
    return _Planner(synced, local, view, waiting, work).run()


class _Planner:
    def __init__(
        self, synced: SyncedTree, local: LocalTree, view: View, waiting: Collection[NodeId], work: Worklist
    ) -> None:
        self._view = view
        self._synced = synced
        self._local = local
        self._waiting = waiting
        self._disk = DiskPlan(synced, local, waiting)
        self._work = work
        self._out = Applied()
        self._sources: dict[NodeId, Unit] = {}  # first node of what is shown → the object that becomes it
        self._displaced: dict[int, int] = {}  # object that an exchange moved → index of that action

    def run(self) -> Applied:
        for node in self._work.nodes:  # where everything is before anything moves
            self._disk.unit(node)
        shown = sorted(self._work.shown.values(), key=lambda item: (len(item[0]), item[0]))
        self._assign(shown)
        # A copy first: what it is made from is about to be replaced.
        shown.sort(key=lambda item: (len(item[0]), self._lies_at(item[1]) is None, item[0]))
        for path, each in shown:
            if not self._bring_about(path, each):
                self._out.undone.update(each.nodes)
        self._remove()
        self._out.actions = keep_sources(self._out.actions, self._synced)
        return self._out

    # --- which object becomes what ---------------------------------------------------------------------------

    def _assign(self, items: list[tuple[Path, Shown]]) -> None:
        """First what is in its place already, then whatever else holds one of the nodes."""
        for in_place in (True, False):
            for _, shown in items:
                if shown.face.node in self._sources:
                    continue
                for node in shown.nodes:
                    unit = self._disk.unit(node)
                    if unit is None or unit.claimed or (in_place and not self._is_in_place(unit, shown)):
                        continue
                    unit.claimed = True
                    self._sources[shown.face.node] = unit
                    break

    def _is_in_place(self, unit: Unit, shown: Shown) -> bool:
        return unit.name == shown.name and unit.parent is self._parent(shown)

    def _parent(self, shown: Shown) -> Unit | None:
        """Return the object that the shown thing's directory is, None while there is none."""
        parent = shown.face.parent
        if parent == ROOT:
            return self._disk.root
        above = self._view.shown(parent)
        assert above is not None
        source = self._sources.get(above.face.node)
        if source is not None:
            return source
        for node in above.nodes:
            unit = self._disk.unit(node)
            if unit is not None:
                return unit
        return None

    def _lies_at(self, shown: Shown) -> Place | None:
        """Return where the content of a conflict copy lies that is not on this disk as a file of its own."""
        if shown.face.copy_of is None or shown.kind is not Kind.FILE or shown.face.node in self._sources:
            return None
        unit = self._disk.unit(shown.face.copy_of)
        if unit is None or not unit.rows or unit.rows[0].content != shown.content:
            return None
        return self._disk.place(unit)

    # --- one shown thing -------------------------------------------------------------------------------------

    def _bring_about(self, path: Path, shown: Shown) -> bool:
        """Plan what makes `shown` true; False, with nothing planned, if it has to wait."""
        parent, source = self._parent(shown), self._sources.get(shown.face.node)
        if any(node in self._waiting for node in shown.nodes) or parent is None or parent.blocked:
            return False
        if source is not None and source.blocked:
            return False
        occupant = self._disk.at(parent, shown.name)
        if occupant is None and not self._disk.is_free(parent, shown.name):
            if self._disk.is_obstructed(parent, shown.name):
                self._out.obstructed.update(shown.nodes)
            return False
        if occupant is source:
            occupant = None
        if occupant is not None and occupant.blocked:
            return False
        if source is None:
            source = self._make(shown, parent, occupant)
            self._sources[shown.face.node] = source
        else:
            self._change(shown, parent, source, occupant)
        self._disk.claim(source, [row.node for row in self._rows(shown, source)])
        return True

    def _make(self, shown: Shown, parent: Unit, occupant: Unit | None) -> Unit:
        if occupant is None or self._is_replaceable(occupant, shown.kind):
            expected, gone = (None, ()) if occupant is None else (occupant.stat, self._end(occupant))
            unit = self._disk.add(parent, shown.name, shown.kind, shown.nodes)
            self._write(shown, self._disk.place(unit), expected, self._rows(shown, None), gone)
            return unit
        unit = Unit(shown.face.node, None, shown.name, shown.kind, (), None)
        unit.claimed = True
        parked = self._disk.park(unit)
        self._write(shown, parked, None, (), ())
        self._exchange(shown, unit, occupant, self._rows(shown, None))
        return unit

    def _change(self, shown: Shown, parent: Unit, source: Unit, occupant: Unit | None) -> None:
        rows = self._rows(shown, source)
        has_other_content = source.rows[0].content != shown.content
        is_other_time = shown.kind is Kind.FILE and source.rows[0].mtime_ns != shown.face.mtime_ns
        is_other_bit = shown.kind is Kind.FILE and source.rows[0].executable != shown.executable
        changes = has_other_content or is_other_time or is_other_bit
        moved = source.parent is not parent or source.name != shown.name
        if moved:
            self._move(shown, parent, source, occupant, self._moved_rows(rows, source) if changes else rows)
        place = self._disk.place(source)
        if has_other_content:
            # What comes is another object: the stat of this one would make its mtime look like a change of the user's.
            self._write(shown, place, source.stat, tuple(replace(row, stat=None) for row in rows), ())
        elif changes:
            mtime_ns = shown.face.mtime_ns if is_other_time else None
            self._out.actions.append(SetAttr(shown.face.node, place, shown.executable, mtime_ns, source.stat, rows))
        elif not moved:
            self._note(source, rows)
        self._forget({row.node for row in source.rows} - set(shown.nodes), rows)

    def _forget(self, nodes: set[NodeId], rows: tuple[SyncedRow, ...]) -> None:
        """Those of `nodes` that are shown no more leave the object to the first of `rows`, with what lies in it.

        That may be what waits, as a removal that is held: without its directory's row its own would name nothing. They
        stay where no row is left to take it over.
        """
        gone = sorted(node for node in nodes if self._view.face(node) is None)
        if not rows:
            self._out.forgotten += [node for node in gone if not self._synced.names((node,))]
            return
        heir = rows[0].node
        self._out.forgotten += gone
        for node in gone:
            for name in self._synced.names((node,)):
                below = self._synced.child((node,), name)
                self._out.settled += [replace(row, parent=heir) for row in below if row.node != heir]

    def _note(self, source: Unit, rows: tuple[SyncedRow, ...]) -> None:
        """`rows` are true once what was planned so far is done: at once, or with the exchange that moved `source`."""
        at = self._displaced.get(id(source))
        if at is None:
            self._out.settled += [row for row in rows if self._synced.rows.get(row.node) != row]
            return
        nodes = {row.node for row in rows}
        action = self._out.actions[at]
        assert isinstance(action, Move)
        others = tuple(row for row in action.rows if row.node not in nodes)
        self._out.actions[at] = replace(action, rows=(*others, *rows))

    def _move(
        self, shown: Shown, parent: Unit, source: Unit, occupant: Unit | None, rows: tuple[SyncedRow, ...]
    ) -> None:
        if occupant is not None and not self._is_replaceable(occupant, source.kind):
            if self._disk.is_below(source, occupant):
                before = self._disk.place(source)
                parked = self._disk.park(source)
                self._add_move(shown, before, parked, source.stat, None, self._misplaced_rows(source))
            self._exchange(shown, source, occupant, rows)
            return
        replaced, gone = (None, ()) if occupant is None else (occupant.stat, self._end(occupant))
        before = self._disk.place(source)
        self._disk.move(source, parent, shown.name)
        self._add_move(shown, before, self._disk.place(source), source.stat, replaced, rows, gone)

    def _exchange(self, shown: Shown, unit: Unit, occupant: Unit, rows: tuple[SyncedRow, ...]) -> None:
        before, target = self._disk.place(unit), self._disk.place(occupant)
        self._disk.exchange(unit, occupant)
        rows += self._misplaced_rows(occupant)
        self._displaced[id(occupant)] = len(self._out.actions)
        action = Move(shown.face.node, before, target, True, unit.stat, occupant.stat, rows)
        self._out.actions.append(action)

    def _add_move(
        self,
        shown: Shown,
        source: Place,
        target: Place,
        expected: Stat | None,
        replaced: Stat | None,
        rows: tuple[SyncedRow, ...],
        gone: tuple[NodeId, ...] = (),
    ) -> None:
        self._out.actions.append(Move(shown.face.node, source, target, False, expected, replaced, rows, gone))

    def _write(
        self,
        shown: Shown,
        target: Place,
        expected: Stat | None,
        rows: tuple[SyncedRow, ...],
        gone: tuple[NodeId, ...],
    ) -> None:
        face, lies_at = shown.face, self._lies_at(shown)
        if shown.kind is Kind.DIRECTORY:
            self._out.actions.append(MakeDirectory(face.node, target, rows))
            return
        version = face.version
        assert version is not None
        if shown.kind is Kind.LINK:
            link = MakeLink(face.node, target, shown.content, version, face.mtime_ns, expected, rows, gone)
            self._out.actions.append(link)
            return
        self._out.actions.append(
            WriteFile(
                face.node,
                target,
                shown.content,
                version,
                shown.executable,
                face.mtime_ns,
                expected,
                rows,
                gone,
                lies_at,
            )
        )

    def _rows(self, shown: Shown, source: Unit | None) -> tuple[SyncedRow, ...]:
        rows = [
            self._located(synced_row(shown, node, order), self._parent(shown))
            for order, node in enumerate(shown.nodes)
            if (unit := self._disk.unit(node)) is None or unit.claimed  # else it comes when its own object goes
        ]
        if source is None or not source.rows:
            return tuple(rows)
        old = source.rows[0]
        is_left = shown.kind is not Kind.FILE and old.content == shown.content  # the mtime is set at creation only
        return tuple(replace(row, stat=source.stat, mtime_ns=old.mtime_ns if is_left else row.mtime_ns) for row in rows)

    def _located(self, row: SyncedRow, parent: Unit | None) -> SyncedRow:
        """Name a directory that is on disk where the object is: the row of its own one may not have moved there yet."""
        if parent is None or self._disk.unit(row.parent) is parent:
            return row
        return replace(row, parent=parent.node)

    def _misplaced_rows(self, unit: Unit) -> tuple[SyncedRow, ...]:
        """The rows of what is for a while where it does not belong, so that an interrupted plan can be taken up."""
        parent, stat = self._disk.parent_id(unit), unit.stat
        return tuple(
            replace(row, parent=parent, name=unit.name, natural=unit.name, stat=stat)
            for row in unit.rows
            if self._disk.unit(row.node) is unit
        )

    def _moved_rows(self, rows: tuple[SyncedRow, ...], source: Unit) -> tuple[SyncedRow, ...]:
        """The rows between a move and the write that follows: new places, old contents."""
        old = {row.node: row for row in source.rows}
        return tuple(
            replace(
                row,
                versions=old[row.node].versions,
                content=old[row.node].content,
                executable=old[row.node].executable,
                mtime_ns=old[row.node].mtime_ns,
                stat=source.stat,
            )
            for row in rows
            if row.node in old
        )

    # --- removal ---------------------------------------------------------------------------------------------

    def _is_replaceable(self, occupant: Unit, kind: Kind) -> bool:
        """Tell whether a rename onto `occupant` may end it."""
        if occupant.claimed or Kind.DIRECTORY in (occupant.kind, kind):
            return False
        return all(self._view.face(row.node) is None and is_removed(row, self._view) for row in occupant.rows)

    def _end(self, occupant: Unit) -> tuple[NodeId, ...]:
        occupant.claimed = True
        return tuple(row.node for row in occupant.rows)

    def _remove(self) -> None:
        """What became nothing goes last, from the bottom up."""
        units: dict[int, Unit] = {}
        for node in self._work.nodes:
            unit = self._disk.unit(node)
            if unit is not None and not unit.claimed and unit.rows:
                units[id(unit)] = unit
        for unit in sorted(units.values(), key=self._depth, reverse=True):
            if not all(map(self._may_go, unit.rows)):
                continue
            if unit.blocked or self._holds_anything(unit):
                self._leave(unit)
                continue
            target = self._disk.place(unit)
            here = [row.node for row in unit.rows if self._disk.unit(row.node) is unit]
            gone = tuple(node for node in here if self._view.face(node) is None)
            rows = tuple(self._elsewhere(node) for node in here if node not in gone)
            self._disk.take(unit)
            self._out.actions.append(Remove(unit.rows[0].node, target, unit.kind, unit.stat, rows, gone))

    def _leave(self, unit: Unit) -> None:
        """What is to go and cannot now is planned again: with what it waits for, or once that is out of it."""
        nodes = [row.node for row in unit.rows]
        self._out.undone.update(nodes)
        if not unit.blocked and not any(child.blocked for child in self._disk.children(unit)):
            self._out.obstructed.update(nodes)

    def _elsewhere(self, node: NodeId) -> SyncedRow:
        """The row of a node that is shown as one with another object."""
        shown = self._view.shown(node)
        assert shown is not None
        unit = self._sources.get(shown.face.node) or self._disk.unit(shown.face.node)
        row = self._located(synced_row(shown, node, shown.nodes.index(node)), self._parent(shown))
        return replace(row, stat=None if unit is None else unit.stat)

    def _may_go(self, row: SyncedRow) -> bool:
        if self._view.face(row.node) is not None:  # it is shown as one with something else that is on disk
            return row.node not in self._out.undone
        return is_removed(row, self._view)

    def _holds_anything(self, unit: Unit) -> bool:
        if unit.kind is not Kind.DIRECTORY:
            return False
        if any(True for _ in self._disk.children(unit)):
            return True
        path = self._synced.path_of(unit.rows[0].node)
        return path is not None and any(not self._synced.at((*path, name)) for name in self._local.names(path))

    def _depth(self, unit: Unit) -> int:
        depth, at = 0, unit
        while at.parent is not None:
            depth, at = depth + 1, at.parent
        return depth
