"""Chunks that are already on this device: in the user's own files, among the manifest lists, in the local store.

Invariant: what is returned was checked against its chunk id; a range that no longer holds its chunk is passed over.
Calls block; run them in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from meshsync.content.chunk_ids import chunk_id
from meshsync.content.seal import BlobKind
from meshsync.crypto.folder_keys import FolderKeys
from meshsync.ids import ChunkId, NodeId
from meshsync.index.chunk_rows import ChunkRows

ReadRange = Callable[[tuple[bytes, ...], int, int], bytes | None]
"""Read `size` bytes at `offset` of the file at a path; None if it cannot be read or is shorter."""


class LocalChunks:
    """Finds and checks chunks of one folder on this device."""

    def __init__(
        self,
        rows: ChunkRows,
        read_range: ReadRange,
        path_of: Callable[[NodeId], tuple[bytes, ...] | None],
        keys: Callable[[], FolderKeys],
        on_stale: Callable[[tuple[bytes, ...]], None],
    ) -> None:
        """`path_of` gives a synced node's path on disk; `on_stale` hears of paths whose bytes are not as recorded."""
        self._rows = rows
        self._read_range = read_range
        self._path_of = path_of
        self._keys = keys
        self._on_stale = on_stale

    def find(self, chunk: ChunkId, kind: BlobKind) -> bytes | None:
        """Return the plaintext of a chunk or list, or None if it is not here."""
        if kind is BlobKind.MANIFEST:
            return self._rows.list_bytes(chunk)
        keys = self._keys()
        for place in self._rows.ranges(chunk):
            path = self._path_of(place.node)
            if path is None:
                continue
            data = self._read_range(path, place.offset, place.size)
            if data is not None and chunk_id(keys, BlobKind.CHUNK, data) == chunk:
                return data
            self._on_stale(path)
        return None

    def find_many(self, chunks: Sequence[tuple[ChunkId, BlobKind]]) -> list[bytes | None]:
        """Return `find` of each."""
        return [self.find(chunk, kind) for chunk, kind in chunks]
