"""Keeping what a user's decision is about to replace: in the control directory, under the path that it had.

Invariant: what was set aside is never changed or removed by this program; its user removes it.
"""

from __future__ import annotations

from stat import S_ISLNK
from typing import Final

from meshsync.folder import faults
from meshsync.folder.names import CONTROL_NAME
from meshsync.folder.root import Root
from meshsync.folder.swap import NO_LINKS, Entry, is_expected, move_new, status_or_none
from meshsync.folder.syscalls import Syscalls
from meshsync.folder.types import Changed, Done, Outcome, RelativePath, Stat
from meshsync.limits import FOLDER_READ_WINDOW_BYTES

KEPT_NAME: Final = b"kept"


def kept_path(label: bytes) -> RelativePath:
    """Return where things set aside under `label` lie, from the root."""
    return (CONTROL_NAME, KEPT_NAME, label)


def set_aside(root: Root, path: RelativePath, label: bytes, expected: Stat, *, stays: bool = False) -> Outcome:
    """Keep the file or link `expected` at `path` under `label` also. Blocking.

    Done tells its stat now, a second name having moved its ctime; where the file system has no second names it was
    moved there, and the stat is None; with `stays` it is copied instead, so that the path is never empty. Changed if it
    is not what lies there, or the label has such a path already.
    """
    try:
        make_directories(root, (*kept_path(label), *path[:-1]))
        return _keep(root, path, (*kept_path(label), *path), expected, stays=stays)
    except OSError as error:
        return faults.blocked(error)


def keep_beside(root: Root, path: RelativePath, target: RelativePath, expected: Stat) -> Outcome:
    """Keep the file or link `expected` at `path` at `target` also, in a directory that is there. Blocking.

    Done tells its stat now; Changed if it is not what lies there, or `target` is taken.
    """
    try:
        return _keep(root, path, target, expected, stays=True)
    except OSError as error:
        return faults.blocked(error)


def _keep(root: Root, path: RelativePath, target: RelativePath, expected: Stat, *, stays: bool) -> Outcome:
    syscalls = root.syscalls
    with root.directory(path[:-1]) as fd, root.directory(target[:-1]) as kept_fd:
        found = status_or_none(syscalls, fd, path[-1])
        if found is None or not is_expected(found, expected):
            return Changed(found.stat if found else None)
        try:
            syscalls.link(fd, path[-1], kept_fd, target[-1])
        except FileExistsError:
            return Changed(found.stat)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            if stays:
                _copy(syscalls, Entry(fd, path[-1]), Entry(kept_fd, target[-1]))
            else:
                move_new(syscalls, fd, path[-1], kept_fd, target[-1])
        syscalls.fsync(kept_fd)
        now = status_or_none(syscalls, fd, path[-1])
        return Done(now.stat if now is not None else None)


def make_directories(root: Root, path: RelativePath) -> None:
    """Make what is missing of the directories of `path`, each durable before the next. Raises OSError."""
    for depth in range(2, len(path) + 1):
        with root.directory(path[: depth - 1]) as fd:
            if status_or_none(root.syscalls, fd, path[depth - 1]) is None:
                root.syscalls.make_directory(fd, path[depth - 1], 0o700)
                root.syscalls.fsync(fd)


def _copy(syscalls: Syscalls, source: Entry, target: Entry) -> None:
    """Copy a regular file or a link. Raises OSError; what was copied then goes away again."""
    if S_ISLNK(syscalls.status(source.fd, source.name).mode):
        syscalls.make_link(target.fd, target.name, syscalls.link_target(source.fd, source.name))
        return
    source_fd = syscalls.open_file(source.fd, source.name)
    try:
        target_fd = syscalls.create(target.fd, target.name)
        try:
            offset = 0
            while data := syscalls.read(source_fd, FOLDER_READ_WINDOW_BYTES, offset):
                view = memoryview(data)
                while view:
                    count = syscalls.write(target_fd, view, offset)
                    view, offset = view[count:], offset + count
            syscalls.fsync(target_fd)
        except OSError:
            syscalls.unlink(target.fd, target.name)
            raise
        finally:
            syscalls.close(target_fd)
    finally:
        syscalls.close(source_fd)
