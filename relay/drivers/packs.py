"""Sealed blobs in pack files on this machine, off the event loop.

Invariant: concurrent `put`s share one sync: what arrives while a batch is being written forms the next batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from meshsync.ids import BlobId
from meshsync.limits import RELAY_PUT_BATCH_BYTES
from meshsync.runtime import Runtime
from meshsync.store.base import BlobStore, ScrubReport, Usage
from relay.drivers.batching import Batcher


class ThreadedChunkStore:
    """A `ChunkStore` over a blocking `BlobStore`. Callers bound the bytes that they put at once."""

    def __init__(self, store: BlobStore, runtime: Runtime) -> None:
        self._store, self._runtime = store, runtime
        self._puts = Batcher(runtime, "chunk store writer", self._put, RELAY_PUT_BATCH_BYTES)

    async def put(self, blobs: Sequence[tuple[BlobId, bytes]]) -> None:
        await self._puts.do(blobs, sum(len(data) for _, data in blobs))

    async def get(self, blob: BlobId) -> bytes:
        return await self._runtime.in_thread(self._store.get, blob)

    async def has(self, blobs: Sequence[BlobId]) -> set[BlobId]:
        return await self._runtime.in_thread(self._store.has, blobs)

    async def delete(self, blobs: Sequence[BlobId]) -> None:
        await self._runtime.in_thread(self._store.delete, blobs)

    async def ids(self, after: bytes, items_max: int) -> list[BlobId]:
        return await self._runtime.in_thread(lambda: list(islice(self._store.ids(after), items_max)))

    async def compact(self, packs_max: int) -> int:
        return await self._runtime.in_thread(self._store.compact, packs_max)

    async def scrub(self, limit_bytes: int) -> ScrubReport:
        return await self._runtime.in_thread(self._store.scrub, limit_bytes)

    async def usage(self) -> Usage:
        return await self._runtime.in_thread(self._store.usage)

    async def close(self) -> None:
        await self._puts.idle()
        await self._runtime.in_thread(self._store.close)

    def _put(self, batch: Sequence[Sequence[tuple[BlobId, bytes]]]) -> list[None]:
        self._store.put([blob for blobs in batch for blob in blobs])
        return [None] * len(batch)
