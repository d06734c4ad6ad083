"""The only door to fsync, rename and truncate. Invariant: what returned from a `sync` call survives a power cut.

Everything that must be durable goes through a `Files`, so that a test can stop the world at call n and drop, tear or
undo what was not synced yet.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from meshsync.crypto.hashing import Buffer
from meshsync.errors import ResourceError, StorageFull

WRITE_BUFFERS_MAX = 512  # buffers in one system call; Linux takes 1024
FILE_MODE = 0o600
DIRECTORY_MODE = 0o700


class Files(Protocol):
    """The system calls of a durable store. Every method may raise OSError."""

    def create(self, path: Path) -> int:
        """Create a file, which must not exist, for reading and writing by this user only; return its descriptor."""

    def open(self, path: Path) -> int:
        """Open an existing file for reading and writing and return its descriptor."""

    def close(self, fd: int) -> None:
        """Close a descriptor."""

    def write(self, fd: int, offset: int, buffers: Sequence[Buffer]) -> None:
        """Write all `buffers`, one after the other, at `offset` in bytes."""

    def truncate(self, fd: int, size: int) -> None:
        """Set the file's size in bytes."""

    def sync(self, fd: int) -> None:
        """Return when the file's bytes and size are durable."""

    def rename(self, old: Path, new: Path) -> None:
        """Give `old` the name `new`, replacing what has it. Durable after `sync_directory`."""

    def unlink(self, path: Path) -> None:
        """Remove a file's name. Durable after `sync_directory`."""

    def sync_directory(self, path: Path) -> None:
        """Return when the names in the directory `path` are durable."""


class SystemFiles:
    """`Files` of the operating system."""

    def create(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def close(self, fd: int) -> None:
        os.close(fd)

    def write(self, fd: int, offset: int, buffers: Sequence[Buffer]) -> None:
        pending = [memoryview(buffer) for buffer in buffers]
        while pending:
            group = pending[:WRITE_BUFFERS_MAX]
            written = os.pwritev(fd, group, offset)
            offset += written
            rest = _after(group, written)
            pending = rest + pending[WRITE_BUFFERS_MAX:]

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def sync(self, fd: int) -> None:
        os.fdatasync(fd)

    def rename(self, old: Path, new: Path) -> None:
        old.replace(new)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def sync_directory(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _after(buffers: list[memoryview], written: int) -> list[memoryview]:
    """Return what remains of `buffers` once their first `written` bytes are gone."""
    for position, buffer in enumerate(buffers):
        if written < len(buffer):
            return [buffer[written:], *buffers[position + 1 :]]
        written -= len(buffer)
    return []


def write_atomic(files: Files, path: Path, data: Buffer) -> None:
    """Make `data` the whole content of `path`, durably: afterwards, and after a crash at any point, the file holds
    the old bytes or the new ones. A left-over of an earlier crash is replaced. Raises ResourceError."""
    staged = path.with_name(path.name + ".new")
    try:
        if staged.exists():
            files.unlink(staged)
        fd = files.create(staged)
        try:
            files.write(fd, 0, [data])
            files.sync(fd)
        finally:
            files.close(fd)
        files.rename(staged, path)
        files.sync_directory(path.parent)
    except OSError as error:
        raise disk_error(error, path) from error


def make_directory(files: Files, path: Path) -> None:
    """Create directory `path` and its parents durably, for this user only. No effect if it exists.

    Raises ResourceError."""
    try:
        missing = [parent for parent in (path, *path.parents) if not parent.exists()]
        for parent in reversed(missing):
            parent.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
            files.sync_directory(parent.parent)
    except OSError as error:
        raise disk_error(error, path) from error


def disk_error(error: OSError, path: Path) -> ResourceError:
    """Return the typed error for a failed system call: StorageFull if space or quota ran out, else ResourceError."""
    kind = StorageFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else ResourceError
    return kind(f"the disk refused: {error.strerror or error}", path=str(path))
