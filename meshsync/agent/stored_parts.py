"""What has to be at a relay before a version is durable there: its chunks and lists, in parts if there are many.

Invariant: parts come children first. A part is one manifest list of a large file; where lists are cut depends on what
the file holds there, so the next version of the file has most parts in common with this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from meshsync.content.manifest import Node, expand, root_node
from meshsync.content.record import Content, Kind
from meshsync.content.seal import BlobKind
from meshsync.ids import ChunkId

ListBytes = Callable[[ChunkId], bytes | None]
"""The bytes of a manifest list, None if it is not here. Blocking."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One chunk or list of a version; `size` in bytes before sealing."""

    chunk: ChunkId
    kind: BlobKind
    size: int


@dataclass(frozen=True, slots=True)
class Part:
    """The manifest list `id`: `pieces` are it and the chunks that it names, `lists` the lists that it names."""

    id: ChunkId
    pieces: tuple[Piece, ...]
    lists: tuple[ChunkId, ...]


class ContentAbsent(Exception):
    """A list or chunk of a version is not on this device; `wanted` is the list, None for a chunk."""

    def __init__(self, wanted: ChunkId | None = None) -> None:
        super().__init__()
        self.wanted = wanted


def is_in_parts(content: Content) -> bool:
    """Whether a version is stored in parts: its manifest has more than one list."""
    return content.kind is Kind.FILE and content.depth > 1


def pieces_of(content: Content, list_bytes: ListBytes) -> list[Piece] | None:
    """Return all pieces of a version that is not stored in parts, None if its list is not here."""
    root = root_node(content) if content.kind is Kind.FILE else None
    if root is None:
        return []
    if root.level == 0:
        return [Piece(root.id, BlobKind.CHUNK, root.size)]
    try:
        part, _ = _part(root, list_bytes)
    except ContentAbsent:
        return None
    return list(part.pieces)


def parts_of(content: Content, list_bytes: ListBytes, is_stored: Callable[[ChunkId], bool]) -> Iterator[Part]:
    """Yield the parts of a version that `is_stored` does not know, each after those below it, the root's last.

    At most one path of lists is held. Raises ContentAbsent.
    """
    root = root_node(content)
    if root is None or is_stored(root.id):
        return
    part, below = _part(root, list_bytes)
    open_parts = [(part, iter(below))]
    while open_parts:
        part, waiting = open_parts[-1]
        node = next(waiting, None)
        if node is None:
            open_parts.pop()
            yield part
        elif not is_stored(node.id):
            child, below = _part(node, list_bytes)
            open_parts.append((child, iter(below)))


def _part(node: Node, list_bytes: ListBytes) -> tuple[Part, tuple[Node, ...]]:
    """Return the part of the list `node`, and the lists that it names."""
    data = list_bytes(node.id)
    if data is None:
        raise ContentAbsent(node.id)
    children = expand(node, data)
    own = Piece(node.id, BlobKind.MANIFEST, len(data))
    if node.level == 1:
        chunks = (Piece(child.id, BlobKind.CHUNK, child.size) for child in children)
        return Part(node.id, (own, *chunks), ()), ()
    return Part(node.id, (own,), tuple(child.id for child in children)), children
