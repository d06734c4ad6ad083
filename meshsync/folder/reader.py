"""Reading the user's files. Invariant: a file that changes while it is read is never reported as read.

Files are opened by descriptor without following links and only if they are regular files; a FIFO or device that is
put in a file's place is not opened, and opening never waits.
"""

from __future__ import annotations

import errno
import os
import stat as modes
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from meshsync.folder import attributes, faults
from meshsync.folder.detect import is_racy
from meshsync.folder.linux import Status
from meshsync.folder.root import Root
from meshsync.folder.types import Blocked, Changed, RelativePath, Stat
from meshsync.limits import FOLDER_RANGE_BYTES_MAX, FOLDER_READ_WINDOW_BYTES, FOLDER_WRITEBACK_WINDOW_NS

Buffer: TypeAlias = bytes | bytearray | memoryview


class Cutter(Protocol):
    """Cuts a stream of windows into chunks (`chunking.cut.Cutter`)."""

    def feed(self, window: bytes, last: bool, /) -> Iterable[Buffer]:
        """Take the next window and return the chunks that are complete; with `last`, all that remain."""


@dataclass(frozen=True, slots=True)
class Read:
    """A file was read whole and did not change meanwhile.

    `racy`: a later write could leave `stat` as it is (`detect.is_racy`): read it again after
    FOLDER_RACY_WINDOW_NS before trusting an equal stat.
    """

    stat: Stat
    executable: bool
    racy: bool


def read_file(
    root: Root, path: RelativePath, cutter: Cutter, take: Callable[[Buffer], None], now_ns: Callable[[], int]
) -> Read | Changed | Blocked:
    """Read the file at `path`, giving each of its chunks to `take` in order. Blocking; memory O(window).

    `now_ns` is the wall clock (`Runtime.wall_time_ns`). Chunks given before Changed or Blocked belong to no version
    and must be dropped. An empty file gives no chunk. What `take` raises passes through.
    """
    try:
        with _regular_file(root, path) as (fd, first):
            started_ns = now_ns()
            if abs(started_ns - first.stat.ctime_ns) <= FOLDER_WRITEBACK_WINDOW_NS:
                _flush(root, fd)
            before = root.syscalls.status(fd)
            size = _cut(root, fd, before.stat.size, cutter, take)
            after = root.syscalls.status(fd)
            with root.directory(path[:-1]) as parent_fd:
                named = root.syscalls.status(parent_fd, path[-1])
    except _NotAFile as error:
        return Changed(error.stat)
    except OSError as error:
        return Changed(None) if error.errno in faults.ABSENT | {errno.ELOOP} else faults.blocked(error)
    if not (before.stat == after.stat == named.stat and size == before.stat.size):
        return Changed(named.stat)
    return Read(after.stat, attributes.executable(after.mode), is_racy(after.stat, started_ns))


def read_range(
    root: Root, path: RelativePath, offset: int, length: int, expected: Stat | None = None
) -> bytes | Changed | Blocked:
    """Return `length` bytes of the file at `path` from `offset`; both in bytes, `length` ≤ FOLDER_RANGE_BYTES_MAX.

    Changed if it is not `expected` (where given) or ends before the range does. The caller checks the chunk id:
    an equal stat is a hint, not a proof.
    """
    assert offset >= 0 and 0 <= length <= FOLDER_RANGE_BYTES_MAX
    try:
        with _regular_file(root, path) as (fd, status):
            if expected is not None and status.stat != expected:
                return Changed(status.stat)
            data = _read_fully(root, fd, length, offset)
    except _NotAFile as error:
        return Changed(error.stat)
    except OSError as error:
        return Changed(None) if error.errno in faults.ABSENT | {errno.ELOOP} else faults.blocked(error)
    return data if len(data) == length else Changed(status.stat)


def read_start(root: Root, path: RelativePath, size_max: int) -> bytes | Changed | Blocked:
    """Return the first `size_max` bytes (≤ FOLDER_RANGE_BYTES_MAX) of the file at `path`, fewer if it is shorter.

    Changed(None) if there is none. For `.meshignore`: give IGNORE_BYTES_MAX + 1, so that a longer one is reported.
    """
    assert 0 <= size_max <= FOLDER_RANGE_BYTES_MAX
    try:
        with _regular_file(root, path) as (fd, _):
            return _read_fully(root, fd, size_max, 0)
    except _NotAFile as error:
        return Changed(error.stat)
    except OSError as error:
        return Changed(None) if error.errno in faults.ABSENT | {errno.ELOOP} else faults.blocked(error)


def read_ranges(root: Root, path: RelativePath, ranges: Sequence[tuple[int, int]]) -> list[bytes | None]:
    """Return the bytes of each (offset, length) of the file at `path`; None where it ends before the range does.

    Opens the file once. All None if it cannot be read. As with `read_range` the caller checks what it gets.
    """
    try:
        with _regular_file(root, path) as (fd, _):
            found = [_read_fully(root, fd, length, offset) for offset, length in ranges]
    except (_NotAFile, OSError):
        return [None] * len(ranges)
    return [data if len(data) == length else None for data, (_, length) in zip(found, ranges, strict=True)]


class _NotAFile(Exception):
    def __init__(self, stat: Stat) -> None:
        super().__init__()
        self.stat = stat


@contextmanager
def _regular_file(root: Root, path: RelativePath) -> Iterator[tuple[int, Status]]:
    """Give (descriptor, status) of the regular file at `path`. Raises _NotAFile, OSError."""
    if not path:
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    with root.directory(path[:-1]) as parent_fd:
        named = root.syscalls.status(parent_fd, path[-1])
        if not modes.S_ISREG(named.mode):
            raise _NotAFile(named.stat)
        fd = root.syscalls.open_file(parent_fd, path[-1])
    try:
        opened = root.syscalls.status(fd)
        if not modes.S_ISREG(opened.mode):
            raise _NotAFile(opened.stat)
        yield fd, opened
    finally:
        root.syscalls.close(fd)


def _flush(root: Root, fd: int) -> None:
    """Make later writes through memory maps visible in mtime: a page that is dirty already would not touch it."""
    try:
        root.syscalls.start_writeback(fd)
    except OSError as error:
        if error.errno not in faults.CANNOT:
            raise


def _cut(root: Root, fd: int, size: int, cutter: Cutter, take: Callable[[Buffer], None]) -> int:
    """Feed the file to `cutter` until it ends or exceeds `size`, which a growing file would do for ever."""
    offset = 0
    while offset <= size:
        window = _read_fully(root, fd, FOLDER_READ_WINDOW_BYTES, offset)
        offset += len(window)
        last = len(window) < FOLDER_READ_WINDOW_BYTES
        for chunk in cutter.feed(window, last):
            take(chunk)
        if last:
            break
    return offset


def _read_fully(root: Root, fd: int, length: int, offset: int) -> bytes:
    """Return `length` bytes, fewer only at the end of the file."""
    data = root.syscalls.read(fd, length, offset)
    if len(data) == length or not data:
        return data
    parts = [data]
    missing = length - len(data)
    while missing:
        data = root.syscalls.read(fd, missing, offset + length - missing)
        if not data:
            break
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)
