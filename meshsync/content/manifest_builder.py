"""Building a manifest: chunk lists cut by their own content, so that a local change of a file changes few lists.

Invariant: the tree is a function of the sequence of (chunk id, size) alone, so equal files have equal roots. A list
ends after an item whose id, read as a number, hits a fixed fraction: ids are keyed hashes, so nobody without the
folder's secret can aim at it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from meshsync.content.chunk_ids import chunk_id
from meshsync.content.manifest import Item, write_list
from meshsync.content.record import Content, Kind
from meshsync.content.seal import BlobKind
from meshsync.crypto.folder_keys import FolderKeys
from meshsync.errors import ResourceError
from meshsync.ids import ChunkId
from meshsync.limits import (
    FILE_SIZE_BYTES_MAX,
    MANIFEST_DEPTH_MAX,
    MANIFEST_LIST_ITEMS_MAX,
    MANIFEST_LIST_ITEMS_MEAN,
    MANIFEST_LIST_ITEMS_MIN,
)

_CUT_ONE_IN = MANIFEST_LIST_ITEMS_MEAN - MANIFEST_LIST_ITEMS_MIN


@dataclass(frozen=True, slots=True)
class Built:
    """A finished tree: what the version holds, and its lists (id, bytes) that `take` had not yet handed out."""

    content: Content
    lists: tuple[tuple[ChunkId, bytes], ...]


@dataclass(slots=True)
class _Level:
    """Items on their way into lists of one level, and whether any list of that level is closed."""

    items: list[Item] = field(default_factory=list)
    any_closed: bool = False


class ManifestBuilder:
    """Takes a file's chunks in order and gives its tree. Holds one open list for each level, and what `take` drains."""

    def __init__(self, keys: FolderKeys) -> None:
        self._keys = keys
        self._levels: list[_Level] = [_Level()]
        self._lists: list[tuple[ChunkId, bytes]] = []
        self._size = 0

    def add(self, id: ChunkId, size: int) -> None:
        """Append a data chunk of `size` > 0 bytes. Raises ResourceError if the file is beyond FILE_SIZE_BYTES_MAX."""
        assert size > 0, "a chunk has at least one byte"
        self._size += size
        if self._size > FILE_SIZE_BYTES_MAX:
            raise ResourceError(f"a file of over {FILE_SIZE_BYTES_MAX} bytes cannot be synced")
        self._append(0, Item(id, size))

    def take(self) -> list[tuple[ChunkId, bytes]]:
        """Return the lists closed since the last call; call it now and then for a huge file to bound memory."""
        taken, self._lists = self._lists, []
        return taken

    def finish(self) -> Built:
        """Return the tree; the builder is used up. One chunk is its own root at depth 0; an empty file has none."""
        depth = 0
        while self._levels[depth].any_closed:
            if self._levels[depth].items:
                self._close(depth)
            depth += 1
        top = self._levels[depth].items
        if len(top) > 1:
            root, depth = self._write(depth).id, depth + 1
        else:
            root = top[0].id if top else ChunkId(b"")
        return Built(Content(Kind.FILE, self._size, root, depth), tuple(self.take()))

    def _append(self, below: int, item: Item) -> None:
        items = self._levels[below].items
        items.append(item)
        count = len(items)
        if count >= MANIFEST_LIST_ITEMS_MAX or (count >= MANIFEST_LIST_ITEMS_MIN and ends_list(item.id)):
            self._close(below)

    def _close(self, below: int) -> None:
        level = self._levels[below]
        level.any_closed = True
        if len(self._levels) == below + 1:
            self._levels.append(_Level())
        item = self._write(below)
        level.items = []
        self._append(below + 1, item)

    def _write(self, below: int) -> Item:
        if below >= MANIFEST_DEPTH_MAX:
            raise ResourceError("a file of so many chunks cannot be synced")
        items = self._levels[below].items
        data = write_list(below + 1, items)
        id = chunk_id(self._keys, BlobKind.MANIFEST, data)
        self._lists.append((id, data))
        return Item(id, sum(item.size for item in items))


def ends_list(id: ChunkId) -> bool:
    """Return whether a list of at least MANIFEST_LIST_ITEMS_MIN items ends after the item `id`."""
    return int.from_bytes(id[:4], "big") % _CUT_ONE_IN == 0
