"""A handout: one file shared by itself, as a small folder of its own that holds this file and nothing else.

Invariant: pure; what a device notes of a handout names places on this device only and is sent to nobody.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import TypeAlias

from meshsync.codec.canonical import Record, decode, encode
from meshsync.content.record import Content, Kind
from meshsync.ids import FolderId
from meshsync.limits import HANDOUT_NOTE_BYTES_MAX, NAME_BYTES_MAX, PLACE_NAMES_MAX

GIVEN_KEY = "handout given"
TAKEN_KEY = "handout taken"
FILE_NAME = b"file"
"""What the file is called inside a handout, whatever it is called elsewhere. Its real name is the folder's, sealed."""


class Given(Record, frozen=True):
    """What the device notes that hands a file out.

    `source` is the folder that it follows, empty if it follows nothing; `node` the file in it. `path` is where the
    file was when it was shared. `content` is the packed content of the source's version that is in the handout now,
    empty for none. `ended` once its user took it back, whoever was let in since.
    """

    source: bytes
    node: bytes
    path: bytes
    content: bytes
    ended: bool = False

    @property
    def follows(self) -> bool:
        """Whether later versions of the file are handed out too."""
        return bool(self.source)

    @property
    def folder(self) -> FolderId:
        """The folder that is followed."""
        return FolderId(self.source)


class Taken(Record, frozen=True):
    """What the device notes that was handed a file.

    `directory` is where it belongs, and `name` how it is called there if that is free. `placed` is the name under
    which it was put there last, empty before; `inode`, `size` and `mtime_ns` tell that one from any other, and
    `content` is its packed content. `coming`, `coming_inode` and `coming_content` are noted before a file is put in
    place: from then on, that name with that inode is the file that was put there.
    """

    directory: bytes
    name: bytes
    placed: bytes = b""
    inode: int = 0
    size: int = 0
    mtime_ns: int = 0
    content: bytes = b""
    coming: bytes = b""
    coming_inode: int = 0
    coming_content: bytes = b""


Handout: TypeAlias = Given | Taken


def pack(handout: Handout) -> tuple[str, bytes]:
    """Return the key and the value under which the index keeps a note."""
    return (GIVEN_KEY if isinstance(handout, Given) else TAKEN_KEY), encode(handout)


def unpack(given: bytes | None, taken: bytes | None) -> Handout | None:
    """Return the note that the index keeps under either key, None for a folder that is no handout."""
    if given is not None:
        return decode(Given, given, HANDOUT_NOTE_BYTES_MAX)
    return None if taken is None else decode(Taken, taken, HANDOUT_NOTE_BYTES_MAX)


def place_of(handout: Handout) -> bytes:
    """Return where a user of this device knows the file to be: the path it was shared from, or where it was put."""
    if isinstance(handout, Given):
        return handout.path
    return handout.directory.rstrip(b"/") + b"/" + (handout.placed or handout.name)


class Act(enum.Enum):
    """What is due in a handout that follows a file."""

    NOTHING = "nothing"
    PUBLISH = "publish"
    WITHDRAW = "withdraw"


def due(given: Given, packed: bytes, on_disk: Content | None, is_gone: bool) -> Act:
    """Return what is due: `on_disk` is what lies at the file's path as the folder agrees, `packed` its packed form,
    and `is_gone` whether the folder has no such file any more. What is neither there nor gone is still to come.
    """
    if on_disk is not None and on_disk.kind is Kind.FILE:
        return Act.NOTHING if packed == given.content else Act.PUBLISH
    gone = is_gone or on_disk is not None
    return Act.WITHDRAW if gone and given.content else Act.NOTHING


def file_name(name: str) -> bytes:
    """Return a name for a handed out file from what the other device calls it; always an ordinary, visible name."""
    kept = "".join(c for c in name if c.isprintable()).replace("/", "_").replace("\\", "_").strip(". ")
    data = kept.encode(errors="replace")[:NAME_BYTES_MAX].decode(errors="ignore").encode()
    return data or FILE_NAME


def names(wanted: bytes) -> Iterator[bytes]:
    """Yield `wanted` and then numbered names like it, of at most NAME_BYTES_MAX bytes each."""
    yield wanted
    stem, dot, end = wanted.rpartition(b".")
    if not stem or len(end) > 16:
        stem, dot, end = wanted, b"", b""
    for number in range(2, PLACE_NAMES_MAX + 1):
        mark = b" (%d)" % number + dot + end
        kept = stem[: NAME_BYTES_MAX - len(mark)].decode(errors="ignore").encode() if _is_text(stem) else stem
        yield kept[: NAME_BYTES_MAX - len(mark)] + mark


def _is_text(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True
