"""Keeps the local tree equal to what lies on disk: scans, and reads what may have changed.

Invariant: a row's content is that of bytes read while nothing about the file changed; a file that was changing stays as
it was observed before and is looked at again. Calls block; run them in a thread, one at a time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from meshsync.chunking.cut import CutParams, Cutter
from meshsync.content.chunk_ids import chunk_id
from meshsync.content.manifest_builder import ManifestBuilder
from meshsync.content.record import Content, Kind
from meshsync.content.seal import BlobKind
from meshsync.crypto.folder_keys import FolderKeys
from meshsync.folder.detect import must_read
from meshsync.folder.ignore import IGNORE_NAME, IgnoreRules
from meshsync.folder.reader import Buffer, Read, read_file, read_start
from meshsync.folder.root import Root
from meshsync.folder.scan import Batch, scan, scan_paths
from meshsync.folder.types import Blocked, Observed, Problem, RelativePath, RootMissing
from meshsync.folder.types import Stat as DiskStat
from meshsync.ids import ChunkId
from meshsync.limits import IGNORE_BYTES_MAX, LOOK_BYTES_MAX, LOOK_FILES_MAX
from meshsync.sync.disk_rows import LocalRow, Path, Stat
from meshsync.sync.local_tree import LocalTree


@dataclass(frozen=True, slots=True)
class Hashed:
    """What reading a file gave: its chunks in order and the manifest lists above them."""

    content: Content
    chunks: tuple[tuple[ChunkId, int], ...]
    lists: tuple[tuple[ChunkId, bytes], ...]


@dataclass(slots=True)
class Observation:
    """What one look at the disk found.

    `changed`: paths whose rows differ now; `again`: to be looked at soon; `more`: look again at once, with no paths,
    for the rest; `cleared`: what could not be observed is observed now, so what waited for it is to be planned.
    """

    changed: set[Path] = field(default_factory=set)
    again: set[Path] = field(default_factory=set)
    problems: dict[Path, Problem] = field(default_factory=dict)
    missing: RootMissing | None = None
    more: bool = False
    cleared: bool = False


class Observer:
    """Observes one folder. `local` is the tree as last observed; `hashed` what was read and is not synced yet."""

    def __init__(
        self, root: Root, keys: FolderKeys, params: CutParams, local: LocalTree, wall_time_ns: Callable[[], int]
    ) -> None:
        self.root = root
        self.local = local
        self.hashed: dict[Path, Hashed] = {}
        self.problems: dict[Path, Problem] = {}
        self.read_bytes = 0
        self._keys = keys
        self._params = params
        self._wall_time_ns = wall_time_ns
        self._racy: set[Path] = set()
        self._left: list[Observed] = []

    def look(self, paths: Iterable[Path] | None) -> Observation:
        """Look at `paths` and what is beneath them, or at the whole folder (None), and bring `local` up to date.

        Nothing is changed if the root is missing. Of many new files at some paths it takes LOOK_FILES_MAX or
        LOOK_BYTES_MAX at a time, so that the first are published while the others are read; but all at once where
        something is gone, because a rename is told from a removal only by what came in its place. For the same reason
        it looks at the paths, too, where what came to these was observed before.
        """
        seen = Observation()
        wanted = None if paths is None else {self._with_unknown(path) for path in paths}
        problems = set(self.problems)
        rules = self._rules()
        found: list[Observed] = []
        absent: list[Path] = []
        todo = wanted
        while todo is None or todo:
            came: list[Observed] = []
            for step in scan(self.root, rules) if todo is None else scan_paths(self.root, rules, todo):
                if isinstance(step, RootMissing):
                    seen.missing = step
                    return seen
                if isinstance(step, Batch):
                    came.extend(step.observed)
                    absent.extend(step.absent)
                    seen.problems.update((problem.path, problem) for problem in step.problems)
            found.extend(came)
            if wanted is None or todo is None:
                break
            todo = self._came_from(came, wanted)
            wanted |= todo
        self._forget(wanted, found, absent, seen)
        self._take_all(self._still_left(wanted) + found, wanted is not None and not seen.changed, seen)
        cleared = problems - self.problems.keys()
        seen.cleared = bool(cleared)
        seen.changed |= cleared  # nothing was planned there, though what lies there may be as it was seen before
        return seen

    def is_as_seen(self, path: Path) -> bool:
        """Return whether everything observed at and below `path` is as it was seen last. Nothing is read or kept."""
        found: set[tuple[Path, tuple[Kind, Stat | int]]] = set()
        for step in scan_paths(self.root, self._rules(), {path}):
            if isinstance(step, RootMissing):
                return False
            if isinstance(step, Batch):
                found.update((item.path, _identity(item.kind, Stat(*item.stat))) for item in step.observed)
        return found == {(row.path, _identity(row.kind, row.stat)) for row in self.local.walk(path)}

    def _with_unknown(self, path: Path) -> Path:
        """Return `path`, or the highest directory above it that is not known as one.

        Nothing is observed before its parent: what lies below a file, as far as is known, has no place in the tree,
        and would be published as new again and again.
        """
        for depth in range(1, len(path)):
            above = self.local.at(path[:depth])
            if above is None or above.kind is not Kind.DIRECTORY:
                return path[:depth]
        return path

    def _came_from(self, came: list[Observed], looked_at: set[Path]) -> set[Path]:
        """Return where else the objects were observed that are new where they are, as far as that is not looked at."""
        return {
            path
            for item in came
            if (before := self.local.at(item.path)) is None or before.stat.inode != item.stat.inode
            for path in self.local.of_inode(item.stat.inode)
            if not any(path[:depth] in looked_at for depth in range(len(path) + 1))
        }

    def _still_left(self, wanted: set[Path] | None) -> list[Observed]:
        """Return what earlier looks left and this one did not look at anew."""
        if wanted is None:
            return []
        return [
            item for item in self._left if not any(item.path[:depth] in wanted for depth in range(len(item.path) + 1))
        ]

    def _take_all(self, items: list[Observed], in_parts: bool, seen: Observation) -> None:
        """Bring `local` up to date with `items`, as far as the bounds allow if `in_parts`."""
        self._left = []
        files, start = len(self.hashed), self.read_bytes
        for at, item in enumerate(items):
            self._take(item, seen)
            full = len(self.hashed) - files >= LOOK_FILES_MAX or self.read_bytes - start >= LOOK_BYTES_MAX
            if in_parts and full and at + 1 < len(items):
                self._left = items[at + 1 :]
                seen.more = True
                return

    def _rules(self) -> IgnoreRules:
        """Read the folder's ignore patterns; a file that cannot be read says nothing."""
        data = read_start(self.root, (IGNORE_NAME,), IGNORE_BYTES_MAX + 1)
        return IgnoreRules(data if isinstance(data, bytes) else b"")

    def _forget(self, wanted: set[Path] | None, found: list[Observed], absent: list[Path], seen: Observation) -> None:
        """Remove rows of what is gone; what lies at or below a problem is not observed and stays."""
        tops = [()] if wanted is None else sorted(wanted)
        self.problems = {
            path: problem for path, problem in self.problems.items() if not any(path[: len(top)] == top for top in tops)
        } | seen.problems
        self.local.unobserved = set(self.problems)
        present = {item.path for item in found}
        for top in tops:
            for row in list(self.local.walk(top)):
                if row.path not in present and self.local.is_observed(row.path) and self.local.at(row.path) is not None:
                    self._remove(row.path, seen)
        for path in absent:
            if self.local.at(path) is not None:
                self._remove(path, seen)

    def _remove(self, path: Path, seen: Observation) -> None:
        for row in list(self.local.walk(path)):
            self.hashed.pop(row.path, None)
            self._racy.discard(row.path)
        self.local.remove(path)
        seen.changed.add(path)

    def _make_way(self, before: LocalRow | None, kind: Kind, seen: Observation) -> None:
        """Forget what was of another kind, and all below it, before anything is noted of what took its place."""
        if before is not None and before.kind is not kind:
            self._remove(before.path, seen)

    def _take(self, item: Observed, seen: Observation) -> None:
        stat = Stat(*item.stat)
        before = self.local.at(item.path)
        if item.kind is Kind.FILE:
            row = self._file_row(item, stat, before, seen)
        elif item.kind is Kind.LINK:
            self._make_way(before, Kind.LINK, seen)
            row = LocalRow(item.path, Content(Kind.LINK, target=item.target), False, stat)
        else:
            self._make_way(before, Kind.DIRECTORY, seen)
            row = LocalRow(item.path, Content(Kind.DIRECTORY), False, stat)
        if row is None or row == before:
            return
        self.local.put(row)
        if before is None or before.content != row.content or not _same_enough(before, row):
            seen.changed.add(item.path)

    def _file_row(self, item: Observed, stat: Stat, before: LocalRow | None, seen: Observation) -> LocalRow | None:
        known = before is not None and before.kind is Kind.FILE
        if known and before is not None and not must_read(DiskStat(*before.stat), item.stat, item.path in self._racy):
            if before.executable == item.executable:
                return before
            return LocalRow(item.path, before.content, item.executable, stat)
        read = self.hash_file(item.path)
        if isinstance(read, Problem):
            seen.problems[item.path] = read
            self.problems[item.path] = read
            self.local.unobserved.add(item.path)
            return None
        if read is None:
            seen.again.add(item.path)
            return None
        hashed, result = read
        if known and before is not None and before.content.size and not hashed.content.size and result.racy:
            # Whoever rewrites a file in place empties it first. Told to others, that would be an edit against theirs.
            seen.again.add(item.path)
            return None
        self._make_way(before, Kind.FILE, seen)
        self._racy.discard(item.path)
        if result.racy:
            self._racy.add(item.path)
            seen.again.add(item.path)
        self.hashed[item.path] = hashed
        return LocalRow(item.path, hashed.content, result.executable, Stat(*result.stat))

    def hash_file(self, path: RelativePath) -> tuple[Hashed, Read] | Problem | None:
        """Read, cut and name one file; None if it changed meanwhile, a Problem if it cannot be read."""
        builder = ManifestBuilder(self._keys)
        chunks: list[tuple[ChunkId, int]] = []

        def take(data: Buffer) -> None:
            chunk = chunk_id(self._keys, BlobKind.CHUNK, data)
            chunks.append((chunk, len(data)))
            builder.add(chunk, len(data))
            self.read_bytes += len(data)

        result = read_file(self.root, path, Cutter(self._keys.cut_seed, self._params), take, self._wall_time_ns)
        if isinstance(result, Blocked):
            return Problem(path, result.reason, result.detail)
        if not isinstance(result, Read):
            return None
        built = builder.finish()
        return Hashed(built.content, tuple(chunks), built.lists), result


def _same_enough(before: LocalRow, row: LocalRow) -> bool:
    """Whether the difference means nothing to others: a directory's times follow its entries."""
    if row.kind is Kind.DIRECTORY:
        return before.stat.inode == row.stat.inode
    return before.executable == row.executable and before.stat == row.stat


def _identity(kind: Kind, stat: Stat) -> tuple[Kind, Stat | int]:
    """What tells whether an object is the same and unchanged: a directory's times follow its entries."""
    return (kind, stat.inode if kind is Kind.DIRECTORY else stat)


def display(path: Path) -> str:
    """Return a path as text for people."""
    return os.fsdecode(b"/".join(path))
