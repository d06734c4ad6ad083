"""Three trees in, a plan out: what to publish of this disk, and what to apply to it.

Invariant: pure; after a crash the agent scans and plans again. What is published names synced rows only; what is
applied touches nothing that the user changed and that is not published yet. Rules: `semantics.md` 4.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from meshsync.content.record import Kind
from meshsync.ids import NodeId
from meshsync.sync.actions import Action
from meshsync.sync.apply_plan import plan_apply
from meshsync.sync.disk_rows import LocalRow, Path, SyncedRow
from meshsync.sync.draft import Draft
from meshsync.sync.local_tree import LocalTree
from meshsync.sync.match import Matched, expected_path, match
from meshsync.sync.node import Face
from meshsync.sync.recorder import Recorder
from meshsync.sync.settle import is_removed, joined_directory, joined_file, known_descendant, seen_row
from meshsync.sync.synced_tree import Group, SyncedTree
from meshsync.sync.view import View


@dataclass(frozen=True, slots=True)
class Scope:
    """What may have changed: `paths` on disk (with all beneath them), `nodes` in the view (from `View.apply`)."""

    paths: frozenset[Path]
    nodes: frozenset[NodeId]


@dataclass(frozen=True, slots=True)
class Frozen:
    """What a plan leaves as it is: what was done here at and below `paths` and to `unseen`, elsewhere to `nodes`."""

    paths: frozenset[Path] = frozenset()
    unseen: frozenset[NodeId] = frozenset()
    nodes: frozenset[NodeId] = frozenset()

    def __or__(self, other: Frozen) -> Frozen:
        return Frozen(self.paths | other.paths, self.unseen | other.unseen, self.nodes | other.nodes)


NOTHING_FROZEN = Frozen()


@dataclass(slots=True)
class Plan:
    """What to do. First record `settled` and `forgotten`, then publish, then apply.

    `settled` are rows that are true already and `forgotten` nodes that are gone already: nobody else is told.
    With `again`, plan again with the same scan once that is recorded and the entries are in the view: `apply` leaves
    out what waits for it. `busy` are nodes that the user changed and nodes that cannot be observed. `undone` are nodes
    in whose place lies something that is new to this device: they belong in the next scope. `waiting` are nodes that
    cannot be brought about for another reason, as what cannot be observed: they belong in the scope once that changes.
    `drops` and `rewrites` say what of `publish` takes content away: the path of each thing that is gone with all nodes
    at and below it, and the path of each file of other content with its nodes.
    """

    settled: list[SyncedRow] = field(default_factory=list)
    forgotten: list[NodeId] = field(default_factory=list)
    publish: Draft = field(default_factory=Draft)
    apply: list[Action] = field(default_factory=list)
    busy: set[NodeId] = field(default_factory=set)
    undone: set[NodeId] = field(default_factory=set)
    waiting: set[NodeId] = field(default_factory=set)
    drops: dict[Path, tuple[NodeId, ...]] = field(default_factory=dict)
    rewrites: dict[Path, tuple[NodeId, ...]] = field(default_factory=dict)
    again: bool = False


def reconcile(
    synced: SyncedTree, local: LocalTree, view: View, scope: Scope | None = None, frozen: Frozen = NOTHING_FROZEN
) -> Plan:
    """Return what to publish and what to apply. The three trees are not changed.

    With `scope`, only what it names is looked at; None looks at everything. Nodes of a plan that were not applied
    belong in the next scope. What is `frozen` is as if it were not observed, and is not touched (`semantics.md` 4.8).
    """
    if frozen.paths:
        local = local.unseen(frozen.paths)
    paths = None if scope is None else _widened(scope, synced, local)
    matched = match(synced, local, paths, frozen.unseen)
    plan = Plan(busy=matched.frozen | frozen.nodes)
    _Reconciler(synced, local, view, matched, plan).run()
    waiting = plan.busy | set(plan.forgotten) | {row.node for row in plan.settled if _is_taken(row, synced)}
    parked = {node for nodes in synced.parked().values() for node in nodes}
    applied = plan_apply(synced, local, view, waiting, None if scope is None else scope.nodes | parked)
    plan.apply = applied.actions
    plan.settled += applied.settled
    plan.forgotten += applied.forgotten
    plan.undone = applied.obstructed
    plan.waiting = (applied.undone - applied.obstructed) | matched.frozen
    plan.again = bool(plan.publish) or not waiting <= plan.busy
    return plan


def _is_taken(row: SyncedRow, synced: SyncedTree) -> bool:
    """Tell whether a settled row says more than a new stat."""
    old = synced.rows.get(row.node)
    return old is None or (old.versions, old.executable, old.mtime_ns) != (row.versions, row.executable, row.mtime_ns)


def _widened(scope: Scope, synced: SyncedTree, local: LocalTree) -> set[Path]:
    """Add the directories above that are new themselves, and where the nodes lie on disk.

    Of directories only those that lie there no more: they were frozen, and may be gone.
    """
    places = ((synced.path_of(node), _is_file(synced, node)) for node in scope.nodes if node in synced.rows)
    paths = {path for path, is_file in places if path is not None and (is_file or local.at(path) is None)}
    paths |= scope.paths
    widened = set()
    for path in paths:
        while len(path) > 1 and not synced.at(path[:-1]):
            path = path[:-1]  # noqa: PLW2901
        widened.add(path)
    return widened


def _is_file(synced: SyncedTree, node: NodeId) -> bool:
    return synced.rows[node].kind is not Kind.DIRECTORY


def _is_other(row: LocalRow, old: SyncedRow) -> bool:
    """Tell whether the stat on record is out of date. A directory's times change with what is in it."""
    if row.kind is Kind.DIRECTORY and old.stat is not None:
        return row.stat[:2] != old.stat[:2]
    return row.stat != old.stat


def _is_touched(rows: Group, row: LocalRow) -> bool:
    """Tell whether a file's mtime is another than when it was last seen, so that somebody set it since.

    What was asked for is not compared: a file system may keep times more coarsely.
    """
    if row.kind is not Kind.FILE:
        return False
    return all(old.stat is not None and old.stat.mtime_ns != row.stat.mtime_ns for old in rows)


class _Reconciler:
    """One pass over what was matched: settle what is nobody's doing, record what is the user's."""

    def __init__(self, synced: SyncedTree, local: LocalTree, view: View, matched: Matched, plan: Plan) -> None:
        self._local = local
        self._view = view
        self._matched = matched
        self._plan = plan
        self._synced = synced
        self._record = Recorder(synced, matched, view.covered_by)

    def run(self) -> None:
        created = self._unwitnessed() + self._adopt()
        for row in created:
            if row.kind is Kind.DIRECTORY:
                self._record.create(row)
        self._moves()
        self._edits()
        for row in created:
            if row.kind is not Kind.DIRECTORY:
                self._record.create(row)
        self._drops()
        self._plan.publish = self._record.draft

    def _unwitnessed(self) -> list[LocalRow]:
        """Objects of nodes that are not in the view, though nothing removed them: this device publishes them anew."""
        found = []
        for before, now in self._matched.now.items():
            rows, row = self._matched.groups[before], self._local.at(now)
            if row is None or any(self._view.face(old.node) is not None for old in rows):
                continue
            if not all(is_removed(old, self._view) for old in rows):
                found.append(row)
                self._plan.forgotten += [old.node for old in rows]
        for row in found:
            del self._matched.now[self._matched.was.pop(row.path)]
        return sorted(found, key=lambda row: (len(row.path), row.path))

    def _adopt(self) -> list[LocalRow]:
        """Take what the view shows at the path of a new object for that object (`semantics.md` 4.7)."""
        created = []
        joining: list[tuple[Face, LocalRow]] = []
        adopted: dict[Path, None] = {(): None}
        for row in self._matched.created:
            shown = self._view.resolve(row.path) if self._is_view_path(row.path, adopted) else None
            is_directory = row.kind is Kind.DIRECTORY
            if (
                shown is None
                or (shown.kind is Kind.DIRECTORY) is not is_directory
                or any(node in self._synced.rows for node in shown.nodes)
            ):
                created.append(row)
            elif is_directory:
                self._plan.settled += joined_directory(shown, row)
                self._record.adopt_directory(row.path, shown.face.node)
                adopted[row.path] = None
            elif (taken := joined_file(shown, row, self._view, self._synced.rows)) is not None:
                self._plan.settled.append(taken)
            else:
                joining.append((shown.face, row))
        for face, row in joining:
            self._plan.busy.add(face.node)
            self._record.adopt(row, face)
        return created

    def _is_view_path(self, path: Path, adopted: dict[Path, None]) -> bool:
        """Tell whether the directory that `path` lies in is the same one on disk and in the view."""
        above = path[:-1]
        if above in adopted:
            return True
        rows = self._synced.at(self._matched.was.get(above, above))
        shown = self._view.resolve(above)
        return shown is not None and any(row.node in shown.nodes for row in rows)

    def _moves(self) -> None:
        moved = [(before, now) for before, now in self._matched.now.items() if self._is_moved(before, now)]
        for before, now in sorted(moved, key=lambda pair: (len(pair[1]), pair[1])):
            row = self._local.at(now)
            assert row is not None
            rows = self._matched.groups[before]
            self._plan.busy.update(old.node for old in rows)
            self._record.move(rows, before, row)

    def _is_moved(self, before: Path, now: Path) -> bool:
        above = self._matched.now.get(before[:-1], before[:-1] if before[:-1] not in self._matched.groups else None)
        return above != now[:-1] or before[-1] != now[-1]

    def _edits(self) -> None:
        for before, now in self._matched.now.items():
            rows, row = self._matched.groups[before], self._local.at(now)
            assert row is not None
            if row.content != rows[0].content:
                self._edit_content(rows, row)
            else:
                self._edit_attributes(rows, row)

    def _edit_content(self, rows: Group, row: LocalRow) -> None:
        old = rows[0]
        taken = None if old.node in self._plan.busy else known_descendant(rows, row, self._view, self._synced.rows)
        if taken is not None:
            self._plan.settled.append(taken)
            self._plan.forgotten += [other.node for other in rows if other.node != taken.node]
            return
        self._plan.busy.update(each.node for each in rows)
        self._plan.rewrites[row.path] = tuple(each.node for each in rows)
        self._record.edit(rows, row)
        if row.kind is Kind.FILE and (row.executable != old.executable or old.kind is Kind.LINK):
            self._record.set_executable(rows[:1], row)

    def _edit_attributes(self, rows: Group, row: LocalRow) -> None:
        """The content is as it was. What is shown already is nobody's doing: apply may have died before its record."""
        old = rows[0]
        is_touched = _is_touched(rows, row) and not self._is_overtaken(old)
        has_other_bit = row.kind is Kind.FILE and row.executable != old.executable
        is_shown = (is_touched or has_other_bit) and self._shows(old.node, row)
        if is_shown or not (is_touched or has_other_bit):
            if old.node not in self._plan.busy and (is_shown or _is_other(row, old)):
                self._plan.settled += [replace(seen_row(each, row), executable=row.executable) for each in rows]
            return
        self._plan.busy.update(each.node for each in rows)
        if is_touched:
            self._record.edit(rows, row)
        if has_other_bit:
            self._record.set_executable(rows[:1] if is_touched else rows, row)

    def _is_overtaken(self, old: SyncedRow) -> bool:
        """Tell whether a touch of `old` adds nothing: its content was replaced already by what shows in its place.

        Published, it would show again if that one is removed, when this disk has the content no more.
        """
        face = self._view.face(old.node)
        if face is None or face.content == old.content:
            return False
        return all((version := self._view.version(name)) is None or not version.live for name in old.versions)

    def _shows(self, node: NodeId, row: LocalRow) -> bool:
        """Tell whether the view shows `node` with the content, exec bit and mtime of `row`."""
        shown = self._view.shown(node)
        return shown is not None and (shown.content, shown.executable, shown.face.mtime_ns) == (
            row.content,
            row.executable,
            row.stat.mtime_ns,
        )

    def _drops(self) -> None:
        """One drop for each topmost thing that is gone; what the view dropped too is only forgotten."""
        gone = set(self._matched.vanished)
        below: dict[Path, list[Path]] = {}
        tops: dict[Path, Path] = {}
        for path in self._matched.vanished:
            top = tops.get(path[:-1], path) if path[:-1] in gone else path
            tops[path] = top
            below.setdefault(top, []).append(path)
        for top, paths in below.items():
            rows: list[Group] = [self._matched.groups[path] for path in paths]
            nodes = [row.node for group in rows for row in group]
            if all(self._view.face(node) is None for node in nodes) and self._all_removed(rows):
                self._plan.forgotten += nodes
            else:
                self._plan.busy.update(nodes)
                self._plan.drops[expected_path(self._matched, top) or top] = tuple(nodes)
                self._record.drop(paths)

    def _all_removed(self, groups: list[Group]) -> bool:
        return all(is_removed(row, self._view) for group in groups for row in group)
