"""The staging area: where new files are built and outgoing ones are looked at (`docs/spec/disk.md` 2).

Invariant: after a crash everything in it is either ours, and removed, or a user's edit, and kept. An outgoing file's
name says what was expected to come out, so this can be told without any other record.
"""

from __future__ import annotations

import errno
import os
import re
import stat as modes
from collections.abc import Container
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from meshsync.errors import ResourceError, StorageFull
from meshsync.folder import attributes, faults
from meshsync.folder.detect import same_object
from meshsync.folder.linux import Status
from meshsync.folder.root import Root
from meshsync.folder.types import Reason, Stat
from meshsync.limits import FILE_SIZE_BYTES_MAX, FOLDER_STAGING_ENTRIES_MAX, FOLDER_STAGING_FREE_BYTES_MIN
from meshsync.runtime import Runtime

_SWAP = re.compile(rb"swap-([0-9]+)-([0-9]+)-(-?[0-9]+)-([0-9]+)-([0-9]+)-([0-9]+)-(-?[0-9]+)-[0-9a-f]{32}")
NOTHING: Final = Stat(0, 0, 0, 0, 0)
"""Stands for the staged file where an object is taken out and none put in; no object has inode 0."""

_HOLE_BYTES: Final = 4096  # the block size below which a hole saves nothing
_ZEROS: Final = bytes(1 << 20)


@dataclass(frozen=True, slots=True)
class Rescued:
    """A user's edit that a crash left in the staging area under `name`.

    `staged_inode` is the inode of the staged file that it was exchanged with, 0 if it was being removed;
    `expected` is what had been expected there. The caller's intents tell from these to which path it belongs.
    """

    name: bytes
    stat: Stat
    staged_inode: int
    expected: Stat


class Staged:
    """An object in the staging area that is ready to be put in place.

    `name` is its name there: putting it in place may change it, and it is empty once the object is not known to be
    there, so that what came out of the tree instead is never taken for ours. `stat` tells which object it is.
    """

    def __init__(self, name: bytes, stat: Stat) -> None:
        self.name, self.stat = name, stat


class StagedFile(Staged):
    """A new file being built. `stat` is NOTHING until `finish`."""

    def __init__(self, staging: Staging, name: bytes, fd: int, size: int, written_end: int) -> None:
        super().__init__(name, NOTHING)
        self.size = size
        self._staging, self._fd = staging, fd
        self._written_end = written_end

    @property
    def inode(self) -> int:
        return self._staging.syscalls.status(self._fd).stat.inode

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write `data` at `offset` (bytes), within the size. Blocks of zeros beyond all that was written stay holes.

        Raises StorageFull, ResourceError; what was written before stays.
        """
        assert offset >= 0 and offset + len(data) <= self.size
        if offset >= self._written_end and len(data) >= _HOLE_BYTES and _is_zero(data):
            return
        self._written_end = max(self._written_end, offset + len(data))
        view = memoryview(data)
        with _ResourceErrors():
            while view:
                count = self._staging.syscalls.write(self._fd, view, offset)
                view, offset = view[count:], offset + count

    def resize(self, size: int) -> None:
        """Make the file `size` bytes long; what was written below that stays. Raises as `Staging.create`."""
        if size == self.size:
            return
        self._staging.check_room(size, max(0, size - self.size))
        with _ResourceErrors():
            self._staging.syscalls.truncate(self._fd, size)
        self.size, self._written_end = size, min(self._written_end, size)

    def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`, as they would be read after the file is in place."""
        with _ResourceErrors():
            return self._staging.syscalls.read(self._fd, length, offset)

    def finish(self, executable: bool, mtime_ns: int, replaces: Status | None, parent: Status) -> Stat:
        """Set the attributes and make content and attributes durable. Returns the stat that is to be recorded.

        `replaces` is the status of the file to be replaced, whose other mode bits and owner stay, if permitted.
        """
        existing = replaces.mode if replaces and modes.S_ISREG(replaces.mode) else None
        syscalls = self._staging.syscalls
        with _ResourceErrors():
            self._take_owner(replaces if existing is not None else None, parent)
            syscalls.chmod(self._fd, attributes.file_mode(executable, self._staging.umask, existing))
            syscalls.set_mtime(self._fd, mtime_ns)
            syscalls.fsync(self._fd)
            self.stat = syscalls.status(self._fd).stat
        return self.stat

    def _take_owner(self, replaces: Status | None, parent: Status) -> None:
        mine = self._staging.syscalls.status(self._fd)
        uid, gid = (replaces.uid, replaces.gid) if replaces else (mine.uid, mine.gid)
        if replaces is None and parent.mode & modes.S_ISGID:
            gid = parent.gid
        if (uid, gid) != (mine.uid, mine.gid):
            with suppress(PermissionError):  # only root may give files away; the file then belongs to the agent's user
                self._staging.syscalls.chown(self._fd, uid, gid)

    def close(self) -> None:
        """Release the descriptor and keep the file, to be reopened by name or put in place. Twice is once."""
        if self._fd >= 0:
            self._staging.syscalls.close(self._fd)
            self._fd = -1

    def discard(self) -> None:
        """Release the descriptor and remove the file, if it is still in the staging area.

        Never fails, for whoever gives up a file has something else to tell: what the disk refuses to remove now,
        `Staging.clear` removes later.
        """
        with suppress(OSError):
            self.close()
        if self.name:
            self._staging.remove_soon(self.name)


class Staging:
    """The staging area of one open root."""

    def __init__(self, root: Root, runtime: Runtime) -> None:
        self.fd, self.syscalls = root.staging_fd, root.syscalls
        self.umask = attributes.umask()
        self._runtime = runtime
        self._left: dict[bytes, None] = {}  # names that the disk refused to remove

    def remove_soon(self, name: bytes) -> None:
        """Remove a staged file now or, if the disk refuses that, at a later `clear`."""
        try:
            self.syscalls.unlink(self.fd, name)
        except FileNotFoundError:
            pass
        except OSError:
            if len(self._left) < FOLDER_STAGING_ENTRIES_MAX:  # beyond that the next start removes them
                self._left[name] = None

    @property
    def has_left(self) -> bool:
        """Whether there is something to `clear`."""
        return bool(self._left)

    def clear(self) -> None:
        """Try again to remove what the disk refused to remove. Blocking; `has_left` tells whether it refuses still."""
        left, self._left = list(self._left), {}
        for name in left:
            self.remove_soon(name)

    def token(self) -> bytes:
        """Return 32 hex digits that no other name in the area has."""
        return self._runtime.random_bytes(16).hex().encode()

    def create(self, size: int, need: int | None = None) -> StagedFile:
        """Return a new file of `size` bytes, all hole.

        `need` is how many bytes will really be written (`size` if not known). Raises StorageFull if they, and
        FOLDER_STAGING_FREE_BYTES_MIN, are not free, and ResourceError if the file cannot be made; nothing is left then.
        """
        self.check_room(size, size if need is None else need)
        name = b"stage-" + self.token()
        with _ResourceErrors():
            file = StagedFile(self, name, self.syscalls.create(self.fd, name), size, 0)
            try:
                self.syscalls.truncate(file._fd, size)
            except OSError:
                file.discard()
                raise
        return file

    def check_room(self, size: int, need: int) -> None:
        """Raise StorageFull or ResourceError if `need` more bytes for a file of `size` have no room."""
        if not 0 <= size <= FILE_SIZE_BYTES_MAX:
            raise ResourceError(f"a file of {size} bytes is larger than meshsync can hold")
        with _ResourceErrors():
            free = self.syscalls.free_bytes(self.fd)
        wanted = need + FOLDER_STAGING_FREE_BYTES_MIN
        if free < wanted:
            raise StorageFull(f"{wanted} bytes are needed, {free} are free", next_step="Free some space on the disk")

    def reopen(self, name: bytes) -> StagedFile | None:
        """Return the staged file `name` of an earlier run with what was written to it, None if there is none."""
        try:
            fd = self.syscalls.open_for_writing(self.fd, name)
        except OSError as error:
            if error.errno in faults.ABSENT | {errno.ELOOP}:
                return None
            raise _resource_error(error) from error
        size = self.syscalls.status(fd).stat.size
        return StagedFile(self, name, fd, size, size)

    def swap_name(self, staged: Stat, expected: Stat) -> bytes:
        """Return a fresh name under which `staged` goes into the tree and `expected` is to come out."""
        numbers = (staged.inode, staged.size, staged.mtime_ns, *expected[:4])
        return b"swap-%d-%d-%d-%d-%d-%d-%d-%s" % (*numbers, self.token())

    def recover(self, known: Container[bytes] = ()) -> list[Rescued]:
        """Remove what a crash left behind and return the users' edits found among it, which stay where they are.

        `known` are the names of staged files to keep for `reopen`. To be called before anything else is applied.
        Raises ResourceError if the area cannot be read or written.
        """
        rescued: list[Rescued] = []
        with _ResourceErrors():
            for name in self.syscalls.names(self.fd)[:FOLDER_STAGING_ENTRIES_MAX]:
                if name in known:
                    continue
                found = self._rescue(name)
                if found is None:
                    self.remove(name)
                else:
                    rescued.append(found)
        return rescued

    def _rescue(self, name: bytes) -> Rescued | None:
        swap = _SWAP.fullmatch(name)
        if swap is None:
            return None
        staged_inode, staged_size, staged_mtime_ns, inode, birth_ns, size, mtime_ns = map(int, swap.groups())
        staged = Stat(staged_inode, 0, staged_size, staged_mtime_ns, 0)
        expected = Stat(inode, birth_ns, size, mtime_ns, 0)
        status = self.syscalls.status(self.fd, name)
        directory = modes.S_ISDIR(status.mode)
        ours = same_object(staged, status.stat, directory) or same_object(expected, status.stat, directory)
        if ours and not (directory and self._has_entries(name)):
            return None
        return Rescued(name, status.stat, staged_inode, expected)

    def _has_entries(self, name: bytes) -> bool:
        fd = self.syscalls.open_directory(self.fd, name)
        try:
            return bool(self.syscalls.names(fd))
        finally:
            self.syscalls.close(fd)

    def remove(self, name: bytes) -> None:
        """Remove a file, link or empty directory of the area. Raises OSError."""
        if modes.S_ISDIR(self.syscalls.status(self.fd, name).mode):
            self.syscalls.remove_directory(self.fd, name)
        else:
            self.syscalls.unlink(self.fd, name)


class _ResourceErrors:
    """Turns OSError into ResourceError, the disk's and the quota's fullness into StorageFull."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise _resource_error(error) from error


def _resource_error(error: OSError) -> ResourceError:
    found = faults.reason(error)
    if found is Reason.NO_SPACE:
        return StorageFull("no space is left on the device", next_step="Free some space on the disk")
    return ResourceError(f"the staging area cannot be used: {error.strerror or os.strerror(error.errno or 0)}")


def _is_zero(data: bytes | memoryview) -> bool:
    return not data[0] and len(data) <= len(_ZEROS) and bytes(data) == _ZEROS[: len(data)]
