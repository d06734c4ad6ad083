"""What a backup keeps of one folder, and its conversations with members: those of a relay, for this one folder.

Invariant: the only place where an agent uses the relay's code, so that there is one blind store to attack and not two.
Whatever a stream asks for, it is served by the membership chain that is kept here, and for this folder only.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import MeshsyncError, ResourceError, StorageFull
from meshsync.ids import BlobId, FolderId, short
from meshsync.limits import RELAY_FOLDER_BYTES_MAX, RELAY_LEASE_S, WANT_ITEMS_MAX
from meshsync.metalog.membership import Membership
from meshsync.metalog.membership_entry import open_membership
from meshsync.metalog.record_log import GENESIS_HEAD, LogRecord, RecordKind, next_head
from meshsync.runtime import Runtime
from meshsync.store.files import SystemFiles
from meshsync.store.packs import PackStore
from meshsync.transport.base import Link
from meshsync.transport.framed import FramedStream
from relay.access import Right
from relay.append import append, held_blobs
from relay.conversation import Conversation
from relay.core import RelayCore
from relay.drivers.base import OverQuota, Row
from relay.drivers.hints import LocalHints
from relay.drivers.packs import ThreadedChunkStore
from relay.drivers.sqlite_log import SqliteLog
from relay.messages import MessageStream
from relay.records import Parsed, parse
from relay.slots import source_of
from relay.upkeep import Upkeep

LOG_NAME = "log.sqlite"
CHUNKS_NAME = "chunks"


@dataclass(frozen=True, slots=True)
class Held:
    """What is kept: `records` of the log, `blobs`, and the `bytes` that the blobs take on disk."""

    records: int = 0
    blobs: int = 0
    bytes: int = 0


Fetch = Callable[[Sequence[BlobId]], Awaitable[list[tuple[BlobId, bytes]]]]
"""Gives blobs, the first of those that were asked for, in their order; what is not given comes another time or way."""


class BackupStore:
    """Belongs to one loop. `damaged()` are the blobs that scrubbing found since the start."""

    def __init__(self, folder: FolderId, core: RelayCore) -> None:
        self._folder = folder
        self._core = core
        self._upkeep = Upkeep(core)

    @classmethod
    async def open(cls, runtime: Runtime, keys: DeviceKeys, folder: FolderId, directory: Path) -> BackupStore:
        """Open what lies in `directory`, or begin it there.

        Raises ConfigError (somebody else works on it), StorageFull, ResourceError, IntegrityError.
        """
        async with contextlib.AsyncExitStack() as undo:
            packs = await runtime.in_thread(lambda: PackStore(directory / CHUNKS_NAME, SystemFiles()))
            chunks = ThreadedChunkStore(packs, runtime)
            undo.push_async_callback(chunks.close)
            log = SqliteLog(directory / LOG_NAME, runtime)
            undo.pop_all()
        return cls(folder, RelayCore(keys, runtime, log, chunks, LocalHints(), list, RELAY_FOLDER_BYTES_MAX))

    @property
    def damaged(self) -> int:
        """How many kept blobs turned out to be damaged since the start; members bring them again."""
        return len(self._upkeep.damaged)

    async def found(self, chain: Sequence[bytes]) -> None:
        """Keep a membership chain that was verified, genesis first; what is kept of it already stays.

        Raises what storage raises.
        """
        opened = [open_membership(data) for data in chain]
        first = Row(1, opened[0].id, RecordKind.MEMBERSHIP, chain[0], next_head(GENESIS_HEAD, opened[0].id))
        log = self._core.log
        await log.create_folder(self._folder, opened[0].author, self._core.folder_bytes_max, first)
        state = await log.state(self._folder)
        assert state is not None, "it was created just now, or before"
        known = await log.find(self._folder, [entry.id for entry in opened])
        index, head, rows = state.index, state.head, []
        for entry in opened:
            if entry.id not in known:
                index, head = index + 1, next_head(head, entry.id)
                rows.append(Row(index, entry.id, RecordKind.MEMBERSHIP, entry.data, head))
        if rows:
            await log.append(self._folder, state.index, rows)

    async def membership(self) -> Membership | None:
        """Return who belongs to the folder as far as it is known here; None before `found`. Raises IntegrityError."""
        view = await self._core.views.get(self._folder)
        return None if view is None else view.membership

    async def held(self) -> Held:
        """Return how much is kept."""
        state, usage = await self._core.log.state(self._folder), await self._core.chunks.usage()
        return Held(0 if state is None else state.index, usage.blobs, usage.live_bytes)

    async def serve(self, framed: FramedStream, link: Link) -> None:
        """Serve a stream that begins with an Attach to the folder, until its end. Raises PeerError, TransientError."""
        await Conversation(self._core, link.peer, MessageStream(framed), source_of(link.address)).run()
        await framed.finish()

    async def copy(self, records: Sequence[LogRecord], fetch: Fetch) -> None:
        """Take records of another keeper of the folder, in its order, with the blobs that they list.

        What the membership chain here does not allow, or lacks its past or blobs, is passed over. Raises what storage
        and `fetch` raise.
        """
        core = self._core
        taken = [record for record in records if record.kind != RecordKind.RECEIPT]
        parsed = await core.runtime.in_thread(lambda: [parse(record, self._folder) for record in taken])
        listed = {blob for one in parsed if isinstance(one, Parsed) for blob in one.blobs()}
        await self._bring(sorted(listed - await held_blobs(core, self._folder, sorted(listed))), fetch)
        membership = await self.membership()
        if taken and membership is not None:
            await append(core, self._folder, membership.owners()[0], Right.UPLOAD, taken)

    async def _bring(self, blobs: list[BlobId], fetch: Fetch) -> None:
        """Store what `fetch` gives of `blobs`: about WANT_BYTES_MAX bytes are held at a time."""
        core, wanted = self._core, blobs
        while wanted:
            asked, wanted = wanted[:WANT_ITEMS_MAX], wanted[WANT_ITEMS_MAX:]
            while asked:
                found = await fetch(asked)
                if not found:
                    break  # none of these is given: members bring them
                membership = await self.membership()
                assert membership is not None, "there is a log"
                async with core.gate.upload():
                    await core.chunks.put(found)
                    sizes = {blob: len(data) for blob, data in found}
                    owner, until_s = membership.owners()[0], core.now_s() + RELAY_LEASE_S
                    full = await core.log.add_blobs(self._folder, owner, sizes, until_s)
                if isinstance(full, OverQuota):
                    raise StorageFull("the quota of a kept folder is used up", folder=short(self._folder))
                asked = asked[asked.index(found[-1][0]) + 1 :]

    async def run(self, on_growth: Callable[[], None]) -> None:
        """Scrub and collect in the background, and tell of each growth of the log, until cancelled."""
        hints = self._core.hints.follow(self._folder)
        upkeep = self._core.runtime.spawn(self._upkeep.run(), "backup upkeep")
        try:
            while await hints.next() is not None:
                on_growth()
        finally:
            hints.close()
            upkeep.cancel()
            await asyncio.gather(upkeep, return_exceptions=True)

    async def close(self) -> None:
        """Finish what is being written and release the files."""
        with contextlib.suppress(MeshsyncError):
            await self._core.log.close()
        await self._core.chunks.close()


def remove_store(directory: Path) -> None:
    """Remove a store, and its directory if nothing else is in it. Blocking, once closed. Raises ResourceError."""
    try:
        for name in (LOG_NAME, f"{LOG_NAME}-wal", f"{LOG_NAME}-shm"):
            (directory / name).unlink(missing_ok=True)
        shutil.rmtree(directory / CHUNKS_NAME)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ResourceError(f"what was kept cannot be removed: {error.strerror}", path=str(directory)) from error
    with contextlib.suppress(OSError):
        directory.rmdir()
