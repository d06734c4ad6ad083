"""Second names of files that are about to leave the tree and may be needed again: in the control directory, by key.

Invariant: what lies here is a hint. Who reads it checks the content; whoever asked for it has it removed.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import Final

from meshsync.folder import faults
from meshsync.folder.aside import keep_beside, make_directories
from meshsync.folder.names import CONTROL_NAME
from meshsync.folder.root import Root
from meshsync.folder.types import Changed, Outcome, RelativePath, Stat

SPARE_NAME: Final = b"spare"


def spare_path(key: bytes) -> RelativePath:
    """Return where the file kept under `key` lies, from the root."""
    return (CONTROL_NAME, SPARE_NAME, key.hex().encode())


def keep_spare(root: Root, path: RelativePath, key: bytes, expected: Stat) -> Outcome:
    """Keep the file `expected` at `path` under `key` also, durably, in place of what is kept there. Blocking.

    Done tells the file's stat now: a second name moves its ctime. Changed if it is not what lies at `path`.
    """
    target = spare_path(key)
    try:
        make_directories(root, target[:-1])
        _unlink(root, target)
    except OSError as error:
        return faults.blocked(error)
    try:
        return keep_beside(root, path, target, expected)
    except FileExistsError:
        return Changed(None)


def remove_spare(root: Root, key: bytes) -> None:
    """Remove what is kept under `key`; nothing there needs nothing. Blocking. Raises OSError."""
    with suppress(FileNotFoundError):
        _unlink(root, spare_path(key))


def spare_keys(root: Root) -> set[bytes]:
    """Return the keys under which something lies here. Blocking. Raises OSError."""
    try:
        with root.directory((CONTROL_NAME, SPARE_NAME)) as fd:
            names = root.syscalls.names(fd)
    except FileNotFoundError:
        return set()
    found = set()
    for name in names:
        with suppress(ValueError):
            found.add(bytes.fromhex(name.decode("ascii", "replace")))
    return found


def _unlink(root: Root, path: RelativePath) -> None:
    with root.directory(path[:-1]) as fd:
        try:
            root.syscalls.unlink(fd, path[-1])
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
