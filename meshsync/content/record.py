"""The operations of an entry's sealed payload, and their bytes.

Invariant: an operation names exactly what lay on its author's disk (`semantics.md` 2). In memory every
reference is absolute (`Dot`, `NodeId`); on the wire chains are interned in a table at the head of the batch,
where 0 is the entry's own chain, because a first entry cannot name the chain whose id is its own hash.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from meshsync.ids import ChunkId, Dot, NodeId


class Kind(enum.IntEnum):
    """What a version is."""

    FILE = 1
    DIRECTORY = 2
    LINK = 3


@dataclass(frozen=True, slots=True)
class Content:
    """What a version holds; two versions are equal exactly if their contents are.

    `size` in bytes of file content, 0 otherwise. `root` names the manifest's root (depth ≥ 1), the single data
    chunk (depth 0), or is empty for an empty file, a directory or a link. `target` is the link's target, raw bytes.
    """

    kind: Kind
    size: int = 0
    root: ChunkId = ChunkId(b"")
    depth: int = 0
    target: bytes = b""


@dataclass(frozen=True, slots=True)
class Keep:
    """A neighbour of the operation's node that was on disk and becomes or stays a node under its shown name.

    With `version`: the conflict copy of `node` that holds `version` (its id is H(node, version)).
    Without: a second node shown under a derived name, placed again with the stamp of placement `placed`.
    """

    node: NodeId
    version: Dot | None
    placed: Dot | None
    parent: NodeId
    name: bytes


@dataclass(frozen=True, slots=True)
class Put:
    """A version was written. `node` None creates the node named by this operation's own dot and places it.

    `parent` and `name` say where it lay; `path` is the whole path on the author's disk, root first, name last.
    """

    node: NodeId | None
    content: Content
    executable: bool
    mtime_ns: int
    replaces: tuple[Dot, ...]
    parent: NodeId
    name: bytes
    path: tuple[bytes, ...]
    keeps: tuple[Keep, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """A node was moved or renamed, carrying `carries`."""

    node: NodeId
    parent: NodeId
    name: bytes
    carries: tuple[Dot, ...]
    path: tuple[bytes, ...]
    keeps: tuple[Keep, ...] = ()


@dataclass(frozen=True, slots=True)
class Dropped:
    """One node of a drop: the versions and placement that were on disk; `parent`: index in the list, -1 none."""

    node: NodeId
    versions: tuple[Dot, ...]
    placement: Dot | None
    parent: int


@dataclass(frozen=True, slots=True)
class Drop:
    """One user action that removed `items`: a file, or a directory and all that was on disk below it."""

    items: tuple[Dropped, ...]
    keeps: tuple[Keep, ...] = ()


@dataclass(frozen=True, slots=True)
class Attr:
    """The exec bit was changed: last writer wins per node."""

    node: NodeId
    executable: bool


@dataclass(frozen=True, slots=True)
class Mark:
    """The folder as its author knew it just before this entry is called `name`; `present` False: no more.

    It changes nothing that is shown. The last writer of a name wins.
    """

    name: bytes
    present: bool


Op = Put | Place | Drop | Attr | Mark
