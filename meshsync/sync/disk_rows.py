"""The two trees of the disk: *synced*, what the disk and the view last agreed on, and *local*, what a scan observed.

Invariant: a synced row names what was put on this disk, or taken from it, and nothing else; operations are made from
synced rows only (`semantics.md` 2.1, 4.1). Paths are tuples of names on disk, root first; `()` is the root.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from meshsync.content.record import Content, Kind
from meshsync.ids import Dot, NodeId

Path = tuple[bytes, ...]


_PARKED = b"parked"
_PARKED_NUMBER_BYTES = 4


def parked_id(number: int) -> NodeId:
    """Return the id that stands as parent of what is parked under `number` (from 0) in the control directory."""
    return NodeId(_PARKED + number.to_bytes(_PARKED_NUMBER_BYTES, "big"))


def parked_number(parent: NodeId) -> int | None:
    """Return the number of a `parked_id`, None for any other id."""
    if len(parent) != len(_PARKED) + _PARKED_NUMBER_BYTES or not parent.startswith(_PARKED):
        return None
    return int.from_bytes(parent[len(_PARKED) :], "big")


class Stat(NamedTuple):
    """What tells one state of an object from another: bytes, ns since 1970; `birth_ns` is 0 where it is unknown."""

    inode: int
    birth_ns: int
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, slots=True)
class SyncedRow:
    """One node as it lies on disk under `name` in the directory node `parent`.

    `versions` and `placement` are what an operation on it names. `natural` is the name it has in the log; `name`
    differs where the view derived another. `copy_of` is set for a conflict copy that no operation has named. Several
    rows may share a path: directories shown as one, files of equal content; `order` 0 is the first of them.
    `stat` is None until a scan has seen it. A row whose `parent` is a `parked_id` lies out of the tree, where a plan
    that was interrupted left it; the next plan brings it back.
    """

    node: NodeId
    versions: tuple[Dot, ...]
    placement: Dot | None
    parent: NodeId
    name: bytes
    natural: bytes
    copy_of: NodeId | None
    order: int
    content: Content
    executable: bool
    mtime_ns: int
    stat: Stat | None

    @property
    def kind(self) -> Kind:
        return self.content.kind


@dataclass(frozen=True, slots=True)
class LocalRow:
    """One object as observed. `content` is that of the bytes at `stat`."""

    path: Path
    content: Content
    executable: bool
    stat: Stat

    @property
    def kind(self) -> Kind:
        return self.content.kind


@dataclass(frozen=True, slots=True)
class Intent:
    """Recorded before apply touches the tree: `rows` become true once `path` holds the object `inode`.

    Rows under a `parked_id` become true once what is parked there is the object in their `stat`. `path` is None for an
    action whose target is parked.
    """

    path: Path | None
    inode: int
    rows: tuple[SyncedRow, ...]
