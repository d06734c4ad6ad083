"""The control directory `<root>/.meshsync/`: the folder's marker and the staging area (`docs/spec/disk.md` 1).

Invariant: it is a real directory with mode 0700 on the root's own file system, and its marker names exactly one folder.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress
from typing import Final

from meshsync.errors import ConfigError, ResourceError
from meshsync.folder import faults
from meshsync.folder.names import CONTROL_NAME
from meshsync.folder.syscalls import Syscalls
from meshsync.ids import FolderId
from meshsync.limits import FOLDER_MARKER_BYTES_MAX

MARKER_NAME: Final = b"folder"
STAGING_NAME: Final = b"staging"
_MARKER_NEW: Final = b"folder.new"
_MARKER = re.compile(rb"meshsync folder 1\n([0-9a-f]{64})\n")


def marker_bytes(folder: FolderId) -> bytes:
    """Return the marker's content for `folder`."""
    return b"meshsync folder 1\n" + folder.hex().encode() + b"\n"


def parse_marker(data: bytes) -> FolderId | None:
    """Return the folder that a marker names, None if `data` is not one."""
    found = _MARKER.fullmatch(data)
    return FolderId(bytes.fromhex(found[1].decode())) if found else None


def create(root: bytes, folder: FolderId, syscalls: Syscalls) -> None:
    """Make the existing directory `root` (absolute path) the root of `folder`. Repeating it changes nothing.

    Raises ConfigError if it is the root of another folder or not a directory, ResourceError if it cannot be written.
    The marker appears last and complete, so a directory with a marker has all that a root needs.
    """
    try:
        root_fd = syscalls.open_root(root)
    except OSError as error:
        raise ConfigError(
            f"cannot open the directory: {error.strerror}", path=os.fsdecode(root), next_step="Create it first"
        ) from error
    try:
        _create_in(root_fd, folder, syscalls)
    except OSError as error:
        raise ResourceError(f"cannot set up the folder: {error.strerror}", path=os.fsdecode(root)) from error
    finally:
        syscalls.close(root_fd)


def _create_in(root_fd: int, folder: FolderId, syscalls: Syscalls) -> None:
    control_fd = _private_directory(root_fd, CONTROL_NAME, syscalls)
    try:
        present = read_marker(control_fd, syscalls)
        if present is not None:
            if present != folder:
                raise ConfigError("the directory is the root of another folder", next_step="Choose another directory")
            return
        syscalls.close(_private_directory(control_fd, STAGING_NAME, syscalls))
        _write_marker(control_fd, folder, syscalls)
        syscalls.fsync(root_fd)
    finally:
        syscalls.close(control_fd)


def _private_directory(parent_fd: int, name: bytes, syscalls: Syscalls) -> int:
    with suppress(FileExistsError):
        syscalls.make_directory(parent_fd, name, 0o700)
    fd = syscalls.open_directory(parent_fd, name)
    syscalls.chmod(fd, 0o700)
    return fd


def _write_marker(control_fd: int, folder: FolderId, syscalls: Syscalls) -> None:
    with suppress(FileNotFoundError):
        syscalls.unlink(control_fd, _MARKER_NEW)
    fd = syscalls.create(control_fd, _MARKER_NEW)
    try:
        syscalls.write(fd, marker_bytes(folder), 0)
        syscalls.fsync(fd)
    finally:
        syscalls.close(fd)
    syscalls.rename(control_fd, _MARKER_NEW, control_fd, MARKER_NAME)
    syscalls.fsync(control_fd)


def read_marker(control_fd: int, syscalls: Syscalls) -> FolderId | None:
    """Return the folder named by the marker, None if there is none or it is not a marker. Raises OSError otherwise."""
    try:
        fd = syscalls.open_file(control_fd, MARKER_NAME)
    except OSError as error:
        if error.errno in faults.ABSENT or error.errno == errno.ELOOP:
            return None
        raise
    try:
        return parse_marker(syscalls.read(fd, FOLDER_MARKER_BYTES_MAX, 0))
    finally:
        syscalls.close(fd)
