"""Telling an index that came back from a backup from the one that was closed last (`docs/decisions/0004`).

Invariant: the mark is no secret and decides nothing but whether this device goes on with its chain. Beside the index
lies, from when it is closed in order until it is opened again, a note of its state; no program can set a ctime, so what
was copied over the index, or over both, does not agree with the note.
"""

from __future__ import annotations

import enum
import os
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from meshsync.folder.syscalls import Syscalls
from meshsync.folder.types import Stat

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")  # of Linux: another one after each start of the system
NOTE_NAME: Final = "closed"


class Since(enum.Enum):
    """What became of an index since it was open last."""

    CLOSED = "it is as it was closed"
    CUT_OFF = "it was never closed in order; what happened to it since cannot be told"
    CHANGED = "it was closed in order, and something else wrote to it"


class IndexMark(NamedTuple):
    """Which object an index is, during which run of the system it is open, and whether it was left alone.

    b"" for what cannot be told.
    """

    place: bytes
    boot: bytes
    since: Since = Since.CLOSED


def index_mark(path: Path) -> IndexMark:
    """Return the mark of the index file `path`. A file that came from a backup is another object, or was changed."""
    stat = _stat(path)
    try:
        boot = BOOT_ID.read_bytes().strip()
    except OSError:
        boot = b""
    try:
        note = path.with_name(NOTE_NAME).read_bytes()
    except OSError:
        since = Since.CUT_OFF
    else:
        since = Since.CLOSED if note == _note(stat) else Since.CHANGED
    return IndexMark(b"%d %d" % (stat.inode, stat.birth_ns), boot, since)


def note_opened(path: Path) -> None:
    """From now on the index changes; call it after its mark was taken. Raises OSError."""
    path.with_name(NOTE_NAME).unlink(missing_ok=True)


def note_closed(path: Path) -> None:
    """Note the state of an index that was just closed. Without a note it counts as cut off."""
    with suppress(OSError):
        path.with_name(NOTE_NAME).write_bytes(_note(_stat(path)))


def _note(stat: Stat) -> bytes:
    return b"%d %d %d %d\n" % (stat.inode, stat.birth_ns, stat.size, stat.ctime_ns)


def _stat(path: Path) -> Stat:
    syscalls = Syscalls()
    fd = syscalls.open_root(os.fsencode(path.parent))
    try:
        return syscalls.status(fd, os.fsencode(path.name)).stat
    finally:
        syscalls.close(fd)
