"""Keeps one relay linked, and every folder that is stored there in step with it: read, append, upload, fetch.

Invariant: entries go up past first and at once; content follows in the background; a refusal for one folder never stops
another, and what the relay does not take stops nothing but itself; whatever ends a link, the next one goes on
from the cursors.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Protocol

from meshsync.agent.changes import Changes
from meshsync.agent.conversation import RelayConversation
from meshsync.agent.durability import Durability, UploadPlace
from meshsync.agent.fetcher import Fetcher
from meshsync.agent.relay_reader import RelayReader
from meshsync.agent.relay_sampler import RelaySampler
from meshsync.agent.relay_source import RelaySource
from meshsync.agent.relay_watch import RelayWatch
from meshsync.agent.replica import Replica
from meshsync.agent.uploader import Uploader
from meshsync.codec.canonical import encode
from meshsync.errors import (
    AccessError,
    IntegrityError,
    MeshsyncError,
    NotAMember,
    ResourceError,
    TransientError,
)
from meshsync.ids import DeviceId, FolderId, RecordId, short
from meshsync.index.chunk_rows import ChunkRows
from meshsync.index.relay_rows import RelayRows
from meshsync.limits import (
    DIAL_PAUSE_S,
    DIAL_PAUSE_S_MAX,
    DIAL_TIMEOUT_S,
    RECORDS_PAGE_BYTES_MAX,
    RELAY_APPEND_ENTRIES_MAX,
    UPLOAD_LOOK_S,
    UPLOAD_RECORD_VERSIONS_MAX,
    UPLOAD_RETRY_S,
    UPLOAD_RETRY_S_MAX,
)
from meshsync.metalog.entry import SignedEntry
from meshsync.metalog.membership_entry import membership_id
from meshsync.metalog.record_log import LogRecord, RecordKind
from meshsync.runtime import Runtime
from meshsync.transport.base import Endpoint, Link, Priority
from meshsync.wire.relay_address import RelayAddress
from meshsync.wire.relay_messages import (
    AlreadyThere,
    Append,
    Appended,
    AppendResult,
    Attach,
    Attached,
    CreateFolder,
    RecordRefused,
    creation_proof,
    refusal_error,
)

log = logging.getLogger(__name__)


class RelayedFolder(Protocol):
    """What a relay client needs of a folder."""

    @property
    def replica(self) -> Replica:
        """The folder's log here."""

    @property
    def fetcher(self) -> Fetcher:
        """Asks sources for chunks."""

    @property
    def chunk_rows(self) -> ChunkRows:
        """Where chunks are."""

    @property
    def relay_rows(self) -> RelayRows:
        """Cursors."""

    @property
    def watch(self) -> RelayWatch:
        """Holds what relays sign against them."""

    @property
    def durability(self) -> Durability:
        """What relays are owed."""

    @property
    def paused(self) -> bool:
        """Whether nothing is exchanged about the folder."""

    def reader(self, relay: DeviceId) -> RelayReader:
        """Return the one reader of that relay's log."""

    def uploader(self, relay: DeviceId) -> Uploader:
        """Return the one uploader to that relay."""

    def sampler(self, relay: DeviceId) -> RelaySampler:
        """Return who looks whether that relay still has what it acknowledged."""

    def relay_problem(self, relay: DeviceId, what: str) -> None:
        """Tell the user why the relay does not serve the folder; empty when it does."""

    def relay_refuses(self, relay: DeviceId, error: MeshsyncError | None) -> None:
        """Tell the user why the relay takes nothing more now, while the rest goes on; None when it does."""

    def relay_linked(self, relay: DeviceId, linked: bool) -> None:
        """Hear that the relay can be asked for chunks, or no longer."""


class RelayClient:
    """One relay. `folders()` are those whose membership chain names it, or that are to be created there."""

    def __init__(
        self,
        runtime: Runtime,
        endpoint: Callable[[], Endpoint],
        address: RelayAddress,
        folders: Callable[[DeviceId], Iterable[RelayedFolder]],
        own: DeviceId,
        on_change: Callable[[], None],
    ) -> None:
        self.address = address
        self.link: Link | None = None
        self.problem = ""
        self.connected = Changes()
        self._runtime = runtime
        self._endpoint = endpoint
        self._folders = folders
        self._own = own
        self._on_change = on_change
        self._wake = Changes()
        self._serving: dict[FolderId, asyncio.Task[None]] = {}

    def refresh(self) -> None:
        """Look again at which folders the relay stores, and offer at once what it had no room for."""
        self._wake.note()

    async def run(self) -> None:
        """Dial, serve, dial again, until cancelled."""
        pause = DIAL_PAUSE_S
        while True:
            try:
                link = await self._endpoint().dial(
                    self.address.address, expect=self.address.device, discovery_key=None, timeout_s=DIAL_TIMEOUT_S
                )
            except MeshsyncError as error:
                self.problem = error.what
                self._on_change()
                await self._runtime.sleep(pause * (0.5 + self._runtime.random()))
                pause = min(pause * 2, DIAL_PAUSE_S_MAX)
                continue
            pause, self.problem, self.link = DIAL_PAUSE_S, "", link
            self.connected.note()
            self._on_change()
            try:
                await self._serve(link)
            finally:
                self.link = None
                link.close("done")
                self._on_change()

    async def _serve(self, link: Link) -> None:
        ended = self._runtime.spawn(link.wait_closed(), "relay link ends")
        ended.add_done_callback(lambda _: self._wake.note())
        try:
            while not ended.done():
                count = self._wake.count
                wanted = {folder.replica.folder: folder for folder in self._folders(link.peer) if not folder.paused}
                for gone in self._serving.keys() - wanted.keys():
                    self._serving.pop(gone).cancel()
                for name, folder in wanted.items():
                    if name not in self._serving or self._serving[name].done():
                        task = self._runtime.spawn(self._serve_folder(link, folder), f"relay folder {short(name)}")
                        self._serving[name] = task
                await self._wake.after(count)
        finally:
            tasks = [ended, *self._serving.values()]
            self._serving.clear()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve_folder(self, link: Link, folder: RelayedFolder) -> None:
        pause = DIAL_PAUSE_S
        name = f"relay {self.address.address}"
        blobs_of = partial(folder.chunk_rows.blobs, link.peer)
        absent = folder.sampler(link.peer).suspect
        source = RelaySource(self._runtime, name, link, folder.replica.folder, blobs_of, absent)
        while not folder.watch.is_convicted(link.peer):
            began = self._runtime.monotonic()
            try:
                await self._ensure_created(link, folder)
                folder.relay_problem(link.peer, "")
                await folder.fetcher.add_source(source)
                folder.relay_linked(link.peer, True)
                appended = Changes()
                await self._together(
                    folder.reader(link.peer).run(link),
                    self._append(link, folder, appended),
                    self._upload(link, folder, appended),
                )
            except MeshsyncError as error:
                if folder.watch.is_convicted(link.peer):
                    break
                log.info("relay %s, folder %s: %s", self.address.host, short(folder.replica.folder), error)
                folder.relay_problem(link.peer, error.what)
            finally:
                folder.relay_linked(link.peer, False)
                folder.relay_refuses(link.peer, None)
                await folder.fetcher.remove_source(source)
            if self._runtime.monotonic() - began > DIAL_PAUSE_S_MAX:
                pause = DIAL_PAUSE_S  # it served well in between
            await self._runtime.sleep(pause * (0.5 + self._runtime.random()))
            pause = min(pause * 2, DIAL_PAUSE_S_MAX)
        await self._take_content(link, folder, source)

    async def _take_content(self, link: Link, folder: RelayedFolder, source: RelaySource) -> None:
        """All that is still asked of a relay that is convicted: content, whose every chunk is checked by its id."""
        folder.relay_problem(link.peer, "")
        try:
            await folder.fetcher.add_source(source)
            folder.relay_linked(link.peer, True)
            await link.wait_closed()
        finally:
            folder.relay_linked(link.peer, False)
            await folder.fetcher.remove_source(source)

    async def _together(self, *jobs: Coroutine[Any, Any, None]) -> None:
        """Run jobs until one fails; then cancel the others and raise its error."""
        tasks = [self._runtime.spawn(job, "relay job") for job in jobs]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ensure_created(self, link: Link, folder: RelayedFolder) -> None:
        """Found the folder at the relay if it is not there and this device holds an invitation."""
        replica = folder.replica
        conversation = RelayConversation(await link.open_stream(Priority.INTERACTIVE))
        try:
            await conversation.send(Attach(replica.folder))
            try:
                await conversation.expect(Attached)
                return
            except NotAMember:
                if self.address.secret is None:
                    raise
        finally:
            conversation.reset()
        proof = creation_proof(self.address.secret, link.peer, self._own, replica.folder)
        conversation = RelayConversation(await link.open_stream(Priority.INTERACTIVE))
        try:
            await conversation.send(CreateFolder(replica.membership_chain[0].data, proof))
            await conversation.expect(Attached)
            await self._send(conversation, folder, self._membership_records(link.peer, folder))
        finally:
            conversation.reset()

    # --- records ------------------------------------------------------------------------------------------

    async def _append(self, link: Link, folder: RelayedFolder, appended: Changes) -> None:
        conversation = RelayConversation(await link.open_stream(Priority.INTERACTIVE))
        try:
            await conversation.send(Attach(folder.replica.folder))
            await conversation.expect(Attached)
            waiting = _Waiting(self._wake, partial(folder.relay_refuses, link.peer))
            while True:
                count = folder.replica.changes.count
                # These are free, and a change of them wakes who waits.
                await self._send(conversation, folder, self._membership_records(link.peer, folder))
                try:
                    while records := await self._runtime.in_thread(self._entry_records, link.peer, folder):
                        await self._send(conversation, folder, records)
                        waiting.over()
                except (AccessError, ResourceError) as error:
                    await waiting.after(error)
                    continue
                appended.note()
                await folder.replica.changes.after(count)
        finally:
            conversation.reset()

    def _membership_records(self, relay: DeviceId, folder: RelayedFolder) -> list[tuple[RecordId, LogRecord]]:
        return [
            (membership_id(data), LogRecord(int(RecordKind.MEMBERSHIP), data))
            for data in folder.relay_rows.unseen_membership(relay)
        ]

    def _entry_records(self, relay: DeviceId, folder: RelayedFolder) -> list[tuple[RecordId, LogRecord]]:
        records: list[tuple[RecordId, LogRecord]] = []
        size = 0
        for entry, *parts in folder.relay_rows.unseen_entries(relay, RELAY_APPEND_ENTRIES_MAX):
            data = encode(SignedEntry(*parts))
            size += len(data)
            if records and size > RECORDS_PAGE_BYTES_MAX:
                break
            records.append((RecordId(entry), LogRecord(int(RecordKind.ENTRY), data)))
        return records

    async def _send(
        self, conversation: RelayConversation, folder: RelayedFolder, records: list[tuple[RecordId, LogRecord]]
    ) -> None:
        if not records:
            return
        await conversation.send(Append(tuple(record for _, record in records)))
        result = await conversation.expect(AppendResult)
        if self.link is not None:
            folder.watch.hear(self.link.peer, result.head)
        kept: list[RecordId] = []
        refusal: MeshsyncError | None = None
        for (name, _), outcome in zip(records, result.outcomes, strict=True):
            if isinstance(outcome, Appended | AlreadyThere):
                kept.append(name)
            elif isinstance(outcome, RecordRefused):
                refusal = refusal or refusal_error(outcome)
            else:
                refusal = refusal or TransientError("the relay lacks what this device's entries build on")
        relay = self.link.peer if self.link is not None else None
        if relay is not None:
            await self._runtime.in_thread(self._note_kept, relay, folder, kept)
        if refusal is not None:
            raise refusal

    def _note_kept(self, relay: DeviceId, folder: RelayedFolder, kept: list[RecordId]) -> None:
        with folder.replica.database.transaction():
            folder.relay_rows.mark_seen(relay, kept)
            folder.replica.entries_at_relay(relay, kept)

    # --- content ------------------------------------------------------------------------------------------

    async def _upload(self, link: Link, folder: RelayedFolder, appended: Changes) -> None:
        """Upload content whose entries the relay has: a stored record names their operations."""
        count = 0
        waiting = _Waiting(self._wake, partial(folder.relay_refuses, link.peer))
        while True:
            # Without news too: a device may have gone whose versions only this one can bring to the relay now.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(UPLOAD_LOOK_S):
                    count = await appended.after(count)
            while True:
                try:
                    await self._upload_all(link, folder)
                    await self._bring_lost(link, folder)
                except (AccessError, ResourceError, IntegrityError) as error:
                    await waiting.after(error)
                else:
                    waiting.over()
                    break

    async def _bring_lost(self, link: Link, folder: RelayedFolder) -> None:
        """Look whether the relay has what it acknowledged; what of it lies here, whoever wrote it, is brought again."""
        sampler = folder.sampler(link.peer)
        await sampler.look(link)
        while sampler.to_bring:
            versions = await self._runtime.in_thread(sampler.versions)
            if not versions or not await folder.uploader(link.peer).upload(link, versions):
                return

    async def _upload_all(self, link: Link, folder: RelayedFolder) -> None:
        """Bring all that can be brought now. What cannot is passed over, and holds up nothing that comes after it."""
        relay, place = link.peer, UploadPlace()
        await folder.reader(relay).until_read()  # it tells what others stored meanwhile
        while not folder.relay_rows.unseen_entries(relay, 1):
            versions, following = await folder.durability.to_upload(relay, place, UPLOAD_RECORD_VERSIONS_MAX)
            if not versions:
                return
            if not await folder.uploader(relay).upload(link, versions):
                place = following


class _Waiting:
    """Waits longer each time that a relay refuses, at most UPLOAD_RETRY_S_MAX; not at all once `wake` is noted."""

    def __init__(self, wake: Changes, tell: Callable[[MeshsyncError | None], None]) -> None:
        self._wake = wake
        self._tell = tell
        self._pause = UPLOAD_RETRY_S
        self._refused = False

    async def after(self, error: MeshsyncError) -> None:
        """Tell why, and return when it is worth to try again."""
        self._refused = True
        self._tell(error)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pause):
                await self._wake.after(self._wake.count)
        self._pause = min(2 * self._pause, UPLOAD_RETRY_S_MAX)

    def over(self) -> None:
        """What was refused is taken: the next refusal begins anew."""
        if self._refused:
            self._tell(None)
        self._refused, self._pause = False, UPLOAD_RETRY_S
