"""Putting objects into the tree and taking them out, in one step each, then looking at what came out.

Invariant: what comes out of the tree is removed only if it is what was expected; anything else is a user's edit and
goes back to its path or stays, named, in the staging area. At every moment the path holds the whole old or the whole
new object, on systems with renameat2 (elsewhere: see each function).
"""

from __future__ import annotations

import errno
import stat as modes
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple, TypeAlias

from meshsync.folder import faults
from meshsync.folder.detect import same_object
from meshsync.folder.linux import Status
from meshsync.folder.staging import NOTHING, Staged, Staging
from meshsync.folder.syscalls import Syscalls
from meshsync.folder.types import Blocked, Changed, Done, Outcome, Reason, Stat

Keep: TypeAlias = Callable[[int], None]
"""Gets a read-only descriptor of an outgoing regular file before it is removed, to keep its content."""

NO_LINKS: Final = faults.CANNOT | {errno.EPERM, errno.EMLINK, errno.EXDEV}


class Entry(NamedTuple):
    """A name in a directory that is open."""

    fd: int
    name: bytes


def status_or_none(syscalls: Syscalls, fd: int, name: bytes) -> Status | None:
    """Return the status of `name` in the directory `fd`, None if there is nothing."""
    try:
        return syscalls.status(fd, name)
    except FileNotFoundError:
        return None


def is_expected(found: Status | None, expected: Stat | None) -> bool:
    """Return whether a path still holds exactly what the scan saw; a directory: the same directory."""
    if found is None or expected is None:
        return found is None and expected is None
    return found.stat == expected or (modes.S_ISDIR(found.mode) and same_object(expected, found.stat, True))


def came_out(expected: Stat, found: Status) -> bool:
    """Return whether `found`, just renamed, is the object `expected` and was not edited."""
    return same_object(expected, found.stat, modes.S_ISDIR(found.mode))


def move_new(syscalls: Syscalls, old_fd: int, old: bytes, new_fd: int, new: bytes) -> None:
    """Rename without replacing anything. Raises FileExistsError if the new name is taken.

    Where renameat2 is missing a file is linked and unlinked, which is as safe but shows two names for a moment;
    directories, and file systems without hard links, are looked at first and then renamed.
    """
    try:
        syscalls.rename_new(old_fd, old, new_fd, new)
        return
    except OSError as error:
        if error.errno not in faults.CANNOT:
            raise
    try:
        syscalls.link(old_fd, old, new_fd, new)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
    else:
        try:
            syscalls.unlink(old_fd, old)
        except OSError:
            with suppress(OSError):  # one file under two names would count as the user's second file
                syscalls.unlink(new_fd, new)
            raise
        return
    if status_or_none(syscalls, new_fd, new) is not None:
        raise FileExistsError(errno.EEXIST, "the name is taken")
    syscalls.rename(old_fd, old, new_fd, new)


class DirectorySync:
    """Makes directory entries durable: at once, or between `begin` and `end` once for each directory."""

    def __init__(self, syscalls: Syscalls) -> None:
        self._syscalls = syscalls
        self._waiting: dict[int, int] | None = None

    def sync(self, fd: int) -> None:
        """Make the entries of the directory `fd` durable, or see to it that `end` does. Raises OSError."""
        if self._waiting is None:
            self._syscalls.fsync(fd)
            return
        inode = self._syscalls.status(fd).stat.inode
        if inode not in self._waiting:
            self._waiting[inode] = self._syscalls.duplicate(fd)

    def begin(self) -> None:
        """Put syncs off until `end`; nothing may be recorded as done before that."""
        assert self._waiting is None, "one batch at a time"
        self._waiting = {}

    def end(self) -> None:
        """Do the syncs that were put off. Raises the first OSError, after trying all."""
        waiting, self._waiting = self._waiting or {}, None
        failed: OSError | None = None
        for fd in waiting.values():
            try:
                self._syscalls.fsync(fd)
            except OSError as error:
                failed = failed or error
            finally:
                self._syscalls.close(fd)
        if failed is not None:
            raise failed


class Swapper:
    """Moves objects between the staging area and directories of the tree, given by descriptor. Raises OSError."""

    def __init__(self, staging: Staging) -> None:
        self._staging, self._syscalls = staging, staging.syscalls
        self.directories = DirectorySync(staging.syscalls)

    def put(self, staged: Staged, at: Entry, expected: Stat | None, keep: Keep | None = None) -> Outcome:
        """Put a staged object at `at`, where `expected` lies, or nothing if None.

        `staged.name` follows the object; it is empty once it is not known to be in the staging area.
        """
        found = status_or_none(self._syscalls, *at)
        if not is_expected(found, expected):
            return Changed(found.stat if found else None)
        if expected is None:
            return self._put_new(staged, at)
        swap = self._staging.swap_name(staged.stat, expected)
        self._syscalls.rename(self._staging.fd, staged.name, self._staging.fd, swap)
        staged.name = swap
        try:
            self._syscalls.exchange(self._staging.fd, swap, *at)
        except FileNotFoundError:
            return Changed(None)
        except OSError as error:
            if error.errno not in faults.CANNOT:
                raise
            return self._put_without_exchange(staged, at, expected, keep)
        staged.name = b""
        return self._look(swap, staged, at, expected, keep)

    def _put_new(self, staged: Staged, at: Entry) -> Outcome:
        try:
            move_new(self._syscalls, self._staging.fd, staged.name, *at)
        except FileExistsError:
            found = status_or_none(self._syscalls, *at)
            return Changed(found.stat if found else None)
        staged.name = b""
        self.directories.sync(at.fd)
        return self._done(staged.stat, at)

    def _look(self, swap: bytes, staged: Staged, at: Entry, expected: Stat, keep: Keep | None) -> Outcome:
        """Remove what came out if it is `expected`, which the new directory entry must outlive a power cut for."""
        out = None
        try:
            out = self._syscalls.status(self._staging.fd, swap)
            if came_out(expected, out):
                self._syscalls.fsync(at.fd)
                self._remove(swap, out, keep)
                return self._done(staged.stat, at)
        except OSError as error:
            return self._undo(swap, staged, at, out, error)
        return Changed(out.stat, self._put_back(swap, staged, at))

    def _undo(self, swap: bytes, staged: Staged, at: Entry, out: Status | None, error: OSError) -> Outcome:
        """Give the path back what it had, `out` if that is known.

        What is here and not recorded as applied would count as the user's. For the same reason it stands as done if
        the disk refuses that too; what came out then stays in the staging area until the next start. Raises `error` if
        it was undone and the reason is none of the path's own.
        """
        try:
            rescued = self._put_back(swap, staged, at)
        except OSError:
            return self._done(staged.stat, at)
        if rescued:
            return Changed(staged.stat if out is None else out.stat, rescued)
        if error.errno in faults.NOT_EMPTY:
            return Blocked(Reason.NOT_EMPTY)
        raise error

    def _put_back(self, swap: bytes, staged: Staged, at: Entry) -> bytes:
        """Give the path back what came out of it. Returns the name of an edit that stays in the staging area, or none.

        If the user wrote to the path once more meanwhile, that edit comes out here and is the one that stays. Raises
        OSError only if the path was not given back.
        """
        try:
            self._syscalls.exchange(self._staging.fd, swap, *at)
        except FileNotFoundError:
            return self._give_back(swap, at)
        rescued = b""
        with suppress(OSError):  # what cannot be told apart stays until the next start, which looks at it again
            is_staged = came_out(staged.stat, self._syscalls.status(self._staging.fd, swap))
            staged.name, rescued = (swap, b"") if is_staged else (b"", swap)
            self._syscalls.fsync(at.fd)
        return rescued

    def _give_back(self, swap: bytes, at: Entry) -> bytes:
        try:
            move_new(self._syscalls, self._staging.fd, swap, *at)
        except (FileExistsError, FileNotFoundError):  # taken by its user, or gone with its directory
            return swap
        with suppress(OSError):  # it is given back; the next change there makes it durable
            self._syscalls.fsync(at.fd)
        return b""

    def _put_without_exchange(self, staged: Staged, at: Entry, expected: Stat, keep: Keep | None) -> Outcome:
        """Replace by plain rename, right after a last look. An edit that lands between the two is lost: `disk.md` 5.

        Between types, where rename cannot replace, the old object is taken out first and the path is empty meanwhile.
        """
        found = status_or_none(self._syscalls, *at)
        if found is None or not is_expected(found, expected):
            return Changed(found.stat if found else None)
        new = self._syscalls.status(self._staging.fd, staged.name)
        if not modes.S_ISDIR(found.mode) and not modes.S_ISDIR(new.mode):
            self._keep(at, found, keep)
            self._syscalls.rename(self._staging.fd, staged.name, *at)
            staged.name = b""
            self._syscalls.fsync(at.fd)
            return self._done(staged.stat, at)
        if modes.S_ISDIR(found.mode):
            self._syscalls.remove_directory(*at)
        else:
            taken = self.take_out(at, expected, keep)
            if not isinstance(taken, Done):
                return taken
        return self._put_new(staged, at)

    def take_out(self, at: Entry, expected: Stat, keep: Keep | None = None) -> Outcome:
        """Remove the file or link `expected` at `at`."""
        found = status_or_none(self._syscalls, *at)
        if found is None or not is_expected(found, expected) or modes.S_ISDIR(found.mode):
            return Changed(found.stat if found else None)
        swap = self._staging.swap_name(NOTHING, expected)
        try:
            self._syscalls.rename(*at, self._staging.fd, swap)
        except FileNotFoundError:
            return Changed(None)
        try:
            out = self._syscalls.status(self._staging.fd, swap)
            if not came_out(expected, out) or modes.S_ISDIR(out.mode):
                return Changed(out.stat, self._give_back(swap, at))
            self._syscalls.fsync(at.fd)
            self._remove(swap, out, keep)
        except OSError:
            with suppress(OSError):  # the disk refuses that too: it stays in the staging area until the next start
                self._give_back(swap, at)
            raise
        return Done(None)

    def _remove(self, swap: bytes, out: Status, keep: Keep | None) -> None:
        self._keep(Entry(self._staging.fd, swap), out, keep)
        self._staging.remove(swap)

    def _keep(self, at: Entry, found: Status, keep: Keep | None) -> None:
        if keep is not None and modes.S_ISREG(found.mode):
            fd = self._syscalls.open_file(*at)
            try:
                keep(fd)
            finally:
                self._syscalls.close(fd)

    def _done(self, staged: Stat, at: Entry) -> Done:
        """Return the stat to record: if the user was faster, the staged one, which the next scan will see differs."""
        found = None
        with suppress(OSError):
            found = status_or_none(self._syscalls, *at)
        return Done(found.stat if found and came_out(staged, found) else staged)
