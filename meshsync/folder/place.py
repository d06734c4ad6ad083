"""Puts one file where its user wants it, outside of any synced folder's machinery.

Invariant: no file that was not put there by this is ever replaced or removed, and a path that is replaced is never
absent: it holds the whole old or the whole new file. All calls block; OSError where the disk refuses.
"""

from __future__ import annotations

import stat as modes
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType

from meshsync.folder import attributes
from meshsync.folder.faults import CANNOT
from meshsync.folder.syscalls import Syscalls
from meshsync.folder.types import Stat

IsOurs = Callable[[int], bool]
"""Tells of an open file whether it still is what was put there last."""


class Place:
    """One directory, and the name `staged` in it under which a file is made before it is put in place."""

    def __init__(self, directory: bytes, staged: bytes, syscalls: Syscalls) -> None:
        self._syscalls = syscalls
        self._staged = staged
        self._fd = syscalls.open_root(directory)
        self._file: int | None = None
        self._size = 0
        self._is_made_here = False  # what has the staged name now

    def __enter__(self) -> Place:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Remove what was staged and not put in place; what came out of the place stays for `leftover`."""
        if self._file is not None:
            self._syscalls.close(self._file)
            self._file = None
        if self._is_made_here:
            with suppress(OSError):
                self._syscalls.unlink(self._fd, self._staged)
        self._syscalls.close(self._fd)

    def stat(self, name: bytes) -> Stat | None:
        """Return what tells the file at `name` from others, None if there is nothing."""
        try:
            return self._syscalls.status(self._fd, name).stat
        except FileNotFoundError:
            return None

    def leftover(self, is_ours: IsOurs, free: Iterable[bytes]) -> bytes:
        """Clear the staged name after a crash: what was put in place before is removed, what its user wrote into it
        goes to the first free of the names `free`; return that name, or nothing.
        """
        found = self.stat(self._staged)
        if found is None:
            return b""
        if self._is_ours(self._staged, is_ours):
            self._syscalls.unlink(self._fd, self._staged)
            return b""
        return self._first_free(self._staged, free)

    def remove_staged(self) -> None:
        """Remove what was staged and never put in place."""
        with suppress(FileNotFoundError):
            self._syscalls.unlink(self._fd, self._staged)

    def begin(self) -> None:
        """Begin to write the staged file. The staged name must be free."""
        self._file = self._syscalls.create(self._fd, self._staged)
        self._is_made_here = True
        self._size = 0

    def write(self, data: bytes) -> None:
        """Append to the staged file."""
        assert self._file is not None
        written = 0
        while written < len(data):
            written += self._syscalls.write(self._file, memoryview(data)[written:], self._size + written)
        self._size += written

    def complete(self, executable: bool, mtime_ns: int, instead_of: bytes = b"") -> Stat:
        """Make the staged file durable; return what tells it from others, wherever it is renamed to.

        It gets the permissions of the file `instead_of`, if that is there.
        """
        assert self._file is not None
        mode = None
        if instead_of:
            with suppress(FileNotFoundError):
                mode = modes.S_IMODE(self._syscalls.status(self._fd, instead_of).mode)
        self._syscalls.chmod(self._file, attributes.file_mode(executable, attributes.umask(), mode))
        self._syscalls.set_mtime(self._file, mtime_ns)
        self._syscalls.fsync(self._file)
        return self._syscalls.status(self._file).stat

    def put_new(self, name: bytes) -> bool:
        """Rename the staged file to `name`, unless that exists; return whether it was done, durably."""
        done = self._rename_new(self._staged, name)
        if done:
            self._placed()
        return done

    def put_over(self, name: bytes, is_ours: IsOurs, free: Iterable[bytes]) -> bytes:
        """Put the staged file in place of `name`, durably.

        Return nothing, or the name from `free` under which the staged file is now instead: what lies at `name` had
        been changed, or cannot be replaced without being lost sight of, and stays.
        """
        try:
            self._syscalls.exchange(self._fd, self._staged, self._fd, name)
        except OSError as error:
            if error.errno not in CANNOT and not isinstance(error, FileNotFoundError):
                raise
            return self._aside(free)
        self._is_made_here = False
        if not self._is_ours(self._staged, is_ours):
            self._syscalls.exchange(self._fd, self._staged, self._fd, name)
            self._is_made_here = True
            return self._aside(free)
        self._syscalls.fsync(self._fd)
        self._syscalls.unlink(self._fd, self._staged)
        self._placed()
        return b""

    def _aside(self, free: Iterable[bytes]) -> bytes:
        name = self._first_free(self._staged, free)
        self._placed()
        return name

    def _first_free(self, staged: bytes, free: Iterable[bytes]) -> bytes:
        for name in free:
            if self._rename_new(staged, name):
                self._syscalls.fsync(self._fd)
                return name
        raise FileExistsError("all names like it are taken")

    def _rename_new(self, old: bytes, new: bytes) -> bool:
        try:
            self._syscalls.rename_new(self._fd, old, self._fd, new)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in CANNOT:
                raise
            try:
                self._syscalls.link(self._fd, old, self._fd, new)
            except FileExistsError:
                return False
            self._syscalls.unlink(self._fd, old)
        return True

    def _placed(self) -> None:
        self._is_made_here = False
        self._syscalls.fsync(self._fd)
        if self._file is not None:
            self._syscalls.close(self._file)
            self._file = None

    def _is_ours(self, name: bytes, is_ours: IsOurs) -> bool:
        """Whether the file at `name` is what was put there; never opens a link or waits for a pipe."""
        try:
            file = self._syscalls.open_file(self._fd, name)
        except OSError:
            return False
        try:
            return modes.S_ISREG(self._syscalls.status(file).mode) and is_ours(file)
        finally:
            self._syscalls.close(file)
