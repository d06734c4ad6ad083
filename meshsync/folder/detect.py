"""When a file must be read again. Invariant: an edit that changes neither size nor mtime is still noticed.

A write always moves ctime, which no program can set, but only to the file system's current clock tick. A file read
within that tick of its last change is *racy* (the term is git's, "racy-git"): a later write in the same tick would
leave an equal `Stat`, so it has to be read once more after the tick.
"""

from __future__ import annotations

from meshsync.folder.types import Stat
from meshsync.limits import FOLDER_RACY_FINE_WINDOW_NS, FOLDER_RACY_WINDOW_NS, FOLDER_TICK_NS


def must_read(recorded: Stat | None, observed: Stat, racy: bool) -> bool:
    """Return whether the content behind `observed` may differ from what was read when `recorded` was taken.

    `racy` is what `is_racy` said at that reading.
    """
    return racy or recorded != observed


def is_racy(stat: Stat, read_at_ns: int) -> bool:
    """Return whether a write after a reading that began at `read_at_ns` (wall clock) could leave `stat` as it is.

    A ctime far in the future is not racy: a write now would move it back, which shows.
    """
    # Ten milliseconds are the longest kernel tick: a ctime that is no multiple of it comes from a finer clock.
    fine = stat.ctime_ns % FOLDER_TICK_NS != 0
    return abs(read_at_ns - stat.ctime_ns) <= (FOLDER_RACY_FINE_WINDOW_NS if fine else FOLDER_RACY_WINDOW_NS)


def same_object(recorded: Stat, found: Stat, directory: bool) -> bool:
    """Return whether `found` is the object `recorded`, unedited, apart from the ctime that a rename moves.

    A directory is the same if it is the same inode: its times and size follow its entries.
    """
    if recorded.inode != found.inode:
        return False
    if recorded.birth_ns and found.birth_ns and recorded.birth_ns != found.birth_ns:
        return False
    return directory or (recorded.size == found.size and recorded.mtime_ns == found.mtime_ns)
