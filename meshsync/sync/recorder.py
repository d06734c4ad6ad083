"""From what a user did on disk to operations (`semantics.md` 2).

Invariant: an operation names versions and placements of synced rows only, so of nothing that was merely received.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from meshsync.content.record import Attr, Drop, Dropped, Keep, Kind, Place, Put
from meshsync.ids import ROOT, Dot, NodeId
from meshsync.limits import OP_CARRIES_MAX, SYNC_ITEMS_PER_DROP_MAX
from meshsync.sync.disk_rows import LocalRow, Path, SyncedRow
from meshsync.sync.draft import Draft
from meshsync.sync.match import Matched
from meshsync.sync.names import copy_id
from meshsync.sync.node import DIRECTORY, Face
from meshsync.sync.synced_tree import Group, SyncedTree

Kept = tuple[tuple[Keep, ...], tuple[SyncedRow, ...]]


class Recorder:
    """Writes operations into `draft`. `rows` are the synced rows as they will be once the draft is published."""

    def __init__(
        self, synced: SyncedTree, matched: Matched, covered_by: Callable[[NodeId, Dot], tuple[Dot, ...]]
    ) -> None:
        """`covered_by(node, version)`: what of `node` is hidden for nothing but its conflict copy `version`."""
        self.draft = Draft()
        self._covered_by = covered_by
        self._synced = synced
        self._matched = matched
        self._rows: dict[NodeId, SyncedRow] = {}  # rows changed by this draft
        self._gone: set[NodeId] = set()  # nodes that this draft drops
        self._made: dict[Path, NodeId] = {}  # path now → directory that this draft made or took from the view

    def create(self, row: LocalRow) -> None:
        """A path that nothing on this disk was before."""
        parent = self._directory(row.path[:-1])
        name = self.draft.next
        op = Put(None, row.content, row.executable, row.stat.mtime_ns, (), parent, row.path[-1], row.path)
        made = new_row(NodeId(name), (name,), name, parent, row)
        self._add(op, made)
        if row.kind is Kind.DIRECTORY:
            self._made[row.path] = made.node

    def adopt_directory(self, path: Path, node: NodeId) -> None:
        """The directory at `path` is the view's `node`: children are made in it."""
        self._made[path] = node

    def adopt(self, row: LocalRow, face: Face) -> None:
        """A joiner's file where the view shows `face`, equal to no version of it: a put that replaces nothing."""
        parent = self._directory(row.path[:-1])
        name = self.draft.next
        keeps: tuple[Keep, ...] = ()
        if face.copy_of is not None:
            keeps = (Keep(face.copy_of, face.versions[0], None, face.parent, row.path[-1]),)
        op = Put(face.node, row.content, row.executable, row.stat.mtime_ns, (), parent, row.path[-1], row.path, keeps)
        self._add(op, new_row(face.node, (name,), face.placement, parent, row))

    def edit(self, rows: Group, row: LocalRow) -> None:
        """The file of `rows` has new content or a new mtime: the first takes it, the others end."""
        self._revive_above(row.path)
        keeps, kept = self._keeps(rows, row.path, staying=True)
        first, *others = map(self._row, rows)
        name = self.draft.next
        op = Put(
            first.node,
            row.content,
            row.executable,
            row.stat.mtime_ns,
            first.versions,
            first.parent,
            row.path[-1],
            row.path,
            keeps,
        )
        self._add(op, *kept, new_row(first.node, (name,), first.placement, first.parent, row))
        self._end_covered((*rows, *self._copies_in(keeps)))
        if others:
            items = tuple(Dropped(other.node, other.versions, other.placement, -1) for other in others)
            self.draft.add(Drop(items), gone=tuple(other.node for other in others))

    def set_executable(self, rows: Group, row: LocalRow) -> None:
        self._revive_above(row.path)
        for old in map(self._row, rows):
            self._add(Attr(old.node, row.executable), replace(old, executable=row.executable, stat=row.stat))

    def move(self, rows: Group, before: Path, row: LocalRow) -> None:
        """What lay at `before` lies at `row.path` now."""
        above = self._matched.now.get(before[:-1]) if before[:-1] in self._matched.groups else before[:-1]
        if above is not None:
            self._revive_above((*above, before[-1]))
        parent = self._directory(row.path[:-1])
        keeps, kept = self._keeps(rows, before, staying=False)
        carries = self._carries(before)
        for old in map(self._row, rows):
            name = self.draft.next
            for at in range(0, max(1, len(carries)), OP_CARRIES_MAX):
                name = self.draft.next
                part = carries[at : at + OP_CARRIES_MAX]
                op = Place(old.node, parent, row.path[-1], part, row.path, keeps)
                moved = replace(
                    old, placement=name, parent=parent, name=row.path[-1], natural=row.path[-1], copy_of=None
                )
                self._add(op, *kept, replace(moved, stat=row.stat))
        self._end_covered((*rows, *self._copies_in(keeps)))

    def drop(self, paths: list[Path]) -> None:
        """One user action removed what lay at `paths`, the first of them with all others below it."""
        self._revive_at(paths[0][:-1])
        rows = [self._row(row) for path in paths for row in self._matched.groups[path]]
        keeps, kept = self._keeps(rows, paths[0], staying=False)
        removed = {row.node: row for row in rows}
        for at in range(0, len(rows), SYNC_ITEMS_PER_DROP_MAX):
            part = rows[at : at + SYNC_ITEMS_PER_DROP_MAX]
            op = Drop(_items(part, removed), keeps if at == 0 else ())
            self.draft.add(op, kept, tuple(row.node for row in part))
        self._gone.update(removed)
        self._end_covered((*rows, *self._copies_in(keeps)))

    # --- directories -----------------------------------------------------------------------------------------

    def _directory(self, path: Path) -> NodeId:
        """Return the node in which children of the directory at `path` are placed, put again if it was dropped."""
        self._revive_at_now(path)
        if not path:
            return ROOT
        made = self._made.get(path)
        if made is not None:
            return made
        rows = self._rows_now(path)
        return next((row.node for row in rows if row.versions), rows[0].node)

    def _rows_now(self, path: Path) -> list[SyncedRow]:
        before = self._matched.was.get(path, path)
        return [self._row(row) for row in self._matched.groups.get(before, ()) or self._synced.at(before)]

    def _revive_at(self, before: Path) -> None:
        """As `_revive_at_now`, for a directory given by its synced path; one that vanished is not put again."""
        now = self._matched.now.get(before) if before in self._matched.groups else before
        if now is not None:
            self._revive_at_now(now)

    def _revive_above(self, now: Path) -> None:
        self._revive_at_now(now[:-1])

    def _revive_at_now(self, now: Path) -> None:
        """Put every dropped directory from the root to `now` again (`semantics.md` 3.4)."""
        for depth in range(1, len(now) + 1):
            path = now[:depth]
            rows = [] if path in self._made else self._rows_now(path)
            if rows and not any(row.versions for row in rows):
                old, name = rows[0], self.draft.next
                op = Put(old.node, DIRECTORY, False, old.mtime_ns, (), old.parent, path[-1], path)
                self._add(op, replace(old, versions=(name,)))

    # --- what an operation names beside its node -------------------------------------------------------------

    def _carries(self, before: Path) -> tuple[Dot, ...]:
        found: dict[Dot, None] = {}
        for path, rows in self._synced.walk(before):
            if path == before or self._matched.now.get(path, path) is not None:
                for row in map(self._row, rows):
                    found.update(dict.fromkeys(row.versions))
        return tuple(found)

    def _keeps(self, rows: Iterable[SyncedRow], path: Path, staying: bool) -> Kept:
        """Conflict copies of the nodes, and other files of their names, that stay on disk where they are."""
        rows = list(rows)
        acted = {row.node for row in rows}
        keeps: list[Keep] = []
        kept_rows: list[SyncedRow] = []
        for row in rows:
            for copy in self._synced.copies_of(row.node):
                kept = self._row(copy)
                if kept.node not in acted and kept.copy_of is not None and self._stays(kept):
                    keeps.append(Keep(row.node, kept.versions[0], None, kept.parent, kept.name))
                    kept_rows.append(self._keep_row(kept))
        parents = [row.node for row in self._synced.at(path[:-1])] if len(path) > 1 else [ROOT]
        for natural in dict.fromkeys(row.natural for row in rows if row.parent in parents):
            for other in map(self._row, self._synced.derived_from(parents, natural)):
                if other.name != other.natural and (staying or other.node not in acted) and self._stays(other):
                    keeps.append(Keep(other.node, None, other.placement, other.parent, other.name))
                    kept_rows.append(self._keep_row(other))
        return tuple(keeps), tuple(kept_rows)

    def _copies_in(self, keeps: Iterable[Keep]) -> list[SyncedRow]:
        return [self._synced.rows[copy_id(keep.node, keep.version)] for keep in keeps if keep.version is not None]

    def _end_covered(self, rows: Iterable[SyncedRow]) -> None:
        """End what was hidden for nothing but untouched conflict copies, `rows` among others, that were acted on."""
        for row in rows:
            owner = None if row.copy_of is None else self._synced.rows.get(row.copy_of)
            if owner is None or row.copy_of is None or owner.node in self._gone:
                continue
            owner = self._row(owner)
            covered = [v for name in row.versions for v in self._covered_by(row.copy_of, name) if v in owner.versions]
            rest = tuple(v for v in owner.versions if v not in covered)
            if covered and rest:
                ended = Drop((Dropped(owner.node, tuple(covered), owner.placement, -1),))
                self._rows[owner.node] = replace(owner, versions=rest)
                self.draft.add(ended, (self._rows[owner.node],))

    def _stays(self, row: SyncedRow) -> bool:
        path = self._synced.path_of(row.node)
        return path is not None and (path not in self._matched.groups or path in self._matched.now)

    # --- rows ------------------------------------------------------------------------------------------------

    def _row(self, row: SyncedRow) -> SyncedRow:
        return self._rows.get(row.node, row)

    def _keep_row(self, row: SyncedRow) -> SyncedRow:
        self._rows[row.node] = replace(row, copy_of=None, natural=row.name)
        return self._rows[row.node]

    def _add(self, op: Put | Place | Attr, *rows: SyncedRow) -> None:
        self._rows.update((row.node, row) for row in rows)
        self.draft.add(op, rows)


def new_row(node: NodeId, versions: tuple[Dot, ...], placement: Dot | None, parent: NodeId, row: LocalRow) -> SyncedRow:
    """Return the synced row of a node that was just put as `row` is."""
    return SyncedRow(
        node,
        versions,
        placement,
        parent,
        row.path[-1],
        row.path[-1],
        None,
        0,
        row.content,
        row.executable,
        row.stat.mtime_ns,
        row.stat,
    )


def _items(rows: list[SyncedRow], removed: dict[NodeId, SyncedRow]) -> tuple[Dropped, ...]:
    """Return the drop's list for `rows`, and above each the removed directories, with nothing of their own."""
    at: dict[NodeId, int] = {}
    items: list[Dropped] = []
    for row in rows:
        chain, above = [row], removed.get(row.parent)
        while above is not None and above.node not in at:
            chain.append(above)
            above = removed.get(above.parent)
        for each in reversed(chain):
            at[each.node] = len(items)
            versions = each.versions if each is row else ()
            items.append(Dropped(each.node, versions, each.placement, at.get(each.parent, -1)))
    return tuple(items)
