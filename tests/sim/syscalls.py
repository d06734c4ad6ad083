"""`meshsync.folder.syscalls.Syscalls` on a simulated disk, for one process or one user.

Invariant: every call fails with the errno with which Linux would fail; `test_sim_disk.py` compares them call by call.
"""

from __future__ import annotations

import errno
import stat as modes
from collections.abc import Callable
from dataclasses import dataclass

from meshsync.folder.linux import Status
from meshsync.folder.syscalls import Syscalls
from meshsync.folder.types import Stat
from meshsync.limits import NAME_BYTES_MAX
from tests.sim.disk import Disk, Inode, refuse

ROOT_PATH = b"/sim"
_LINKS_MAX = 40
_USER = 1000


@dataclass(eq=False, slots=True)
class _Open:
    inode: Inode
    writable: bool


class SimSyscalls(Syscalls):
    """`step(call)` is asked before each call. `durable`: what is changed is on disk at once, as after `sync`."""

    def __init__(self, disk: Disk, step: Callable[[str], None], durable: bool = False) -> None:
        self.disk = disk
        self._step = step
        self._durable = durable
        self._open: dict[int, _Open] = {}
        self._next = 3

    # --- descriptors ----------------------------------------------------------------------------------------------

    def _opened(self, inode: Inode, writable: bool = False) -> int:
        fd, self._next = self._next, self._next + 1
        inode.opened += 1
        self._open[fd] = _Open(inode, writable)
        return fd

    def _inode(self, fd: int) -> Inode:
        found = self._open.get(fd)
        if found is None:
            raise refuse(errno.EBADF)
        return found.inode

    def _directory(self, fd: int) -> Inode:
        inode = self._inode(fd)
        if not inode.is_directory:
            raise refuse(errno.ENOTDIR)
        return inode

    def close_all(self) -> None:
        """Release what a dead process had open."""
        for fd in list(self._open):
            self._close(fd)

    def _close(self, fd: int) -> None:
        found = self._open.pop(fd, None)
        if found is None:
            raise refuse(errno.EBADF)
        found.inode.opened -= 1
        self.disk.release(found.inode)

    def _entry(self, directory: Inode, name: bytes) -> Inode:
        if name == b".":
            return directory
        self._check_name(directory, name)
        found = directory.entries.get(name)
        if found is None:
            raise refuse(errno.ENOENT)
        return found

    def _check_name(self, directory: Inode, name: bytes) -> None:
        assert b"/" not in name and b"\0" not in name and name not in (b"", b".."), name
        if not directory.places:  # it was removed while it was open
            raise refuse(errno.ENOENT)
        if len(name) > NAME_BYTES_MAX:
            raise refuse(errno.ENAMETOOLONG)

    def _new_place(self, directory: Inode, name: bytes) -> None:
        self._check_name(directory, name)
        if name in directory.entries:
            raise refuse(errno.EEXIST)

    # --- opening --------------------------------------------------------------------------------------------------

    def open_beneath(self, fd: int, path: bytes) -> int:
        self._step("open_beneath")
        at = self._directory(fd)
        for name in path.split(b"/"):
            if not at.is_directory:
                raise refuse(errno.ELOOP if at.is_link else errno.ENOTDIR)
            at = self._entry(at, name)
        if not at.is_directory:
            raise refuse(errno.ENOTDIR)
        return self._opened(at)

    def open_root(self, path: bytes) -> int:
        self._step("open_root")
        if path != ROOT_PATH:
            raise refuse(errno.ENOENT)
        return self._opened(self.disk.root)

    def open_directory(self, fd: int, name: bytes) -> int:
        self._step("open_directory")
        found = self._entry(self._directory(fd), name)
        if not found.is_directory:  # O_DIRECTORY is looked at before O_NOFOLLOW
            raise refuse(errno.ENOTDIR)
        return self._opened(found)

    def open_file(self, fd: int, name: bytes) -> int:
        self._step("open_file")
        found = self._entry(self._directory(fd), name)
        if found.is_link:
            raise refuse(errno.ELOOP)
        return self._opened(found)

    def open_for_writing(self, fd: int, name: bytes) -> int:
        self._step("open_for_writing")
        found = self._entry(self._directory(fd), name)
        if found.is_link:
            raise refuse(errno.ELOOP)
        if found.is_directory:
            raise refuse(errno.EISDIR)
        return self._opened(found, writable=True)

    def create(self, fd: int, name: bytes) -> int:
        self._step("create")
        directory = self._directory(fd)
        self._new_place(directory, name)
        made = self.disk.new(modes.S_IFREG | 0o600)
        self._change((directory, name, made))
        return self._opened(made, writable=True)

    def close(self, fd: int) -> None:
        self._step("close")
        self._close(fd)

    def duplicate(self, fd: int) -> int:
        self._step("duplicate")
        return self._opened(self._inode(fd), self._open[fd].writable)

    # --- looking --------------------------------------------------------------------------------------------------

    def status(self, fd: int, name: bytes = b"") -> Status:
        self._step("status")
        inode = self._entry(self._directory(fd), name) if name else self._inode(fd)
        size = 4096 if inode.is_directory else len(inode.target) if inode.is_link else len(inode.data)
        birth_ns = inode.birth_ns if self.disk.has_birth else 0
        stat = Stat(inode.number, birth_ns, size, inode.mtime_ns, inode.ctime_ns)
        return Status(stat, inode.mode, _USER, _USER, 1)

    def names(self, fd: int) -> list[bytes]:
        self._step("names")
        return sorted(self._directory(fd).entries)

    def link_target(self, fd: int, name: bytes) -> bytes:
        self._step("link_target")
        found = self._entry(self._directory(fd), name)
        if not found.is_link:
            raise refuse(errno.EINVAL)
        return found.target

    def read(self, fd: int, size: int, offset: int) -> bytes:
        self._step("read")
        inode = self._inode(fd)
        if inode.is_directory:
            raise refuse(errno.EISDIR)
        return bytes(inode.data[offset : offset + size])

    def start_writeback(self, fd: int) -> None:
        self._step("start_writeback")

    def free_bytes(self, fd: int) -> int:
        self._step("free_bytes")
        return self.disk.free_bytes

    def name_bytes_max(self, fd: int) -> int:
        return NAME_BYTES_MAX

    # --- bytes and attributes -------------------------------------------------------------------------------------

    def _writable(self, fd: int) -> Inode:
        inode = self._inode(fd)
        if not self._open[fd].writable:
            raise refuse(errno.EBADF)
        return inode

    def _touched(self, inode: Inode, content: bool) -> None:
        self.disk.touched(inode, content)
        if self._durable:
            self.disk.sync(inode)

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        self._step("write")
        inode = self._writable(fd)
        if offset > len(inode.data):
            inode.data.extend(bytes(offset - len(inode.data)))
        inode.data[offset : offset + len(data)] = data
        self._touched(inode, True)
        return len(data)

    def truncate(self, fd: int, size: int) -> None:
        self._step("truncate")
        inode = self._inode(fd)
        if not self._open[fd].writable:
            raise refuse(errno.EINVAL)
        if size < len(inode.data):
            del inode.data[size:]
        else:
            inode.data.extend(bytes(size - len(inode.data)))
        self._touched(inode, True)

    def fsync(self, fd: int) -> None:
        self._step("fsync")
        self.disk.sync(self._inode(fd))

    def chmod(self, fd: int, mode: int) -> None:
        self._step("chmod")
        inode = self._inode(fd)
        inode.mode = modes.S_IFMT(inode.mode) | mode
        self._touched(inode, False)

    def chown(self, fd: int, uid: int, gid: int) -> None:
        self._step("chown")
        raise refuse(errno.EPERM)

    def set_mtime(self, fd: int, mtime_ns: int) -> None:
        self._step("set_mtime")
        inode = self._inode(fd)
        self._touched(inode, False)
        inode.mtime_ns = mtime_ns
        if self._durable:
            self.disk.sync(inode)

    def set_link_mtime(self, fd: int, name: bytes, mtime_ns: int) -> None:
        self._step("set_link_mtime")
        inode = self._entry(self._directory(fd), name)
        self._touched(inode, False)
        inode.mtime_ns = mtime_ns
        if self._durable:
            self.disk.sync(inode)

    # --- names ----------------------------------------------------------------------------------------------------

    def _change(self, *changes: tuple[Inode, bytes, Inode | None]) -> None:
        self.disk.change(*changes)
        if self._durable:
            self.disk.sync_names(*(directory for directory, _, _ in changes))

    def make_directory(self, fd: int, name: bytes, mode: int) -> None:
        self._step("make_directory")
        directory = self._directory(fd)
        self._new_place(directory, name)
        self._change((directory, name, self.disk.new(modes.S_IFDIR | mode)))

    def make_link(self, fd: int, name: bytes, target: bytes) -> None:
        self._step("make_link")
        directory = self._directory(fd)
        self._new_place(directory, name)
        made = self.disk.new(modes.S_IFLNK | 0o777)
        made.target = target
        self._change((directory, name, made))

    def _ends(self, old_fd: int, old: bytes, new_fd: int, new: bytes) -> tuple[Inode, Inode, Inode]:
        source, target = self._directory(old_fd), self._directory(new_fd)
        moved = self._entry(source, old)
        self._check_name(target, new)
        return source, moved, target

    def rename(self, old_fd: int, old: bytes, new_fd: int, new: bytes) -> None:
        self._step("rename")
        source, moved, target = self._ends(old_fd, old, new_fd, new)
        if self.disk.is_below(target, moved):
            raise refuse(errno.EINVAL)
        present = target.entries.get(new)
        if present is moved:
            return
        if present is not None:
            if self.disk.is_below(source, present):
                raise refuse(errno.ENOTEMPTY)
            if moved.is_directory and not present.is_directory:
                raise refuse(errno.ENOTDIR)
            if present.is_directory and not moved.is_directory:
                raise refuse(errno.EISDIR)
            if present.entries:
                raise refuse(errno.ENOTEMPTY)
        self._change((source, old, None), (target, new, moved))

    def rename_new(self, old_fd: int, old: bytes, new_fd: int, new: bytes) -> None:
        self._step("rename_new")
        source, moved, target = self._ends(old_fd, old, new_fd, new)
        if new in target.entries:
            raise refuse(errno.EEXIST)
        if self.disk.is_below(target, moved):
            raise refuse(errno.EINVAL)
        self._change((source, old, None), (target, new, moved))

    def exchange(self, old_fd: int, old: bytes, new_fd: int, new: bytes) -> None:
        self._step("exchange")
        source, moved, target = self._ends(old_fd, old, new_fd, new)
        other = self._entry(target, new)
        if other is moved:
            return
        if self.disk.is_below(target, moved) or self.disk.is_below(source, other):
            raise refuse(errno.EINVAL)
        self._change((source, old, other), (target, new, moved))

    def link(self, old_fd: int, old: bytes, new_fd: int, new: bytes) -> None:
        self._step("link")
        linked, target = self._entry(self._directory(old_fd), old), self._directory(new_fd)
        self._check_name(target, new)
        if new in target.entries:
            raise refuse(errno.EEXIST)
        if linked.is_directory:
            raise refuse(errno.EPERM)
        self._change((target, new, linked))

    def unlink(self, fd: int, name: bytes) -> None:
        self._step("unlink")
        directory = self._directory(fd)
        if self._entry(directory, name).is_directory:
            raise refuse(errno.EISDIR)
        self._change((directory, name, None))

    def remove_directory(self, fd: int, name: bytes) -> None:
        self._step("remove_directory")
        directory = self._directory(fd)
        found = self._entry(directory, name)
        if not found.is_directory:
            raise refuse(errno.ENOTDIR)
        if found.entries:
            raise refuse(errno.ENOTEMPTY)
        self._change((directory, name, None))
