"""Telling an index that came back from a backup from the one that was closed last.

Invariant: the mark is no secret and decides nothing but whether this device goes on with its chain.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

from meshsync.folder.syscalls import Syscalls

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")  # of Linux: another one after each start of the system


class IndexMark(NamedTuple):
    """Which object an index is, and during which run of the system it is open; b"" for what cannot be told."""

    place: bytes
    boot: bytes


def index_mark(path: Path) -> IndexMark:
    """Return the mark of the index file `path`. A file that came from a backup is another object."""
    syscalls = Syscalls()
    fd = syscalls.open_root(os.fsencode(path.parent))
    try:
        stat = syscalls.status(fd, os.fsencode(path.name)).stat
    finally:
        syscalls.close(fd)
    try:
        boot = BOOT_ID.read_bytes().strip()
    except OSError:
        boot = b""
    return IndexMark(b"%d %d" % (stat.inode, stat.birth_ns), boot)
