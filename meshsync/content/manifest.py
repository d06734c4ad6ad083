"""Manifest lists: how one level of a file's chunk tree is written and read.

Invariant: a list that was read holds 1 to MANIFEST_LIST_ITEMS_MAX items of positive size, and its children's sizes
add up to what its parent stated; levels fall by one, so a tree has no cycle and at most MANIFEST_DEPTH_MAX levels.
Spec: docs/spec/content.md 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from meshsync.codec.canonical import Record, decode, encode
from meshsync.content.record import Content
from meshsync.errors import MalformedMessage, ManifestMismatch
from meshsync.ids import ID_SIZE_BYTES, ChunkId, short
from meshsync.limits import (
    CHUNK_SIZE_BYTES_MAX,
    FILE_SIZE_BYTES_MAX,
    MANIFEST_DEPTH_MAX,
    MANIFEST_LIST_BYTES_MAX,
    MANIFEST_LIST_ITEMS_MAX,
)


class Item(NamedTuple):
    """One child of a list: the id of a data chunk or of a lower list, and the file bytes beneath it."""

    id: ChunkId
    size: int


@dataclass(frozen=True, slots=True)
class Node:
    """A place in a file's chunk tree. `level` 0 is a data chunk; `offset` and `size` are bytes of the file."""

    level: int
    id: ChunkId
    offset: int
    size: int


class _List(Record, frozen=True):
    level: int
    ids: bytes
    sizes: tuple[int, ...]


def write_list(level: int, items: Sequence[Item]) -> bytes:
    """Return the bytes of a list at `level` (1 = of data chunks). The items are the caller's to keep in bounds."""
    return encode(_List(level, b"".join(item.id for item in items), tuple(item.size for item in items)))


def parse_list(data: bytes, level: int) -> tuple[Item, ...]:
    """Return the items of a list that should be at `level`.

    Raises ManifestMismatch if `data` is not the canonical bytes of such a list with items in bounds.
    """
    try:
        read = decode(_List, data, MANIFEST_LIST_BYTES_MAX)
    except MalformedMessage as error:
        raise ManifestMismatch(f"not a chunk list: {error.what}") from error
    count = len(read.sizes)
    if read.level != level or not 1 <= level <= MANIFEST_DEPTH_MAX:
        raise ManifestMismatch(f"a chunk list of level {read.level} where level {level} belongs")
    if not 1 <= count <= MANIFEST_LIST_ITEMS_MAX or len(read.ids) != count * ID_SIZE_BYTES:
        raise ManifestMismatch(f"a chunk list of {count} sizes and {len(read.ids)} bytes of ids")
    if min(read.sizes) < 1 or max(read.sizes) > _size_max(level - 1) or sum(read.sizes) > FILE_SIZE_BYTES_MAX:
        raise ManifestMismatch("a chunk list states a size out of bounds")
    ids = read.ids
    return tuple(Item(ChunkId(ids[at * 32 : at * 32 + 32]), size) for at, size in enumerate(read.sizes))


def root_node(content: Content) -> Node | None:
    """Return the root of a file's tree, None if the file is empty. Raises ManifestMismatch if the two disagree."""
    if content.size == 0 and not content.root and content.depth == 0:
        return None
    if len(content.root) != ID_SIZE_BYTES or not 0 <= content.depth <= MANIFEST_DEPTH_MAX:
        raise ManifestMismatch(f"a file of {content.size} bytes with a root at depth {content.depth}")
    if not 1 <= content.size <= _size_max(content.depth):
        raise ManifestMismatch(f"a tree of depth {content.depth} cannot hold {content.size} bytes")
    return Node(content.depth, content.root, 0, content.size)


def expand(node: Node, data: bytes) -> tuple[Node, ...]:
    """Return the children, in file order, of the list `node` (level ≥ 1) whose bytes are `data`.

    The caller has checked `data` against `node.id`. Raises ManifestMismatch if the list is malformed or its sizes do
    not add up to `node.size`.
    """
    children = []
    offset = node.offset
    for item in parse_list(data, node.level):
        children.append(Node(node.level - 1, item.id, offset, item.size))
        offset += item.size
    if offset != node.offset + node.size:
        raise ManifestMismatch(f"chunk list {short(node.id)} holds {offset - node.offset} bytes, not {node.size}")
    return tuple(children)


def walk(content: Content, read: Callable[[Node], bytes]) -> Iterator[Node]:
    """Yield the data chunks of a file in order, reading each list when it is reached.

    `read` returns the bytes of a list, checked against its id. At most one list for each level is held, whatever the
    file's stated size. Raises ManifestMismatch at the first list that does not fit, and what `read` raises.
    """
    root = root_node(content)
    pending = [iter(() if root is None else (root,))]
    while pending:
        node = next(pending[-1], None)
        if node is None:
            pending.pop()
        elif node.level == 0:
            yield node
        else:
            pending.append(iter(expand(node, read(node))))


def _size_max(level: int) -> int:
    capacity: int = CHUNK_SIZE_BYTES_MAX * MANIFEST_LIST_ITEMS_MAX**level
    return min(FILE_SIZE_BYTES_MAX, capacity)
