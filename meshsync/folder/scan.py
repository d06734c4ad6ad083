"""What lies on disk, in bounded steps. Invariant: nothing is reported absent unless its directory was read while the
root was known to be there; what could not be looked at is a `Problem`, never an absence.

A scan is a generator for `runtime.in_thread`: each step does a bounded amount of blocking work. Memory is bounded by
the largest directory and the number of directories still to visit. FIFOs, sockets and devices are never opened.
"""

from __future__ import annotations

import stat as modes
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from meshsync.content.record import Kind
from meshsync.folder import attributes, faults
from meshsync.folder.ignore import IgnoreRules
from meshsync.folder.linux import Status
from meshsync.folder.names import CONTROL_NAME, is_control_name
from meshsync.folder.root import Root
from meshsync.folder.types import Observed, Problem, Reason, RelativePath, RootMissing
from meshsync.limits import FOLDER_SCAN_BATCH_ITEMS_MAX, LINK_TARGET_BYTES_MAX, NAME_BYTES_MAX, PATH_DEPTH_MAX


@dataclass(slots=True)
class Batch:
    """One step's findings. `absent`: paths of a partial scan where nothing lies any more."""

    observed: list[Observed] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    absent: list[RelativePath] = field(default_factory=list)

    def size(self) -> int:
        return len(self.observed) + len(self.problems) + len(self.absent)


@dataclass(frozen=True, slots=True)
class Complete:
    """The scan saw everything it was asked for and the root was there to the end: absences may be believed."""

    objects: int
    problems: int


Step: TypeAlias = Batch | Complete | RootMissing
"""A scan yields batches, then one of the other two. After RootMissing everything it yielded is to be discarded."""


def scan(root: Root, ignore: IgnoreRules) -> Iterator[Step]:
    """Look at the whole folder; directories come before what is in them, names in byte order.

    What no batch observed and no problem covers (at or below its path) does not exist. The control directory is not
    reported; other names that could be taken for it are, as problems.
    """
    return _Scan(root, ignore).run([((), True)])


def scan_paths(root: Root, ignore: IgnoreRules, paths: Iterable[RelativePath]) -> Iterator[Step]:
    """Look at each of `paths` and, if it is a directory, at everything beneath it.

    A path beneath another of `paths` is looked at once. Where nothing lies the path is listed as absent: whatever was
    recorded at or below it does not exist.
    """
    wanted = set(paths)
    roots = sorted(path for path in wanted if not any(path[:depth] in wanted for depth in range(len(path))))
    return _Scan(root, ignore).run([(path, not path) for path in reversed(roots)])


class _Scan:
    def __init__(self, root: Root, ignore: IgnoreRules) -> None:
        self._root, self._ignore, self._syscalls = root, ignore, root.syscalls
        self._batch = Batch()
        self._objects = self._problems = 0

    def run(self, stack: list[tuple[RelativePath, bool]]) -> Iterator[Step]:
        """Work off `stack` of (path, is it a directory already observed)."""
        missing = self._root.check()
        if missing is not None:
            yield missing
            return
        while stack:
            path, entered = stack.pop()
            if entered:
                yield from self._list(path, stack)
            elif self._look_from_above(path):
                stack.append((path, True))
            if self._batch.size() >= FOLDER_SCAN_BATCH_ITEMS_MAX:
                yield self._take()
        yield self._take()
        yield self._root.check() or Complete(self._objects, self._problems)

    def _take(self) -> Batch:
        batch, self._batch = self._batch, Batch()
        self._objects += len(batch.observed)
        self._problems += len(batch.problems)
        return batch

    def _list(self, path: RelativePath, stack: list[tuple[RelativePath, bool]]) -> Iterator[Batch]:
        """Observe the entries of the directory at `path` and push its directories, last one first."""
        below: list[tuple[RelativePath, bool]] = []
        try:
            with self._root.directory(path) as fd:
                for name in self._syscalls.names(fd):
                    if self._look(fd, (*path, name)):
                        below.append(((*path, name), True))
                    if self._batch.size() >= FOLDER_SCAN_BATCH_ITEMS_MAX:
                        yield self._take()
        except OSError as error:
            self._batch.problems.append(faults.not_observed(path, error))
        stack.extend(reversed(below))

    def _look_from_above(self, path: RelativePath) -> bool:
        """Observe the object at `path` of a partial scan. Returns whether it is a directory to enter."""
        if any(map(is_control_name, path)):
            return False
        if self._ignore.ignored(path[:-1], True):
            self._batch.problems.append(Problem(path, Reason.IGNORED))
            return False
        try:
            with self._root.directory(path[:-1]) as fd:
                self._syscalls.status(fd, path[-1])
                return self._look(fd, path)
        except OSError as error:
            reason = faults.not_observed(path, error)
            if reason.reason is Reason.VANISHED:
                self._batch.absent.append(path)
            else:
                self._batch.problems.append(reason)
        return False

    def _look(self, fd: int, path: RelativePath) -> bool:
        """Observe the entry `path[-1]` of the directory `fd`. Returns whether it is a directory to enter."""
        name = path[-1]
        if is_control_name(name):
            if path != (CONTROL_NAME,):
                self._batch.problems.append(Problem(path, Reason.NAME_RESERVED))
            return False
        try:
            status = self._syscalls.status(fd, name)
            found = self._classify(fd, path, status)
        except OSError as error:
            found = faults.not_observed(path, error)
        if isinstance(found, Problem):
            self._batch.problems.append(found)
            return False
        self._batch.observed.append(found)
        return found.kind is Kind.DIRECTORY

    def _classify(self, fd: int, path: RelativePath, status: Status) -> Observed | Problem:
        directory = modes.S_ISDIR(status.mode)
        if self._ignore.ignored_here(path, directory):
            return Problem(path, Reason.IGNORED)
        if len(path[-1]) > NAME_BYTES_MAX:
            return Problem(path, Reason.NAME_TOO_LONG)
        if len(path) > PATH_DEPTH_MAX:
            return Problem(path, Reason.TOO_DEEP)
        if status.device != self._root.device:
            return Problem(path, Reason.OTHER_FILE_SYSTEM)
        if directory:
            return Observed(path, Kind.DIRECTORY, status.stat, executable=False)
        if modes.S_ISREG(status.mode):
            return Observed(path, Kind.FILE, status.stat, attributes.executable(status.mode))
        if modes.S_ISLNK(status.mode):
            target = self._syscalls.link_target(fd, path[-1])
            if len(target) > LINK_TARGET_BYTES_MAX:
                return Problem(path, Reason.TOO_LARGE)
            return Observed(path, Kind.LINK, status.stat, False, target)
        return Problem(path, Reason.SPECIAL)
