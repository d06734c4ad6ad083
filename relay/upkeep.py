"""What a relay does by itself: scrub, look for what it promised, carry out what owners let go of, remove blobs that
nobody needs, give back their space.

Invariant: a blob is removed from the store only when no folder holds it, and never while an upload is being noted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from meshsync.errors import MeshsyncError
from meshsync.ids import BlobId, FolderId
from meshsync.limits import (
    RELAY_COLLECT_ITEMS_MAX,
    RELAY_COMPACT_PACKS,
    RELAY_UPKEEP_INTERVAL_S,
    RELAY_VERIFY_ITEMS_MAX,
    STORE_SCRUB_BYTES,
)
from meshsync.store.base import ScrubReport
from relay.core import RelayCore
from relay.retiring import carry_out

Place: TypeAlias = tuple[FolderId, bytes]
"""A folder, and the blob after which to go on."""

BEGINNING: Final[Place] = (FolderId(b""), b"")


async def collect(core: RelayCore) -> int:
    """Remove blobs whose lease has ended and that no STORED record keeps; return how many left the store."""
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


async def collect_all(core: RelayCore) -> int:
    """Carry out what has waited, remove all blobs that nobody needs, and give back their space; return how many."""
    await carry_out(core)
    removed, after = await collect(core), b""
    while True:
        count, after = await sweep(core, after)
        removed += count
        if not after:
            break
    while await core.chunks.compact(RELAY_COMPACT_PACKS):
        pass
    return removed


async def look_for(core: RelayCore, blobs: Sequence[BlobId]) -> None:
    """Tell members which of `blobs`, found damaged, their folders hold."""
    for folder in await core.log.folders() if blobs else ():
        core.losses.found(folder, await core.log.blobs(folder, blobs))


async def verify(core: RelayCore, place: Place) -> Place:
    """Look whether the blobs of a page after `place` are in the store that receipts promised, and tell members.

    Returns where the next page begins; `BEGINNING` after the last folder. What is there is not read: that is scrub.
    """
    folder, after = place
    folders = [name for name in await core.log.folders() if name >= folder]
    if not folders:
        return BEGINNING
    page = await core.log.pinned(folders[0], after if folders[0] == folder else b"", RELAY_VERIFY_ITEMS_MAX)
    there = await core.chunks.has(page)
    core.losses.found(folders[0], [blob for blob in page if blob not in there])
    if len(page) == RELAY_VERIFY_ITEMS_MAX:
        return folders[0], page[-1]
    return (folders[1], b"") if len(folders) > 1 else BEGINNING


class Upkeep:
    """The background loop. `damaged` are the blobs that scrubbing found since the start; `trouble` the last failure."""

    def __init__(self, core: RelayCore) -> None:
        self._core = core
        self.damaged: set[BlobId] = set()
        self.trouble = ""
        self._swept = b""
        self._verified = BEGINNING

    async def run(self) -> None:
        """Verify once all that was promised, then do a step every RELAY_UPKEEP_INTERVAL_S seconds, until cancelled."""
        try:
            await self.verify_all()
        except MeshsyncError as error:
            self.trouble = str(error)
        while True:
            await self._core.runtime.sleep(RELAY_UPKEEP_INTERVAL_S)
            try:
                await self._core.log.wait(int(RELAY_UPKEEP_INTERVAL_S))
                await self.step()
                self.trouble = ""
            except MeshsyncError as error:
                self.trouble = str(error)

    async def verify_all(self) -> None:
        """Look for every blob that a receipt promised."""
        place = await verify(self._core, BEGINNING)
        while place != BEGINNING:
            place = await verify(self._core, place)

    async def step(self) -> ScrubReport:
        """Do one step now."""
        await carry_out(self._core)
        await collect(self._core)
        _, self._swept = await sweep(self._core, self._swept)
        await self._core.chunks.compact(RELAY_COMPACT_PACKS)
        report = await self._core.chunks.scrub(STORE_SCRUB_BYTES)
        self.damaged.update(report.damaged)
        await look_for(self._core, report.damaged)
        self._verified = await verify(self._core, self._verified)
        return report
