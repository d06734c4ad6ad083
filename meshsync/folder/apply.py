"""Changes to the user's files, one object at a time. Invariant: every change states what it expects to find; if the
disk holds anything else the user's work stays and the outcome says so.

Each method blocks (`runtime.in_thread`), is durable when it returns Done, and may be cut off at any system call: after
`Staging.recover` every path holds its whole old or its whole new object. Paths that no target may hold are refused.
"""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TypeVar

from meshsync.content.record import Kind
from meshsync.errors import ResourceError
from meshsync.folder import attributes, faults
from meshsync.folder.detect import same_object
from meshsync.folder.linux import Status
from meshsync.folder.names import (
    ANY_NAME,
    CONTROL_NAME,
    Held,
    NameRules,
    parked_number,
    parked_path,
    refused_path,
)
from meshsync.folder.root import Root
from meshsync.folder.staging import NOTHING, Staged, StagedFile, Staging
from meshsync.folder.swap import Entry, Keep, Swapper, came_out, is_expected, move_new, status_or_none
from meshsync.folder.types import Blocked, Changed, Done, Outcome, Reason, RelativePath, Stat
from meshsync.limits import FOLDER_RACY_WINDOW_NS, LINK_TARGET_BYTES_MAX

T = TypeVar("T")


class Applier:
    """Applies planned changes below one open root. Not for concurrent use on one path."""

    def __init__(self, root: Root, staging: Staging, rules: NameRules = ANY_NAME) -> None:
        """`rules` are those of the file system below `root` (`probe.name_rules`)."""
        self.staging = staging
        self._rules = rules
        self._root, self._syscalls = root, root.syscalls
        self._swapper = Swapper(staging)

    def finish(
        self,
        path: RelativePath,
        staged: StagedFile,
        executable: bool,
        mtime_ns: int,
        verify: Callable[[StagedFile], None],
    ) -> Blocked | None:
        """Make `staged` ready for `path`: mode bits and owner of the file there kept, fsync, then `verify`.

        `verify` reads the file back and raises IntegrityError if it is not what it should be. Returns None when ready,
        with `staged.stat` set: record the intent with its inode, then call `replace`. Raises ResourceError.
        """
        refused = refused_path(path)
        if refused:
            return Blocked(refused)
        try:
            with self._root.directory(path[:-1]) as fd:
                replaces, parent = status_or_none(self._syscalls, fd, path[-1]), self._syscalls.status(fd)
        except OSError as error:
            return faults.blocked(error)
        staged.finish(executable, mtime_ns, replaces, parent)
        verify(staged)
        return None

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Within it, entries of new files become durable together at its end: record them only then.

        Raises ResourceError if a directory could not be synced; which files are concerned is not known then.
        """
        self._swapper.directories.begin()
        try:
            yield
        finally:
            try:
                self._swapper.directories.end()
            except OSError as error:
                raise ResourceError(f"a directory cannot be made durable: {error.strerror}") from error

    def sync_directory(self, path: RelativePath) -> None:
        """Make the entries of the directory `path` durable; one that is gone needs nothing. Raises ResourceError."""
        try:
            with self._root.directory(path) as fd:
                self._syscalls.fsync(fd)
        except OSError as error:
            if error.errno not in faults.ABSENT:
                raise ResourceError(
                    f"a directory cannot be made durable: {error.strerror}",
                    path=os.fsdecode(b"/".join(path)),
                    next_step="Check the disk: meshsync goes on by itself.",
                ) from error

    def replace(
        self, path: RelativePath, staged: StagedFile, expected: Stat | None, keep: Keep | None = None
    ) -> Outcome:
        """Put a finished file at `path`, replacing the file, link or empty directory `expected`, None for nothing.

        Done consumes `staged`; otherwise it is to be discarded, or tried again while it has a name. `keep` gets
        the replaced file before it is removed.
        """
        assert staged.stat is not NOTHING, "finish comes first"
        outcome = self._place(path, lambda fd, name: self._swapper.put(staged, Entry(fd, name), expected, keep))
        if isinstance(outcome, Done):
            staged.close()
        return outcome

    def make_link(self, path: RelativePath, target: bytes, mtime_ns: int, expected: Stat | None = None) -> Outcome:
        """Put a symbolic link with the raw `target` at `path`, replacing what `replace` would."""
        if not target or b"\0" in target or len(target) > LINK_TARGET_BYTES_MAX:
            return Blocked(Reason.NAME_ILLEGAL, "the link's target")

        def stage(name: bytes) -> None:
            self._syscalls.make_link(self.staging.fd, name, target)
            self._syscalls.set_link_mtime(self.staging.fd, name, mtime_ns)

        return self._place(path, lambda fd, name: self._put_made(fd, name, stage, expected))

    def make_directory(self, path: RelativePath, expected: Stat | None = None) -> Outcome:
        """Make a directory at `path`, replacing the file or link `expected`. Changed if a directory is there."""
        mode = attributes.directory_mode(self.staging.umask)

        def make(fd: int, name: bytes) -> Outcome:
            if expected is not None:
                return self._put_made(fd, name, self._stage_directory, expected)
            try:
                self._syscalls.make_directory(fd, name, mode)
            except FileExistsError:
                found = status_or_none(self._syscalls, fd, name)
                return Changed(found.stat if found else None)
            self._syscalls.fsync(fd)
            return Done(self._syscalls.status(fd, name).stat)

        return self._place(path, make)

    def _stage_directory(self, name: bytes) -> None:
        self._syscalls.make_directory(self.staging.fd, name, 0o700)
        fd = self._syscalls.open_directory(self.staging.fd, name)
        try:
            self._syscalls.chmod(fd, attributes.directory_mode(self.staging.umask))
        finally:
            self._syscalls.close(fd)

    def _put_made(self, fd: int, name: bytes, stage: Callable[[bytes], None], expected: Stat | None) -> Outcome:
        """Put what `stage` makes under a fresh name at `name`, and leave nothing behind if that cannot be done."""
        staged = Staged(b"stage-" + self.staging.token(), NOTHING)
        try:
            stage(staged.name)
            staged.stat = self._syscalls.status(self.staging.fd, staged.name).stat
            return self._swapper.put(staged, Entry(fd, name), expected)
        finally:
            if staged.name:
                with suppress(OSError):
                    self.staging.remove(staged.name)

    def remove_file(self, path: RelativePath, expected: Stat, keep: Keep | None = None) -> Outcome:
        """Remove the file or link `expected`. `keep` gets the file before it is removed."""
        return self._attempt(path, lambda fd, name: self._swapper.take_out(Entry(fd, name), expected, keep))

    def remove_directory(self, path: RelativePath, expected: Stat) -> Outcome:
        """Remove the directory `expected` if it is empty; Blocked(NOT_EMPTY) otherwise."""

        def remove(fd: int, name: bytes) -> Outcome:
            found = status_or_none(self._syscalls, fd, name)
            if found is None or not modes.S_ISDIR(found.mode) or not is_expected(found, expected):
                return Changed(found.stat if found else None)
            try:
                self._syscalls.remove_directory(fd, name)
            except FileExistsError:
                return Blocked(Reason.NOT_EMPTY)
            self._syscalls.fsync(fd)
            return Done(None)

        return self._attempt(path, remove)

    def move(self, source: RelativePath, target: RelativePath, expected: Stat) -> Outcome:
        """Rename the object `expected` at `source`, whatever its kind, to `target`, where nothing may be.

        If something else came along it is moved back. Changed tells what was at the source, or at a target taken.
        """

        def move(fd: int, name: bytes) -> Outcome:
            with self._root.directory(target[:-1]) as target_fd:
                found = status_or_none(self._syscalls, fd, name)
                if found is None or not is_expected(found, expected):
                    return Changed(found.stat if found else None)
                held = self._held(target_fd, target[-1])
                return held or self._move(fd, name, target_fd, target[-1], expected)

        refused = refused_path(target)
        return Blocked(refused) if refused else self._attempt(source, move)

    def _move(self, fd: int, name: bytes, target_fd: int, target: bytes, expected: Stat) -> Outcome:
        try:
            move_new(self._syscalls, fd, name, target_fd, target)
        except FileExistsError:
            taken = status_or_none(self._syscalls, target_fd, target)
            return Changed(taken.stat if taken else None)
        undo = partial(move_new, self._syscalls, target_fd, target, fd, name)
        found = _or_undo(lambda: [status_or_none(self._syscalls, target_fd, target)], undo)
        arrived = found[0] if found else None
        if arrived is not None and not came_out(expected, arrived):
            with suppress(FileExistsError):  # the source is taken again: the edit stays at the target, for the scan
                undo()
            return Changed(arrived.stat)
        if found is not None:
            _or_undo(lambda: self._sync(target_fd, fd), undo)
        return Done(arrived.stat if arrived else expected)

    def exchange(
        self, first: RelativePath, second: RelativePath, expected_first: Stat, expected_second: Stat
    ) -> tuple[Outcome, Outcome]:
        """Swap the objects at two paths in one step; undone if either is not what was expected.

        Returns what is now at `first` and at `second`. Blocked(UNSUPPORTED) where the file system cannot: move one of
        them aside first.
        """
        refused = refused_path(first) or refused_path(second)
        if refused:
            return Blocked(refused), Blocked(refused)
        try:
            with self._root.directory(first[:-1]) as a, self._root.directory(second[:-1]) as b:
                places = ((a, first[-1], expected_first), (b, second[-1], expected_second))
                found = [status_or_none(self._syscalls, fd, name) for fd, name, _ in places]
                if not all(is_expected(now, wanted) for now, (_, _, wanted) in zip(found, places, strict=True)):
                    seen = [Changed(now.stat if now else None) for now in found]
                    return seen[0], seen[1]
                swap = partial(self._syscalls.exchange, a, first[-1], b, second[-1])
                swap()
                wanted = (expected_second, expected_first)
                now = _or_undo(lambda: [status_or_none(self._syscalls, fd, name) for fd, name, _ in places], swap)
                if now is None:
                    return Done(expected_second), Done(expected_first)
                if not all(there is None or came_out(came, there) for came, there in zip(wanted, now, strict=True)):
                    self._swap_back(Entry(a, first[-1]), Entry(b, second[-1]))
                    seen = [Changed(there.stat if there else None) for there in now]
                    return seen[1], seen[0]
                _or_undo(lambda: self._sync(a, b), swap)
                # What the user has taken away again did come here: the next look finds it gone.
                done = [Done(there.stat if there else came) for came, there in zip(wanted, now, strict=True)]
                return done[0], done[1]
        except OSError as error:
            return faults.blocked(error), faults.blocked(error)

    def _sync(self, *fds: int) -> None:
        for fd in fds:
            self._syscalls.fsync(fd)

    def _swap_back(self, first: Entry, second: Entry) -> None:
        """Undo an exchange, after which the user may have taken one of the two away."""
        try:
            self._syscalls.exchange(*first, *second)
            return
        except FileNotFoundError:
            pass
        source, target = (first, second) if status_or_none(self._syscalls, *second) is None else (second, first)
        with suppress(FileExistsError, FileNotFoundError):
            move_new(self._syscalls, *source, *target)

    def set_attributes(
        self, path: RelativePath, expected: Stat, executable: bool | None = None, mtime_ns: int | None = None
    ) -> Outcome:
        """Set the exec bit and the mtime of the file `expected`; None leaves one alone. Content is not touched.

        For a file that was written to or touched meanwhile the stat comes back that it would have without, its ctime 0:
        the next look reads it and finds what the user did.
        """

        def change(fd: int, name: bytes) -> Outcome:
            found = status_or_none(self._syscalls, fd, name)
            if found is None or not modes.S_ISREG(found.mode) or not is_expected(found, expected):
                return Changed(found.stat if found else None)
            file_fd = self._syscalls.open_file(fd, name)
            try:
                opened = self._syscalls.status(file_fd)
                if opened.stat != expected:
                    return Changed(opened.stat)
                if executable is not None and attributes.executable(opened.mode) != executable:
                    self._syscalls.chmod(
                        file_fd, attributes.file_mode(executable, self.staging.umask, modes.S_IMODE(opened.mode))
                    )
                if mtime_ns is not None:
                    self._syscalls.set_mtime(file_fd, mtime_ns)
                self._syscalls.fsync(file_fd)
                after = self._syscalls.status(file_fd).stat
                wanted = opened.stat if mtime_ns is None else opened.stat._replace(mtime_ns=mtime_ns)
                is_as_set = after.size == wanted.size and (
                    after.mtime_ns == wanted.mtime_ns
                    or (mtime_ns is not None and 0 < mtime_ns - after.mtime_ns < FOLDER_RACY_WINDOW_NS)
                )
                return Done(after if is_as_set else wanted._replace(ctime_ns=0))
            finally:
                self._syscalls.close(file_fd)

        return self._attempt(path, change)

    def parked(self) -> dict[int, int]:
        """Return number → inode of what lies parked in the control directory. Raises ResourceError."""
        try:
            with self._root.directory((CONTROL_NAME,)) as fd:
                names = {name: parked_number(name) for name in self._syscalls.names(fd)}
                return {
                    number: self._syscalls.status(fd, name).stat.inode
                    for name, number in names.items()
                    if number is not None
                }
        except OSError as error:
            raise ResourceError(f"the control directory cannot be read: {error.strerror}") from error

    def discard_parked(self, number: int, kind: Kind, made: Stat, target: bytes = b"") -> bool:
        """Remove the parked object `number` if it is what apply made; return whether it is gone.

        A file is told by `made` (inode, size, mtime), a link by its `target`, a directory by being empty.
        """

        def remove(fd: int, name: bytes) -> Outcome:
            found = self._syscalls.status(fd, name)
            if not self._is_made(fd, name, found, kind, made, target):
                return Changed(found.stat)
            if kind is Kind.DIRECTORY:
                self._syscalls.remove_directory(fd, name)
            else:
                self._syscalls.unlink(fd, name)
            self._syscalls.fsync(fd)
            return Done(None)

        return isinstance(self._attempt(parked_path(number), remove), Done)

    def _is_made(self, fd: int, name: bytes, found: Status, kind: Kind, made: Stat, target: bytes) -> bool:
        if kind is Kind.DIRECTORY:
            return modes.S_ISDIR(found.mode)
        if kind is Kind.LINK:
            return modes.S_ISLNK(found.mode) and self._syscalls.link_target(fd, name) == target
        return modes.S_ISREG(found.mode) and same_object(made, found.stat, False)

    def unpark(self, number: int, path: RelativePath) -> Outcome:
        """Move the parked object `number` to `path`, where nothing may be."""
        refused = refused_path(path)

        def place(fd: int, name: bytes) -> Outcome:
            with self._root.directory(path[:-1]) as target_fd:
                held = self._held(target_fd, path[-1])
                if held is not None:
                    return held
                stat = self._syscalls.status(fd, name).stat
                move_new(self._syscalls, fd, name, target_fd, path[-1])
                self._syscalls.fsync(target_fd)
                self._syscalls.fsync(fd)
                arrived = status_or_none(self._syscalls, target_fd, path[-1])
                return Done(arrived.stat if arrived else stat)

        return Blocked(refused) if refused else self._attempt(parked_path(number), place)

    def place_rescued(self, name: bytes, path: RelativePath) -> Outcome:
        """Move the rescued edit `name` of the staging area to `path`, where nothing may be."""

        def place(fd: int, target: bytes) -> Outcome:
            stat = self._syscalls.status(self.staging.fd, name).stat
            try:
                move_new(self._syscalls, self.staging.fd, name, fd, target)
            except FileExistsError:
                found = status_or_none(self._syscalls, fd, target)
                return Changed(found.stat if found else None, name)
            self._syscalls.fsync(fd)
            arrived = status_or_none(self._syscalls, fd, target)
            return Done(arrived.stat if arrived else stat)

        return self._place(path, place)

    def _held(self, fd: int, name: bytes) -> Blocked | None:
        """Return why this file system cannot hold `name` in the directory `fd` now, or None.

        Where it takes two names for one, what lies under the other must not be replaced by, or merged with, what comes.
        """
        placed = self._rules.place(name, {})
        if isinstance(placed, Held):
            return Blocked(placed.reason)
        if not self._rules.folds or status_or_none(self._syscalls, fd, name) is None:
            return None
        return None if name in self._syscalls.names(fd) else Blocked(Reason.NAME_COLLIDES)

    def _place(self, path: RelativePath, change: Callable[[int, bytes], Outcome]) -> Outcome:
        """`_attempt` to put something at `path`, if the file system can hold the name."""
        return self._attempt(path, lambda fd, name: self._held(fd, name) or change(fd, name))

    def _attempt(self, path: RelativePath, change: Callable[[int, bytes], Outcome]) -> Outcome:
        """Run `change(directory descriptor, name)`; an error of the system becomes Blocked."""
        refused = refused_path(path)
        if refused:
            return Blocked(refused)
        try:
            with self._root.directory(path[:-1]) as fd:
                return change(fd, path[-1])
        except OSError as error:
            return faults.blocked(error)


def _or_undo(step: Callable[[], T], undo: Callable[[], None]) -> T | None:
    """Return what `step`, which follows a move, gives; if it raises OSError undo the move and raise that.

    None if the disk refuses that too: then the move stands as done. Told as not done, it would count as the user's.
    """
    try:
        return step()
    except OSError:
        try:
            undo()
        except OSError:
            return None
        raise
