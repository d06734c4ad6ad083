"""The twin of the pack store that lives in memory. Invariant: it answers as `PackStore` does, call for call."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence

from meshsync.crypto.hashing import Buffer, blob_id
from meshsync.errors import BlobCorrupt, NotFound
from meshsync.ids import BlobId, short
from meshsync.store.base import ScrubReport, Usage
from meshsync.store.checked import check_blobs


class MemoryStore:
    """A `BlobStore` over a dictionary, which the caller may share, damage or lose."""

    def __init__(self, blobs: dict[BlobId, bytes] | None = None) -> None:
        self.blobs = {} if blobs is None else blobs
        self._quarantine: set[BlobId] = set()
        self._scrubbed = b""
        self._lock = threading.Lock()

    def put(self, blobs: Sequence[tuple[BlobId, Buffer]]) -> None:
        check_blobs(blobs)
        with self._lock:
            for blob, data in blobs:
                if blob not in self.blobs:
                    self.blobs[blob] = bytes(data)
                    self._quarantine.discard(blob)

    def get(self, blob: BlobId) -> bytes:
        with self._lock:
            if blob in self._quarantine:
                raise BlobCorrupt(f"blob {short(blob)} is damaged and in quarantine")
            if blob not in self.blobs:
                raise NotFound(f"blob {short(blob)} is not stored")
            data = self.blobs[blob]
            if blob_id(data) != blob:
                self._set_aside(blob)
                raise BlobCorrupt(f"blob {short(blob)} is damaged and in quarantine")
            return data

    def has(self, blobs: Iterable[BlobId]) -> set[BlobId]:
        with self._lock:
            return {blob for blob in blobs if blob in self.blobs}

    def size(self, blob: BlobId) -> int:
        with self._lock:
            if blob not in self.blobs:
                raise NotFound(f"blob {short(blob)} is not stored")
            return len(self.blobs[blob])

    def delete(self, blobs: Sequence[BlobId]) -> None:
        with self._lock:
            for blob in blobs:
                self.blobs.pop(blob, None)
                self._quarantine.discard(blob)

    def ids(self, after: bytes = b"") -> Iterator[BlobId]:
        with self._lock:
            return iter(sorted(blob for blob in self.blobs if blob > after))

    def damaged(self) -> list[BlobId]:
        with self._lock:
            return sorted(self._quarantine)

    def scrub(self, limit_bytes: int) -> ScrubReport:
        with self._lock:
            checked, size = 0, 0
            damaged: list[BlobId] = []
            for blob in sorted(id_ for id_ in self.blobs if id_ > self._scrubbed):
                if size >= limit_bytes:
                    return ScrubReport(checked, size, tuple(damaged), done=False)
                checked, size, self._scrubbed = checked + 1, size + len(self.blobs[blob]), blob
                if blob_id(self.blobs[blob]) != blob:
                    self._set_aside(blob)
                    damaged.append(blob)
            self._scrubbed = b""
            return ScrubReport(checked, size, tuple(damaged), done=True)

    def compact(self, packs_max: int) -> int:
        return 0  # deleting frees at once

    def usage(self) -> Usage:
        with self._lock:
            size = sum(map(len, self.blobs.values()))
            return Usage(len(self.blobs), size, size)

    def close(self) -> None:
        """Nothing is held."""

    def _set_aside(self, blob: BlobId) -> None:
        del self.blobs[blob]
        self._quarantine.add(blob)
