"""Carries out planned actions on disk, in a thread, and says what is true afterwards.

Invariant: before a file is put in place the intent is in the index; after it is there, synced rows and chunk locations
are written in one transaction. While the index refuses that, what was done stays known here and nothing else may be
planned; a crash then finds it by the intents, which are gone once it is recorded: the inode of a file that was not put
in place is another file's soon. An action that meets something unexpected changes nothing and is planned
again. Out of the tree only what apply itself made is removed; anything else in the way there goes into the tree.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from meshsync.agent.staged import Staged
from meshsync.content.chunk_ids import check_chunk
from meshsync.content.record import Content, Kind
from meshsync.content.seal import BlobKind
from meshsync.crypto.folder_keys import FolderKeys
from meshsync.errors import IntegrityError, ManifestMismatch, ResourceError
from meshsync.folder.apply import Applier
from meshsync.folder.detect import same_object
from meshsync.folder.names import ParkedPath, parked_path
from meshsync.folder.staging import StagedFile
from meshsync.folder.types import Blocked, Changed, Done, Outcome, Reason
from meshsync.folder.types import Stat as DiskStat
from meshsync.ids import ChunkId, NodeId
from meshsync.sync.actions import (
    Action,
    InParked,
    MakeDirectory,
    MakeLink,
    Move,
    Parked,
    Place,
    Remove,
    SetAttr,
    WriteFile,
)
from meshsync.sync.disk_rows import LocalRow, Path, Stat, SyncedRow
from meshsync.sync.settle import lost_parked, made_row
from meshsync.sync.synced_tree import SyncedTree

log = logging.getLogger(__name__)

NO_PARENT = (Reason.PARENT_MISSING, Reason.LINK_IN_PATH)
"""A directory above went away, or something else took its place: look there, not below it."""


@dataclass(slots=True)
class Applied:
    """What a batch of actions did. `local` are rows to put, `removed` paths to forget, `moved` (before, now) paths."""

    rows: list[SyncedRow] = field(default_factory=list)
    gone: list[NodeId] = field(default_factory=list)
    local: list[LocalRow] = field(default_factory=list)
    removed: list[Path] = field(default_factory=list)
    moved: list[tuple[Path, Path, bool]] = field(default_factory=list)
    done: list[Action] = field(default_factory=list)
    changed: list[tuple[Action, Path]] = field(default_factory=list)
    blocked: list[tuple[Action, Path, Blocked]] = field(default_factory=list)
    damaged: list[tuple[Action, IntegrityError]] = field(default_factory=list)
    intended: list[NodeId] = field(default_factory=list)  # whose intents say nothing more, whatever became of them
    unsynced: set[Path] = field(default_factory=set)  # directories that are to be made durable before it is recorded


Made = WriteFile | MakeLink | MakeDirectory
Intended = tuple[Path | None, int, tuple[SyncedRow, ...]]
"""Where an object (inode) is about to lie, None for parked, and the rows that are true then (`disk_rows.Intent`)."""


@dataclass(slots=True)
class Prepared:
    """What became of staged files: intents of those that are ready, and the actions whose files are not."""

    intents: list[Intended] = field(default_factory=list)
    damaged: list[tuple[Action, IntegrityError]] = field(default_factory=list)
    blocked: list[tuple[Action, Path, Blocked]] = field(default_factory=list)
    changed: list[tuple[Action, Path]] = field(default_factory=list)


class ActionRunner:
    """Runs actions one after another. `intend` records intents durably; `record` makes what was applied durable.

    After each `run`, `record` is called until it returns; nothing is run or planned before.
    """

    def __init__(
        self,
        applier: Applier,
        keys: Callable[[], FolderKeys],
        intend: Callable[[Sequence[Intended]], None],
        record: Callable[[Applied, dict[NodeId, Staged]], None],
    ) -> None:
        self._applier = applier
        self._keys = keys
        self._intend = intend
        self._write = record
        self._left: dict[Path, DiskStat] = {}  # what this run put where, which its plan could not know
        self._unmoved: set[Path] = set()  # where a move of this run failed: what its plan thinks lies there does not
        self._unplaced: dict[Path, DiskStat] = {}  # what this run made out of the tree and did not move into it
        self._left_in: set[Path] = set()  # parked directories of which this run could not remove all that it was to
        self._half_made: set[Path] = set()  # where a run made a directory out of the tree, perhaps: the disk refused
        self._uncleared: dict[Path, DiskStat] = {}  # what any run made out of the tree and could not remove there

    def prepare(self, actions: Sequence[WriteFile], staged: dict[NodeId, Staged]) -> Prepared:
        """Make staged files durable and check them. Blocking; several threads may prepare different files at once."""
        prepared = Prepared()
        for action in actions:
            path = place_path(action.target)
            content = staged[action.node]
            try:
                blocked = self._applier.finish(
                    path,
                    content.file,
                    action.executable,
                    action.mtime_ns,
                    lambda file, content=content: self._verify(file, content.chunks),  # type: ignore[misc]
                )
            except IntegrityError as error:
                prepared.damaged.append((action, error))
                continue
            except ResourceError as error:
                blocked = Blocked(Reason.IO, error.what)
            if blocked is not None and blocked.reason in NO_PARENT:
                prepared.changed.append((action, path[:-1]))  # the directory went away: look there, not below it
            elif blocked is not None:
                prepared.blocked.append((action, path, blocked))
            elif content.file.stat is not None:
                prepared.intents.append((path, content.file.stat.inode, action.rows))
        return prepared

    def run(self, actions: Sequence[Action], staged: dict[NodeId, Staged], prepared: Sequence[Prepared]) -> Applied:
        """Carry out `actions` in order, and return what is then to be recorded. Blocking.

        `staged` holds the content of each WriteFile by its node; `prepared` is what `prepare` said of all of them.
        Raises ResourceError if intents cannot be recorded: then nothing was done.
        """
        applied = Applied()
        self._left, self._unplaced, self._unmoved, self._left_in = {}, {}, set(), set()
        intents = [intent for action in actions if isinstance(action, Move) for intent in _move_intents(action)]
        for part in prepared:
            intents += part.intents
            applied.damaged += part.damaged
            applied.blocked += part.blocked
            applied.changed += part.changed
        made = {path: inode for path, inode, _ in intents}
        for action in actions:
            if isinstance(action, Move) and action.expected is None and isinstance(action.target, tuple):
                # A directory or link has no inode yet; what it displaces is told by its own, out of the tree.
                inode = made.get(place_path(action.source))
                intents.append((None if inode is None else action.target, inode or 0, action.rows))
            elif isinstance(action, Made) and isinstance(action.target, Parked) and not action.rows:
                mtime_ns = 0 if isinstance(action, MakeDirectory) else action.mtime_ns
                row = made_row(action.target.number, _content(action), mtime_ns)
                intents.append((None, made.get(place_path(action.target), 0), (row,)))
        self._intend(intents)
        applied.intended = [rows[0].node for _, _, rows in intents if rows]
        unfit = {id(found[0]) for found in (*applied.damaged, *applied.blocked, *applied.changed)}
        try:
            with self._applier.batch():
                for action in actions:
                    if id(action) not in unfit:
                        self._run_one(action, staged, applied)
                for path, stat in self._unplaced.items():
                    self._clear(path, stat)  # the plan was given up half-way; no row will ever name it
        except ResourceError as error:  # what is done is done: it must be told from what its user did
            log.warning("%s", error)
            touched = [*(row.path for row in applied.local), *applied.removed]
            touched += [path for before, now, _ in applied.moved for path in (before, now)]
            applied.unsynced.update(path[:-1] for path in touched)
        return applied

    def record(self, applied: Applied, staged: dict[NodeId, Staged]) -> None:
        """Make what a run did durable. Blocking. Raises ResourceError: call it again, nothing else may come before."""
        for directory in list(applied.unsynced):
            self._applier.sync_directory(directory)
            applied.unsynced.discard(directory)
        self._write(applied, staged)

    def lost_parked(self, synced: SyncedTree) -> list[NodeId]:
        """Return the nodes whose rows say that they lie parked, and that do not: somebody took them away. Blocking.

        Raises ResourceError if the control directory cannot be read.
        """
        return lost_parked(synced, self._applier.parked())

    def _verify(self, file: StagedFile, chunks: Sequence[tuple[ChunkId, int]]) -> None:
        keys = self._keys()
        offset = 0
        for chunk, size in chunks:
            check_chunk(keys, BlobKind.CHUNK, chunk, file.read(offset, size))
            offset += size
        if offset != file.size:
            raise ManifestMismatch(f"the chunks make {offset} bytes, the version has {file.size}")

    def _run_one(self, action: Action, staged: dict[NodeId, Staged], applied: Applied) -> None:
        path, target = (
            place_path(action.source if isinstance(action, Move) else action.target),
            place_path(action.target),
        )
        if self._unmoved and not self._unmoved.isdisjoint(
            at[:end] for at in (path, target) for end in range(len(at) + 1)
        ):
            applied.changed.append((action, path))
            return
        outcome = self._act(action, path, staged)
        if isinstance(outcome, Changed) and outcome.stat is not None and _makes_parked(action):
            self._make_room(path, outcome.stat)  # no row names what lies there
            outcome = self._act(action, path, staged)
        if isinstance(outcome, Blocked) and isinstance(action, MakeDirectory) and _makes_parked(action):
            self._half_made.add(path)
        if isinstance(action, Remove) and isinstance(path, ParkedPath):
            outcome = self._remove_moved(action, path, outcome)
            outcome = self._bring_back(action, path, outcome)
            if not isinstance(outcome, Done):
                self._left_in.update(path[:end] for end in range(2, len(path)))
        if isinstance(action, Move) and not isinstance(outcome, Done):
            self._unmoved |= {path, target}
        if isinstance(outcome, Changed):
            applied.changed.append((action, path))
            if outcome.rescued and outcome.stat is not None:
                applied.changed.append((action, self._place_rescued(outcome.rescued, outcome.stat, path)))
        elif isinstance(outcome, Blocked) and outcome.reason in NO_PARENT and (above := _above(action)):
            applied.changed += [(action, directory) for directory in above]
        elif isinstance(outcome, Blocked):
            applied.blocked.append((action, path, outcome))
        else:
            applied.done.append(action)
            self._note(action, path, outcome, applied)

    def _place_rescued(self, rescued: bytes, stat: DiskStat, path: Path) -> Path:
        """Put an edit that `path` could not take back beside it, or above if its directory went away; return where.

        If it finds no place there either, it does at the next start.
        """
        name = b"recovered %d %s" % (stat.inode, rescued[-8:])
        for depth in reversed(range(len(path))):
            beside = (*path[:depth], name)
            outcome = self._applier.place_rescued(rescued, beside)
            if not isinstance(outcome, Blocked) or outcome.reason not in NO_PARENT:
                break
        return beside

    def _clear(self, path: Path, stat: DiskStat) -> bool:
        """Remove a parked object that a run made and no row names; return whether it is away.

        A directory that holds something stays.
        """
        outcome = self._applier.remove_directory(path, stat)
        if isinstance(outcome, Changed):
            outcome = self._applier.remove_file(path, stat)
        if isinstance(outcome, Done):
            self._uncleared.pop(path, None)
            return True
        self._uncleared[path] = stat
        return False

    def _make_room(self, path: Path, stat: DiskStat) -> None:
        """Free a parked place: remove what apply itself made there and could not remove; else its user gets it back."""
        if self._uncleared.get(path) == stat and self._clear(path, stat):
            return
        if path in self._half_made and isinstance(self._applier.remove_directory(path, stat), Done):
            self._half_made.discard(path)  # it was made, empty as it is, and could not be made durable
            return
        self._applier.move(path, _recovered(stat), stat)

    def _remove_moved(self, action: Remove, path: Path, outcome: Outcome) -> Outcome:
        """Remove what no row knows to have been moved out of the tree: a crash, or a removal that failed, moved it."""
        expected = _disk(action.expected)
        if not isinstance(outcome, Changed) or outcome.stat is None or outcome.rescued or expected is None:
            return outcome
        if not same_object(expected, outcome.stat, action.kind is Kind.DIRECTORY):
            return outcome
        self._left[path] = outcome.stat
        return self._act(action, path, {})

    def _bring_back(self, action: Remove, path: Path, outcome: Outcome) -> Outcome:
        """Move what its user changed before it was parked into the tree instead of removing it.

        No scan sees it where it is. In the tree it is published as what it is: a new file of the user's.
        """
        stat = None
        if isinstance(outcome, Changed) and outcome.stat is None:
            return Done(None)  # an earlier removal took it away and could not be made durable
        if isinstance(outcome, Changed):
            stat = outcome.stat
        elif isinstance(outcome, Blocked) and outcome.reason is Reason.NOT_EMPTY and isinstance(action.target, Parked):
            stat = None if path in self._left_in else _disk(action.expected)
        if stat is None:
            return outcome
        moved = self._applier.move(path, _recovered(stat), stat)
        return Done(None) if isinstance(moved, Done) else moved

    def _act(self, action: Action, path: Path, staged: dict[NodeId, Staged]) -> Outcome:
        applier = self._applier
        if isinstance(action, WriteFile):
            return applier.replace(path, staged[action.node].file, self._expected(path, action.expected))
        if isinstance(action, MakeDirectory):
            return applier.make_directory(path)
        if isinstance(action, MakeLink):
            expected = self._expected(path, action.expected)
            return applier.make_link(path, action.content.target, action.mtime_ns, expected)
        if isinstance(action, Move):
            return self._move(action, path)
        expected = self._expected(path, action.expected)
        if expected is None:
            return Changed(None)
        if isinstance(action, Remove):
            if action.kind is Kind.DIRECTORY:
                return applier.remove_directory(path, expected)
            return applier.remove_file(path, expected)
        return applier.set_attributes(path, expected, executable=action.executable, mtime_ns=action.mtime_ns)

    def _expected(self, path: Path, planned: Stat | None) -> DiskStat | None:
        return self._left.pop(path, None) or _disk(planned)

    def _move(self, action: Move, source: Path) -> Outcome:
        target = place_path(action.target)
        expected, replaced = self._expected(source, action.expected), self._expected(target, action.replaced)
        if expected is None:
            return Changed(None)
        outcome = self._move_to(action, source, expected, replaced)
        if not isinstance(source, ParkedPath) or not isinstance(outcome, Changed) or outcome.stat is None:
            return outcome
        if not same_object(expected, outcome.stat, directory=True):
            return outcome
        # No look finds what became of it where it lies: it comes back as it is, and the next look reads it.
        outcome = self._move_to(action, source, outcome.stat, replaced)
        return Done(expected._replace(ctime_ns=0)) if isinstance(outcome, Done) else outcome

    def _move_to(self, action: Move, source: Path, expected: DiskStat, replaced: DiskStat | None) -> Outcome:
        target = place_path(action.target)
        if action.exchange and replaced is not None:
            first, second = self._applier.exchange(source, target, expected, replaced)
            if isinstance(first, Done) and first.stat is not None:
                self._left[source] = first.stat
            return first if not isinstance(first, Done) else second
        if replaced is not None:
            removed = self._applier.remove_file(target, replaced)
            if not isinstance(removed, Done):
                return removed
        return self._applier.move(source, target, expected)

    def _note(self, action: Action, path: Path, outcome: Done, applied: Applied) -> None:
        stat = None if outcome.stat is None else Stat(*outcome.stat)
        if outcome.stat is not None:
            self._left[place_path(action.target)] = outcome.stat
        if not isinstance(action, MakeDirectory | SetAttr):
            applied.gone.extend(action.gone)
        if isinstance(action, Remove):
            applied.rows.extend(action.rows)
            applied.removed.append(path)
            return
        if isinstance(action, Move):
            self._unplaced.pop(path, None)
            applied.moved.append((path, place_path(action.target), action.exchange))
            there = self._left.get(path) if action.exchange else None
            applied.rows.extend(_moved_row(row, stat, None if there is None else Stat(*there)) for row in action.rows)
            return
        if _makes_parked(action) and not action.rows and outcome.stat is not None:
            self._unplaced[path] = outcome.stat
        applied.rows.extend(replace(row, stat=stat) for row in action.rows)
        if stat is not None and not isinstance(path, ParkedPath):
            applied.local.append(LocalRow(path, _content(action), _executable(action), stat))


def place_path(place: Place) -> Path:
    """Return where a place of a plan is on disk, from the root."""
    if isinstance(place, Parked):
        return parked_path(place.number)
    if isinstance(place, InParked):
        return parked_path(place.parked.number, place.below)
    return place


def _moved_row(row: SyncedRow, target: Stat | None, source: Stat | None) -> SyncedRow:
    """Return a row of a move with the stat of its own object: of an exchange there are two, told by their inodes."""
    if row.kind is Kind.DIRECTORY:
        return row
    is_displaced = row.stat is not None and source is not None and row.stat.inode == source.inode
    return replace(row, stat=source if is_displaced else target)


def _move_intents(action: Move) -> list[Intended]:
    if action.expected is None:
        return []
    # Not where it is parked: several moves may use one parked place in turn.
    target = action.target if isinstance(action.target, tuple) else None
    return [(target, action.expected.inode, action.rows)]


def _makes_parked(action: Action) -> bool:
    return isinstance(action, Made) and isinstance(action.target, Parked)


def _recovered(stat: DiskStat) -> Path:
    """Return where in the tree its user finds an object that lay out of it."""
    return (b"recovered %d %d" % (stat.inode, stat.ctime_ns),)


def _above(action: Action) -> list[Path]:
    """Return the directories that the places of an action are in, the root left out: it is looked for at each look."""
    places = (action.source, action.target) if isinstance(action, Move) else (action.target,)
    return [place[:-1] for place in places if isinstance(place, tuple) and len(place) > 1]


def _content(action: WriteFile | MakeDirectory | MakeLink | SetAttr) -> Content:
    if isinstance(action, MakeDirectory):
        return Content(Kind.DIRECTORY)
    if isinstance(action, SetAttr):
        return action.rows[0].content
    return action.content


def _executable(action: WriteFile | MakeDirectory | MakeLink | SetAttr) -> bool:
    return action.executable if isinstance(action, WriteFile | SetAttr) else False


def _disk(stat: Stat | None) -> DiskStat | None:
    return None if stat is None else DiskStat(*stat)
