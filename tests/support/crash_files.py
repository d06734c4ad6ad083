"""A disk that stops at call n and then forgets, in a chosen way, what was not synced. For small append-mostly files."""

from __future__ import annotations

import enum
import os
from collections.abc import Sequence
from pathlib import Path

from meshsync.crypto.hashing import Buffer
from meshsync.store.files import SystemFiles


class Crash(BaseException):
    """The machine stopped here."""


class Unsynced(enum.Enum):
    """What a power cut leaves of bytes and names that were written but not synced."""

    KEPT = "kept"
    LOST = "lost"
    TORN = "torn"  # half of the bytes
    ZEROED = "zeroed"  # the size arrived, the bytes did not
    REORDERED = "reordered"  # the second half arrived, the first did not


class CrashFiles(SystemFiles):
    """`Files` that raise Crash instead of making call number `crash_at` (from 0), and at every later one."""

    def __init__(self, crash_at: int | None = None) -> None:
        self.calls = 0
        self._crash_at = crash_at
        self._durable: dict[int, bytes] = {}  # inode → content at its last sync
        self._names: dict[Path, dict[str, int]] = {}  # directory → name → inode at its last sync

    def _count(self) -> None:
        self.calls += 1
        if self._crash_at is not None and self.calls > self._crash_at:
            raise Crash

    def create(self, path: Path) -> int:
        self._count()
        self._remember(path.parent)
        fd = super().create(path)
        self._durable.pop(os.fstat(fd).st_ino, None)  # of a removed file whose inode is used again
        return fd

    def open(self, path: Path) -> int:
        fd = super().open(path)
        self._remember(path.parent)
        self._durable.setdefault(os.fstat(fd).st_ino, path.read_bytes())
        return fd

    def write(self, fd: int, offset: int, buffers: Sequence[Buffer]) -> None:
        self._count()
        super().write(fd, offset, buffers)

    def truncate(self, fd: int, size: int) -> None:
        self._count()
        super().truncate(fd, size)

    def sync(self, fd: int) -> None:
        self._count()
        self._durable[os.fstat(fd).st_ino] = os.pread(fd, os.fstat(fd).st_size, 0)

    def rename(self, old: Path, new: Path) -> None:
        self._count()
        self._remember(new.parent)
        super().rename(old, new)

    def unlink(self, path: Path) -> None:
        self._count()
        self._remember(path.parent)
        super().unlink(path)

    def sync_directory(self, path: Path) -> None:
        self._count()
        self._names[path] = _names(path)

    def _remember(self, directory: Path) -> None:
        self._names.setdefault(directory, _names(directory))

    def power_cut(self, directory: Path, variant: Unsynced) -> None:
        """Make the files of `directory` what a power cut leaves of them. Removed names do not come back."""
        if variant is Unsynced.KEPT:
            return
        durable_names = self._names.get(directory, {})
        for name, inode in _names(directory).items():
            path = directory / name
            if inode not in self._durable and durable_names.get(name) != inode:
                if variant is Unsynced.LOST and path.suffix == ".pack":
                    path.unlink()
                    continue
                self._durable[inode] = b""
            if inode in self._durable:
                path.write_bytes(_left(self._durable[inode], path.read_bytes(), variant))


def _names(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in directory.iterdir() if path.suffix == ".pack"}


def _left(durable: bytes, written: bytes, variant: Unsynced) -> bytes:
    tail = written[len(durable) :]
    half = len(tail) // 2
    if variant is Unsynced.LOST:
        return durable
    if variant is Unsynced.TORN:
        return durable + tail[:half]
    if variant is Unsynced.ZEROED:
        return durable + bytes(len(tail))
    return durable + bytes(half) + tail[half:]
