"""One folder at one relay or backup, over one link: read its log, append to it, upload, fetch.

Invariant: entries go up past first and at once; content follows in the background; what the other end does not take
stops nothing but itself; whatever ends a link, the next one goes on from the cursors.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol

from meshsync.agent.changes import Changes
from meshsync.agent.collecting import Collecting
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
from meshsync.ids import DeviceId, RecordId, short
from meshsync.index.chunk_rows import ChunkRows
from meshsync.index.relay_rows import RelayRows
from meshsync.limits import (
    DIAL_PAUSE_S,
    DIAL_PAUSE_S_MAX,
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
from meshsync.transport.base import Link, Priority
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
    def collecting(self) -> Collecting:
        """Lets go of versions that the policy keeps no longer."""

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


class FolderAtKeeper:
    """`folder` at whoever is at the other end of `link`, which users know as `name`.

    `wake` is noted when what had no room is to be offered again; `invitation` lets it found the folder at a relay.
    """

    def __init__(
        self,
        runtime: Runtime,
        link: Link,
        folder: RelayedFolder,
        name: str,
        wake: Changes,
        invitation: bytes | None = None,
    ) -> None:
        self._runtime = runtime
        self._link = link
        self._keeper = link.peer
        self._folder = folder
        self._name = name
        self._wake = wake
        self._invitation = invitation

    async def run(self) -> None:
        """Read, append, upload and give chunks until cancelled; what fails is told, and tried again after a pause."""
        pause = DIAL_PAUSE_S
        blobs_of = partial(self._folder.chunk_rows.blobs, self._keeper)
        absent = self._folder.sampler(self._keeper).suspect
        source = RelaySource(self._runtime, self._name, self._link, self._folder.replica.folder, blobs_of, absent)
        while not self._folder.watch.is_convicted(self._keeper):
            began = self._runtime.monotonic()
            try:
                await self._ensure_created()
                self._folder.relay_problem(self._keeper, "")
                await self._folder.fetcher.add_source(source)
                self._folder.relay_linked(self._keeper, True)
                appended = Changes()
                await self._together(
                    self._folder.reader(self._keeper).run(self._link),
                    self._append(appended),
                    self._upload(appended),
                    self._folder.collecting.serve(
                        self._link,
                        self._folder.reader(self._keeper),
                        self._folder.uploader(self._keeper),
                        self._folder.sampler(self._keeper).suspect,
                    ),
                )
            except MeshsyncError as error:
                if self._folder.watch.is_convicted(self._keeper):
                    break
                log.info("%s, folder %s: %s", self._name, short(self._folder.replica.folder), error)
                self._folder.relay_problem(self._keeper, error.what)
            finally:
                self._folder.relay_linked(self._keeper, False)
                self._folder.relay_refuses(self._keeper, None)
                await self._folder.fetcher.remove_source(source)
            if self._runtime.monotonic() - began > DIAL_PAUSE_S_MAX:
                pause = DIAL_PAUSE_S  # it served well in between
            await self._runtime.sleep(pause * (0.5 + self._runtime.random()))
            pause = min(pause * 2, DIAL_PAUSE_S_MAX)
        await self._take_content(source)

    async def tell_members(self) -> None:
        """Bring the membership chain and nothing else: to a backup that was removed. Raises MeshsyncError."""
        if not await self._runtime.in_thread(self._membership_records):
            return
        conversation = RelayConversation(await self._link.open_stream(Priority.INTERACTIVE))
        try:
            await conversation.send(Attach(self._folder.replica.folder))
            await conversation.expect(Attached)
            await self._send(conversation, self._membership_records())
        finally:
            conversation.reset()

    async def _take_content(self, source: RelaySource) -> None:
        """All that is still asked of a relay that is convicted: content, whose every chunk is checked by its id."""
        self._folder.relay_problem(self._keeper, "")
        try:
            await self._folder.fetcher.add_source(source)
            self._folder.relay_linked(self._keeper, True)
            await self._link.wait_closed()
        finally:
            self._folder.relay_linked(self._keeper, False)
            await self._folder.fetcher.remove_source(source)

    async def _together(self, *jobs: Coroutine[Any, Any, None]) -> None:
        """Run jobs until one fails; then cancel the others and raise its error."""
        tasks = [self._runtime.spawn(job, "relay job") for job in jobs]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ensure_created(self) -> None:
        """Found the folder at the relay if it is not there and this device holds an invitation."""
        replica = self._folder.replica
        conversation = RelayConversation(await self._link.open_stream(Priority.INTERACTIVE))
        try:
            await conversation.send(Attach(replica.folder))
            try:
                await conversation.expect(Attached)
                return
            except NotAMember:
                if self._invitation is None:
                    raise
        finally:
            conversation.reset()
        proof = creation_proof(self._invitation, self._keeper, replica.device.device, replica.folder)
        conversation = RelayConversation(await self._link.open_stream(Priority.INTERACTIVE))
        try:
            await conversation.send(CreateFolder(replica.membership_chain[0].data, proof))
            await conversation.expect(Attached)
            await self._send(conversation, self._membership_records())
        finally:
            conversation.reset()

    # --- records ------------------------------------------------------------------------------------------

    async def _append(self, appended: Changes) -> None:
        conversation = RelayConversation(await self._link.open_stream(Priority.INTERACTIVE))
        try:
            await conversation.send(Attach(self._folder.replica.folder))
            await conversation.expect(Attached)
            waiting = _Waiting(self._wake, partial(self._folder.relay_refuses, self._keeper))
            while True:
                count = self._folder.replica.changes.count
                # These are free, and a change of them wakes who waits.
                await self._send(conversation, self._membership_records())
                try:
                    while records := await self._runtime.in_thread(self._entry_records):
                        await self._send(conversation, records)
                        waiting.over()
                except (AccessError, ResourceError) as error:
                    await waiting.after(error)
                    continue
                appended.note()
                await self._folder.replica.changes.after(count)
        finally:
            conversation.reset()

    def _membership_records(self) -> list[tuple[RecordId, LogRecord]]:
        return [
            (membership_id(data), LogRecord(int(RecordKind.MEMBERSHIP), data))
            for data in self._folder.relay_rows.unseen_membership(self._keeper)
        ]

    def _entry_records(self) -> list[tuple[RecordId, LogRecord]]:
        records: list[tuple[RecordId, LogRecord]] = []
        size = 0
        for entry, *parts in self._folder.relay_rows.unseen_entries(self._keeper, RELAY_APPEND_ENTRIES_MAX):
            data = encode(SignedEntry(*parts))
            size += len(data)
            if records and size > RECORDS_PAGE_BYTES_MAX:
                break
            records.append((RecordId(entry), LogRecord(int(RecordKind.ENTRY), data)))
        return records

    async def _send(self, conversation: RelayConversation, records: list[tuple[RecordId, LogRecord]]) -> None:
        if not records:
            return
        await conversation.send(Append(tuple(record for _, record in records)))
        result = await conversation.expect(AppendResult)
        self._folder.watch.hear(self._keeper, result.head)
        kept: list[RecordId] = []
        refusal: MeshsyncError | None = None
        for (name, _), outcome in zip(records, result.outcomes, strict=True):
            if isinstance(outcome, Appended | AlreadyThere):
                kept.append(name)
            elif isinstance(outcome, RecordRefused):
                refusal = refusal or refusal_error(outcome)
            else:
                refusal = refusal or TransientError("the relay lacks what this device's entries build on")
        await self._runtime.in_thread(self._note_kept, kept)
        if refusal is not None:
            raise refusal

    def _note_kept(self, kept: list[RecordId]) -> None:
        with self._folder.replica.database.transaction():
            self._folder.relay_rows.mark_seen(self._keeper, kept)
            self._folder.replica.entries_at_relay(self._keeper, kept)

    # --- content ------------------------------------------------------------------------------------------

    async def _upload(self, appended: Changes) -> None:
        """Upload content whose entries the relay has: a stored record names their operations."""
        count = 0
        waiting = _Waiting(self._wake, partial(self._folder.relay_refuses, self._keeper))
        while True:
            # Without news too: a device may have gone whose versions only this one can bring to the relay now.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(UPLOAD_LOOK_S):
                    count = await appended.after(count)
            while True:
                try:
                    await self._upload_all()
                    await self._bring_lost()
                except (AccessError, ResourceError, IntegrityError) as error:
                    await waiting.after(error)
                else:
                    waiting.over()
                    break

    async def _bring_lost(self) -> None:
        """Look whether the relay has what it acknowledged; what of it lies here, whoever wrote it, is brought again."""
        sampler = self._folder.sampler(self._keeper)
        await sampler.look(self._link)
        while sampler.to_bring:
            versions = await self._runtime.in_thread(sampler.versions)
            if not versions or not await self._folder.uploader(self._keeper).upload(self._link, versions):
                return

    async def _upload_all(self) -> None:
        """Bring all that can be brought now. What cannot is passed over, and holds up nothing that comes after it."""
        place = UploadPlace()
        await self._folder.reader(self._keeper).until_read()  # it tells what others stored meanwhile
        while not self._folder.relay_rows.unseen_entries(self._keeper, 1):
            versions, following = await self._folder.durability.to_upload(
                self._keeper, place, UPLOAD_RECORD_VERSIONS_MAX
            )
            if not versions:
                return
            if not await self._folder.uploader(self._keeper).upload(self._link, versions):
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
