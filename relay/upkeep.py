"""What a relay does by itself: scrub, remove blobs that nobody needs, give back their space.

Invariant: a blob is removed from the store only when no folder holds it, and never while an upload is being noted.
"""

from __future__ import annotations

from meshsync.errors import MeshsyncError
from meshsync.ids import BlobId
from meshsync.limits import RELAY_COLLECT_ITEMS_MAX, RELAY_COMPACT_PACKS, RELAY_UPKEEP_INTERVAL_S, STORE_SCRUB_BYTES
from meshsync.store.base import ScrubReport
from relay.core import RelayCore


async def collect(core: RelayCore) -> int:
    """Remove blobs whose lease has ended and that no STORED record lists; return how many left the store."""
    removed = 0
    for folder in await core.log.folders():
        while True:
            async with core.gate.collect():
                now_s = core.now_s()
                doomed = await core.log.unleased(folder, now_s, RELAY_COLLECT_ITEMS_MAX)
                orphans = await core.log.drop_blobs(folder, doomed, now_s)
                await core.chunks.delete(orphans)
            removed += len(orphans)
            if len(doomed) < RELAY_COLLECT_ITEMS_MAX:
                break
    return removed


async def sweep(core: RelayCore, after: bytes = b"") -> tuple[int, bytes]:
    """Remove blobs of the next page after `after` that no folder holds: stored, but never noted, because of a crash or
    a quota. Returns how many, and where the next page begins (empty at the end)."""
    async with core.gate.collect():
        page = await core.chunks.ids(after, RELAY_COLLECT_ITEMS_MAX)
        claimed = await core.log.claimed(page)
        orphans = [blob for blob in page if blob not in claimed]
        await core.chunks.delete(orphans)
    return len(orphans), page[-1] if len(page) == RELAY_COLLECT_ITEMS_MAX else b""


class Upkeep:
    """The background loop. `damaged` are the blobs that scrubbing found since the start; `trouble` the last failure."""

    def __init__(self, core: RelayCore) -> None:
        self._core = core
        self.damaged: set[BlobId] = set()
        self.trouble = ""
        self._swept = b""

    async def run(self) -> None:
        """Scrub and collect a step every RELAY_UPKEEP_INTERVAL_S seconds, until cancelled."""
        while True:
            await self._core.runtime.sleep(RELAY_UPKEEP_INTERVAL_S)
            try:
                await self.step()
                self.trouble = ""
            except MeshsyncError as error:
                self.trouble = str(error)

    async def step(self) -> ScrubReport:
        """Do one step now."""
        await collect(self._core)
        _, self._swept = await sweep(self._core, self._swept)
        await self._core.chunks.compact(RELAY_COMPACT_PACKS)
        report = await self._core.chunks.scrub(STORE_SCRUB_BYTES)
        self.damaged.update(report.damaged)
        return report
