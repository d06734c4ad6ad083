"""A folder's root, held by descriptor. Invariant: nothing outside the directory opened here is ever resolved.

Directories are opened with openat2 (no links, no mount points, nothing above the root) or, where the kernel lacks it,
component by component without following links. What is done then is done by descriptor, so a directory that is
swapped for a link afterwards redirects nothing.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from meshsync.folder import control
from meshsync.folder.names import CONTROL_NAME
from meshsync.folder.syscalls import Syscalls
from meshsync.folder.types import RelativePath, RootMissing, RootState
from meshsync.ids import FolderId
from meshsync.limits import FOLDER_OPEN_TRIES_MAX, FOLDER_PATH_SEGMENT_BYTES_MAX

_NO_OPENAT2: Final = frozenset({errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.E2BIG})


class Root:
    """The open root directory of one folder, with its staging area. Close it when done."""

    def __init__(self, path: bytes, folder: FolderId, fd: int, staging_fd: int, syscalls: Syscalls) -> None:
        self.path, self.folder, self.syscalls = path, folder, syscalls
        self.fd, self.staging_fd = fd, staging_fd
        status = syscalls.status(fd)
        self.device = status.device
        self._inode = status.stat.inode
        self._beneath = _has_openat2(fd, syscalls)

    def close(self) -> None:
        """Release the descriptors. The object is unusable afterwards."""
        self.syscalls.close(self.staging_fd)
        self.syscalls.close(self.fd)

    def check(self) -> RootMissing | None:
        """Return None if the path still leads to this very directory with its marker, else what is wrong.

        Asked before and after a scan, it keeps an unmounted disk from looking like an emptied folder.
        """
        fd = _open_root_path(self.path, self.syscalls)
        if isinstance(fd, RootMissing):
            return fd
        try:
            status = self.syscalls.status(fd)
            if (status.device, status.stat.inode) != (self.device, self._inode):
                return RootMissing(RootState.MARKER_MISSING)
            return _check_marker(fd, self.folder, self.syscalls)
        except OSError:
            return RootMissing(RootState.UNREADABLE)
        finally:
            self.syscalls.close(fd)

    @contextmanager
    def directory(self, path: RelativePath) -> Iterator[int]:
        """Give a descriptor of the directory at `path`, closed on leaving.

        Raises OSError: ENOENT or ENOTDIR or ELOOP if a component is missing, a file or a link, EXDEV at a mount point.
        """
        fd = self._open(path)
        try:
            yield fd
        finally:
            self.syscalls.close(fd)

    def _open(self, path: RelativePath) -> int:
        if not path:
            return self.syscalls.open_directory(self.fd, b".")
        if self._beneath:
            return self._open_segments(path)
        return self._open_steps(self.fd, path)

    def _open_segments(self, path: RelativePath) -> int:
        """Open `path` with as few calls as the length limit of one call allows."""
        fd = self.fd
        for segment in _segments(path):
            try:
                below = self._open_beneath(fd, segment)
            finally:
                if fd != self.fd:
                    self.syscalls.close(fd)
            fd = below
        return fd

    def _open_beneath(self, fd: int, segment: RelativePath) -> int:
        for _ in range(FOLDER_OPEN_TRIES_MAX):
            try:
                return self.syscalls.open_beneath(fd, b"/".join(segment))
            except BlockingIOError:
                continue
        return self._open_steps(fd, segment)

    def _open_steps(self, start_fd: int, path: RelativePath) -> int:
        """Open `path` one component at a time, never through a link or onto another file system."""
        fd = start_fd
        for name in path:
            try:
                below = self.syscalls.open_directory(fd, name)
            finally:
                if fd != start_fd:
                    self.syscalls.close(fd)
            fd = below
            if self.syscalls.status(fd).device != self.device:
                self.syscalls.close(fd)
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return fd


def open_root(path: bytes, folder: FolderId, syscalls: Syscalls) -> Root | RootMissing:
    """Open the root of `folder` at the absolute `path`, or tell why it cannot be believed. Writes nothing.

    The control directory is one that `control.create` made; a missing staging area counts as a missing marker.
    """
    fd = _open_root_path(path, syscalls)
    if isinstance(fd, RootMissing):
        return fd
    missing = _check_marker(fd, folder, syscalls)
    if missing is not None:
        syscalls.close(fd)
        return missing
    try:
        control_fd = syscalls.open_directory(fd, CONTROL_NAME)
        try:
            staging_fd = syscalls.open_directory(control_fd, control.STAGING_NAME)
        finally:
            syscalls.close(control_fd)
    except OSError:
        syscalls.close(fd)
        return RootMissing(RootState.MARKER_MISSING)
    try:
        return Root(path, folder, fd, staging_fd, syscalls)
    except OSError:
        syscalls.close(staging_fd)
        syscalls.close(fd)
        return RootMissing(RootState.UNREADABLE)


def _open_root_path(path: bytes, syscalls: Syscalls) -> int | RootMissing:
    try:
        return syscalls.open_root(path)
    except (FileNotFoundError, NotADirectoryError):
        return RootMissing(RootState.MISSING)
    except OSError:
        return RootMissing(RootState.UNREADABLE)


def _check_marker(fd: int, folder: FolderId, syscalls: Syscalls) -> RootMissing | None:
    try:
        control_fd = syscalls.open_directory(fd, CONTROL_NAME)
    except OSError:
        return RootMissing(RootState.MARKER_MISSING)
    try:
        found = control.read_marker(control_fd, syscalls)
    except OSError:
        return RootMissing(RootState.UNREADABLE)
    finally:
        syscalls.close(control_fd)
    if found is None:
        return RootMissing(RootState.MARKER_MISSING)
    return None if found == folder else RootMissing(RootState.OTHER_FOLDER)


def _has_openat2(fd: int, syscalls: Syscalls) -> bool:
    try:
        syscalls.close(syscalls.open_beneath(fd, b"."))
    except OSError as error:
        if error.errno in _NO_OPENAT2:
            return False
        raise
    return True


def _segments(path: RelativePath) -> Iterator[RelativePath]:
    start = size = 0
    for index, name in enumerate(path):
        if size + len(name) + 1 > FOLDER_PATH_SEGMENT_BYTES_MAX:
            yield path[start:index]
            start, size = index, 0
        size += len(name) + 1
    yield path[start:]
