"""What every conversation of a relay shares.

Invariant: all but the slots, which live for minutes, is derived from storage; a restart loses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from meshsync.crypto.identity import DeviceKeys
from meshsync.ids import FolderId
from meshsync.limits import RELAY_FETCH_BYTES_MAX, RELAY_GRACE_S, RELAY_UPLOAD_BYTES_MAX
from meshsync.metalog.head import sign_head
from meshsync.runtime import Runtime
from relay.drivers.base import ChunkStore, HintBus, MetadataLog
from relay.folder_views import FolderViews
from relay.losses import Losses
from relay.sequencer import FolderView
from relay.slots import Slots


class ByteBudget:
    """A bound on bytes held at once. Waiters are served in order, so that a large request is not starved."""

    def __init__(self, size_max: int) -> None:
        self._free = self._size_max = size_max
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def take(self, size: int) -> AsyncIterator[None]:
        """Hold `size` bytes, at most the whole budget, for the block; waits until they are free."""
        size = min(size, self._size_max)
        async with self._turn:
            while self._free < size:
                self._freed.clear()
                await self._freed.wait()
            self._free -= size
        try:
            yield
        finally:
            self._free += size
            self._freed.set()


class Gate:
    """Uploads pass together, collection alone: a blob is never removed between "it is here" and the note of it."""

    def __init__(self) -> None:
        self._inside = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def upload(self) -> AsyncIterator[None]:
        """Pass with other uploads; waits while a collection is under way."""
        async with self._turn:
            self._inside += 1
            self._empty.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    @asynccontextmanager
    async def collect(self) -> AsyncIterator[None]:
        """Pass alone; waits for the uploads inside, and holds off new ones."""
        async with self._turn:
            await self._empty.wait()
            yield


@dataclass(slots=True)
class RelayCore:
    """Keys, storage and bounds. `secrets` returns the invitations in force, 16 bytes each. `grace_s`: for how many
    seconds of running what owners let go of is kept at least."""

    keys: DeviceKeys
    runtime: Runtime
    log: MetadataLog
    chunks: ChunkStore
    hints: HintBus
    secrets: Callable[[], Iterable[bytes]]
    folder_bytes_max: int
    grace_s: int = RELAY_GRACE_S
    views: FolderViews = field(init=False)
    uploads: ByteBudget = field(default_factory=lambda: ByteBudget(RELAY_UPLOAD_BYTES_MAX))
    fetches: ByteBudget = field(default_factory=lambda: ByteBudget(RELAY_FETCH_BYTES_MAX))
    gate: Gate = field(default_factory=Gate)
    slots: Slots = field(init=False)
    losses: Losses = field(default_factory=Losses)

    def __post_init__(self) -> None:
        self.views = FolderViews(self.log)
        self.slots = Slots(self.runtime)

    def now_s(self) -> int:
        """Return seconds since 1970, for leases and tickets: a wrong clock changes how long they last, nothing else."""
        return self.runtime.wall_time_ns() // 1_000_000_000

    def signed_head(self, view: FolderView, after: bytes = b"") -> bytes:
        """Return the signed log head of `view`, as the answer to the head with the hash `after`."""
        return sign_head(self.keys, view.folder, index=view.index, head=view.head, after=after)

    def grew(self, folder: FolderId, index: int) -> None:
        """Tell followers."""
        self.hints.publish(folder, index)
