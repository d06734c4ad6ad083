"""A file system that takes names of different case, or composed and decomposed, for one name: on top of a real one.

Invariant: each call does what it would do on a folding target that keeps names as they were first written.
"""

from __future__ import annotations

import errno
import os

from meshsync.folder.linux import Status
from meshsync.folder.names import NameRules
from meshsync.folder.syscalls import Syscalls

APPLE = NameRules(folds_case=True, folds_unicode=True)


class FoldingSyscalls(Syscalls):
    """The real calls, for names that the target would find."""

    def _found(self, fd: int, name: bytes) -> bytes:
        """Return the name under which the directory holds `name`, or `name` if it does not."""
        with os.scandir(fd) as entries:
            names = [os.fsencode(entry.name) for entry in entries]
        if name in names:
            return name
        return next((other for other in names if APPLE.key(other) == APPLE.key(name)), name)

    def open_beneath(self, fd: int, path: bytes) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))  # then each name is opened by itself

    def open_directory(self, fd: int, name: bytes) -> int:
        return super().open_directory(fd, name if name == b"." else self._found(fd, name))

    def open_file(self, fd: int, name: bytes) -> int:
        return super().open_file(fd, self._found(fd, name))

    def open_for_writing(self, fd: int, name: bytes) -> int:
        return super().open_for_writing(fd, self._found(fd, name))

    def create(self, fd: int, name: bytes) -> int:
        return super().create(fd, self._found(fd, name))

    def status(self, fd: int, name: bytes = b"") -> Status:
        return super().status(fd, self._found(fd, name) if name else b"")

    def link_target(self, fd: int, name: bytes) -> bytes:
        return super().link_target(fd, self._found(fd, name))

    def set_link_mtime(self, fd: int, name: bytes, mtime_ns: int) -> None:
        super().set_link_mtime(fd, self._found(fd, name), mtime_ns)

    def make_directory(self, fd: int, name: bytes, mode: int) -> None:
        super().make_directory(fd, self._found(fd, name), mode)

    def make_link(self, fd: int, name: bytes, target: bytes) -> None:
        super().make_link(fd, self._found(fd, name), target)

    def rename(self, old_fd: int, old: bytes, new_fd: int, new: bytes) -> None:
        super().rename(old_fd, self._found(old_fd, old), new_fd, self._found(new_fd, new))

    def rename_new(self, old_fd: int, old: bytes, new_fd: int, new: bytes) -> None:
        super().rename_new(old_fd, self._found(old_fd, old), new_fd, self._found(new_fd, new))

    def exchange(self, old_fd: int, old: bytes, new_fd: int, new: bytes) -> None:
        super().exchange(old_fd, self._found(old_fd, old), new_fd, self._found(new_fd, new))

    def link(self, old_fd: int, old: bytes, new_fd: int, new: bytes) -> None:
        super().link(old_fd, self._found(old_fd, old), new_fd, self._found(new_fd, new))

    def unlink(self, fd: int, name: bytes) -> None:
        super().unlink(fd, self._found(fd, name))

    def remove_directory(self, fd: int, name: bytes) -> None:
        super().remove_directory(fd, self._found(fd, name))
