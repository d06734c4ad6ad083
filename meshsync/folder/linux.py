"""Linux system calls that Python 3.11 lacks: openat2, statx, renameat2, sync_file_range.

Invariant: each function either does what the manual page of its call says or raises OSError with the call's errno;
ENOSYS where the kernel or libc has no such call.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from dataclasses import dataclass
from typing import Final

from meshsync.folder.types import Stat

RESOLVE_NO_XDEV: Final = 0x01
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2
AT_EMPTY_PATH: Final = 0x1000
AT_SYMLINK_NOFOLLOW: Final = 0x100
AT_NO_AUTOMOUNT: Final = 0x800

_OPENAT2: Final = 437  # one number on every architecture (include/uapi/asm-generic/unistd.h)
_STATX_BASIC_AND_BIRTH: Final = 0x0FFF
_STATX_BIRTH: Final = 0x0800
_SYNC_FILE_RANGE_WRITE: Final = 2
_OPEN_HOW = struct.Struct("=QQQ")
_STATX_SIZE_BYTES: Final = 256
# struct statx: mask, blksize, attributes, links, uid, gid, mode, ino, size, blocks, attributes_mask,
# then atime, btime, ctime, mtime as (s64 seconds, u32 nanoseconds, pad), rdev, dev as (major, minor)
_STATX = struct.Struct("=IIQIIIH2xQQQQ qI4x qI4x qI4x qI4x II II")
_UID, _GID, _MODE, _INODE, _SIZE = 4, 5, 6, 7, 8
_BIRTH, _CTIME, _MTIME, _MAJOR, _MINOR = 13, 15, 17, 21, 22
_NS: Final = 1_000_000_000

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Status:
    """Everything the shell wants to know about one object: its `Stat`, and what only this floor needs."""

    stat: Stat
    mode: int
    uid: int
    gid: int
    device: int


def openat2(dir_fd: int, path: bytes, flags: int, mode: int, resolve: int) -> int:
    """Return a descriptor of `path` below `dir_fd`, resolved under the RESOLVE_* restrictions."""
    how = _OPEN_HOW.pack(flags | os.O_CLOEXEC, mode, resolve)
    result = _libc.syscall(
        ctypes.c_long(_OPENAT2), ctypes.c_int(dir_fd), ctypes.c_char_p(path), how, ctypes.c_size_t(len(how))
    )
    return int(_checked(result, path))


def statx(dir_fd: int, name: bytes) -> Status:
    """Return the status of `name` in the directory `dir_fd`, of `dir_fd` itself if empty. Never follows a link."""
    call = getattr(_libc, "statx", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (0 if name else AT_EMPTY_PATH)
    buffer = ctypes.create_string_buffer(_STATX_SIZE_BYTES)
    _checked(call(dir_fd, ctypes.c_char_p(name), flags, _STATX_BASIC_AND_BIRTH, buffer), name)
    field = _STATX.unpack_from(buffer)
    birth_ns = field[_BIRTH] * _NS + field[_BIRTH + 1] if field[0] & _STATX_BIRTH else 0
    ctime_ns = field[_CTIME] * _NS + field[_CTIME + 1]
    mtime_ns = field[_MTIME] * _NS + field[_MTIME + 1]
    stat = Stat(field[_INODE], birth_ns, field[_SIZE], mtime_ns, ctime_ns)
    device = os.makedev(field[_MAJOR], field[_MINOR])
    return Status(stat, field[_MODE], field[_UID], field[_GID], device)


def fstatat(dir_fd: int, name: bytes) -> Status:
    """Return what `statx` does, without the birth time, by the call that every POSIX system has."""
    found = os.stat(name, dir_fd=dir_fd, follow_symlinks=False) if name else os.fstat(dir_fd)
    stat = Stat(found.st_ino, 0, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return Status(stat, found.st_mode, found.st_uid, found.st_gid, found.st_dev)


def renameat2(old_fd: int, old: bytes, new_fd: int, new: bytes, flags: int) -> None:
    """Rename under RENAME_NOREPLACE or RENAME_EXCHANGE. EINVAL where the file system cannot."""
    call = getattr(_libc, "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    _checked(call(old_fd, ctypes.c_char_p(old), new_fd, ctypes.c_char_p(new), ctypes.c_uint(flags)), old)


def start_writeback(fd: int) -> None:
    """Start writing the dirty pages of an open file, so that the next write through a memory map touches its mtime."""
    call = getattr(_libc, "sync_file_range", None)
    if call is not None:
        _checked(call(fd, ctypes.c_int64(0), ctypes.c_int64(0), ctypes.c_uint(_SYNC_FILE_RANGE_WRITE)), b"")


def _checked(result: int, path: bytes) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return result
