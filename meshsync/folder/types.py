"""What the folder shell reports: values only. Invariant: an expected outcome is one of these, never an exception.

A path is a tuple of names, root first, each name bytes as the file system gave them; `()` is the folder's root.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from meshsync.content.record import Kind

RelativePath: TypeAlias = tuple[bytes, ...]


class Stat(NamedTuple):
    """What tells one state of a file system object from another; times in nanoseconds since 1970, size in bytes.

    `birth_ns` is 0 where the file system does not keep it.
    """

    inode: int
    birth_ns: int
    size: int
    mtime_ns: int
    ctime_ns: int


class Reason(enum.Enum):
    """Why an item is not observed, not applied or held. The value is the words for the user."""

    NO_SPACE = "no space left on the device"
    NO_PERMISSION = "permission denied"
    READ_ONLY = "the file system is read-only"
    TOO_LARGE = "larger than the file system allows"
    NAME_TOO_LONG = "the name is longer than the file system allows"
    NAME_ILLEGAL = "the name cannot exist on the file system"
    NAME_RESERVED = "the name belongs to meshsync"
    NAME_COLLIDES = "the file system takes the name for another one in the directory"
    TOO_DEEP = "nested too deeply"
    TOO_MANY = "too many entries in one directory"
    NOT_EMPTY = "the directory is not empty"
    PARENT_MISSING = "the directory above is missing"
    LINK_IN_PATH = "a link or file stands where a directory is expected"
    OTHER_FILE_SYSTEM = "another file system is mounted there"
    SPECIAL = "not a file, directory or link"
    IGNORED = "ignored by a pattern"
    VANISHED = "it changed while it was looked at"
    BUSY = "in use"
    UNSUPPORTED = "the file system cannot do this"
    IO = "input/output error"


@dataclass(frozen=True, slots=True)
class Observed:
    """One object as it lay on disk. `target` is a link's target, raw bytes, and empty for other kinds."""

    path: RelativePath
    kind: Kind
    stat: Stat
    executable: bool
    target: bytes = b""


@dataclass(frozen=True, slots=True)
class Problem:
    """`path` and everything beneath it were not observed: what is recorded there stays as it is."""

    path: RelativePath
    reason: Reason
    detail: str = ""


class RootState(enum.Enum):
    """Whether a folder's root can be believed. The value is the words for the user."""

    PRESENT = "present"
    MISSING = "the folder's root directory is missing"
    UNREADABLE = "the folder's root directory cannot be read"
    MARKER_MISSING = "the folder's marker is missing: is a disk not mounted?"
    OTHER_FOLDER = "the directory belongs to another folder"


@dataclass(frozen=True, slots=True)
class RootMissing:
    """Nothing can be said about the folder's content: absence is not deletion. `state` is never PRESENT."""

    state: RootState


@dataclass(frozen=True, slots=True)
class Done:
    """The change is on disk and durable. `stat` is the object now at the path, None after a removal."""

    stat: Stat | None


@dataclass(frozen=True, slots=True)
class Changed:
    """The path does not hold what was expected: nothing was replaced or removed, scan it again.

    `stat` is what was seen there, None for nothing. `rescued`, where not empty, names a file in the staging area
    that holds a user's edit which could not be put back to its path (`Staging.recover` lists it too).
    """

    stat: Stat | None
    rescued: bytes = b""


@dataclass(frozen=True, slots=True)
class Blocked:
    """The change waits for `reason` to go away; the path is as it was."""

    reason: Reason
    detail: str = ""


Outcome: TypeAlias = Done | Changed | Blocked
