"""Every system call that the folder shell makes, in one class: the seam for faults and crashes in tests.

Invariant: the shell touches the user's files through this class only, and every call that changes the disk is named
in `CHANGING`, so a test that fails the n-th of them has seen every crash point.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from meshsync.folder import linux
from meshsync.folder.linux import RENAME_EXCHANGE, RENAME_NOREPLACE, Status
from meshsync.limits import FOLDER_LISTING_ENTRIES_MAX

CHANGING: Final = (
    "create", "write", "truncate", "fsync", "chmod", "chown", "set_mtime", "set_link_mtime", "make_directory",
    "make_link", "rename", "rename_new", "exchange", "link", "unlink", "remove_directory",
)  # fmt: skip

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BENEATH: Final = (
    linux.RESOLVE_BENEATH | linux.RESOLVE_NO_SYMLINKS | linux.RESOLVE_NO_MAGICLINKS | linux.RESOLVE_NO_XDEV
)


class Syscalls:
    """The real calls. All raise OSError; a `fd` argument is an open descriptor, a name is one path component."""

    def open_beneath(self, fd: int, path: bytes) -> int:
        """Open the directory `path` below `fd` with openat2: no link, no mount point, nothing above `fd`."""
        return linux.openat2(fd, path, _DIRECTORY, 0, _BENEATH)

    def open_root(self, path: bytes) -> int:
        """Open the directory at an absolute path that the user chose; links in it are followed."""
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def open_directory(self, fd: int, name: bytes) -> int:
        """Open the directory `name` in `fd`; never a link."""
        return os.open(name, _DIRECTORY, dir_fd=fd)

    def open_file(self, fd: int, name: bytes) -> int:
        """Open `name` in `fd` for reading: never a link, never waiting, leaving atime alone where permitted."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            return os.open(name, flags | os.O_NOATIME, dir_fd=fd)
        except PermissionError:
            return os.open(name, flags, dir_fd=fd)

    def open_for_writing(self, fd: int, name: bytes) -> int:
        """Open the existing file `name` in `fd` for reading and writing; never a link."""
        return os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)

    def create(self, fd: int, name: bytes) -> int:
        """Create the file `name` in `fd`, mode 0600, and open it for reading and writing. EEXIST if there is one."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, 0o600, dir_fd=fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def status(self, fd: int, name: bytes = b"") -> Status:
        """Return the status of `name` in `fd`, or of `fd` itself."""
        try:
            return linux.statx(fd, name)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EINVAL):
                raise
            return linux.fstatat(fd, name)

    def names(self, fd: int) -> list[bytes]:
        """Return the names in the directory `fd`, sorted. EOVERFLOW beyond FOLDER_LISTING_ENTRIES_MAX."""
        names: list[bytes] = []
        with os.scandir(fd) as entries:
            for entry in entries:
                if len(names) >= FOLDER_LISTING_ENTRIES_MAX:
                    raise OSError(errno.EOVERFLOW, os.strerror(errno.EOVERFLOW))
                names.append(os.fsencode(entry.name))
        return sorted(names)

    def link_target(self, fd: int, name: bytes) -> bytes:
        return os.readlink(name, dir_fd=fd)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        return os.pread(fd, size, offset)

    def start_writeback(self, fd: int) -> None:
        linux.start_writeback(fd)

    def free_bytes(self, fd: int) -> int:
        """Return the bytes that an ordinary user can still write to the file system of `fd`."""
        found = os.fstatvfs(fd)
        return found.f_bavail * found.f_frsize

    def name_bytes_max(self, fd: int) -> int:
        """Return the longest name in bytes, 0 if the file system of `fd` does not say."""
        return os.fstatvfs(fd).f_namemax

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        return os.pwrite(fd, data, offset)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def duplicate(self, fd: int) -> int:
        """Return another descriptor of what `fd` is open on."""
        return os.dup(fd)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def chmod(self, fd: int, mode: int) -> None:
        os.fchmod(fd, mode)

    def chown(self, fd: int, uid: int, gid: int) -> None:
        os.fchown(fd, uid, gid)

    def set_mtime(self, fd: int, mtime_ns: int) -> None:
        os.utime(fd, ns=(mtime_ns, mtime_ns))

    def set_link_mtime(self, fd: int, name: bytes, mtime_ns: int) -> None:
        os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=fd, follow_symlinks=False)

    def make_directory(self, fd: int, name: bytes, mode: int) -> None:
        os.mkdir(name, mode, dir_fd=fd)

    def make_link(self, fd: int, name: bytes, target: bytes) -> None:
        os.symlink(target, name, dir_fd=fd)

    def rename(self, old_fd: int, old: bytes, new_fd: int, new: bytes) -> None:
        """Rename, replacing what is at the new name."""
        os.rename(old, new, src_dir_fd=old_fd, dst_dir_fd=new_fd)

    def rename_new(self, old_fd: int, old: bytes, new_fd: int, new: bytes) -> None:
        """Rename unless the new name exists (EEXIST). EINVAL or ENOSYS where the system cannot do that atomically."""
        linux.renameat2(old_fd, old, new_fd, new, RENAME_NOREPLACE)

    def exchange(self, old_fd: int, old: bytes, new_fd: int, new: bytes) -> None:
        """Swap two names in one step. EINVAL or ENOSYS where the system cannot."""
        linux.renameat2(old_fd, old, new_fd, new, RENAME_EXCHANGE)

    def link(self, old_fd: int, old: bytes, new_fd: int, new: bytes) -> None:
        os.link(old, new, src_dir_fd=old_fd, dst_dir_fd=new_fd, follow_symlinks=False)

    def unlink(self, fd: int, name: bytes) -> None:
        os.unlink(name, dir_fd=fd)

    def remove_directory(self, fd: int, name: bytes) -> None:
        os.rmdir(name, dir_fd=fd)
