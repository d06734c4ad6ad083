"""Chunks that are already on this device: in the user's own files, among the manifest lists, in the local store.

Invariant: what is returned was checked against its chunk id; a range that no longer holds its chunk is passed over.
Calls block; run them in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from meshsync.content.chunk_ids import chunk_id
from meshsync.content.seal import BlobKind
from meshsync.crypto.folder_keys import FolderKeys
from meshsync.ids import ChunkId, NodeId
from meshsync.index.chunk_rows import ChunkRows, Range
from meshsync.limits import RANGES_PER_CHUNK_MAX

ReadRanges = Callable[[tuple[bytes, ...], Sequence[tuple[int, int]]], list[bytes | None]]
"""Read each (offset, size) of the file at a path; None where it cannot be read or ends before."""


class LocalChunks:
    """Finds and checks chunks of one folder on this device."""

    def __init__(
        self,
        rows: ChunkRows,
        read_ranges: ReadRanges,
        path_of: Callable[[NodeId], tuple[bytes, ...] | None],
        keys: Callable[[], FolderKeys],
        on_stale: Callable[[tuple[bytes, ...]], None],
    ) -> None:
        """`path_of` gives a synced node's path on disk; `on_stale` hears of paths whose bytes are not as recorded."""
        self._rows = rows
        self._read_ranges = read_ranges
        self._path_of = path_of
        self._keys = keys
        self._on_stale = on_stale

    def find(self, chunk: ChunkId, kind: BlobKind) -> bytes | None:
        """Return the plaintext of a chunk or list, or None if it is not here."""
        if kind is BlobKind.MANIFEST:
            return self._rows.list_bytes(chunk)
        return self.find_chunks([chunk]).get(chunk)

    def find_chunks(
        self, chunks: Sequence[ChunkId], sizes: Mapping[ChunkId, int] | None = None
    ) -> dict[ChunkId, bytes]:
        """Return the data chunks among `chunks` that are here. Each file is opened once.

        `sizes`: bytes of each chunk as somebody states them; a chunk that is longer here is not read.
        """
        places = self._rows.ranges_of(chunks)
        if sizes is not None:
            places = {chunk: [at for at in ranges if at.size <= sizes[chunk]] for chunk, ranges in places.items()}
        found: dict[ChunkId, bytes] = {}
        for attempt in range(RANGES_PER_CHUNK_MAX):
            by_node: dict[NodeId, list[tuple[ChunkId, Range]]] = {}
            for chunk, ranges in places.items():
                if chunk not in found and attempt < len(ranges):
                    by_node.setdefault(ranges[attempt].node, []).append((chunk, ranges[attempt]))
            for node, wanted in by_node.items():
                self._read(node, wanted, found)
        return found

    def _read(self, node: NodeId, wanted: list[tuple[ChunkId, Range]], found: dict[ChunkId, bytes]) -> None:
        path = self._path_of(node)
        if path is None:
            return
        keys = self._keys()
        read = self._read_ranges(path, [(place.offset, place.size) for _, place in wanted])
        for (chunk, _), data in zip(wanted, read, strict=True):
            if data is not None and chunk_id(keys, BlobKind.CHUNK, data) == chunk:
                found[chunk] = data
            else:
                self._on_stale(path)
