"""Reading a relay's log of one folder into the local replica, from a cursor, verified record by record.

Invariant: the cursor moves only past records that are in the index; the log head is recomputed over everything read, so
a record omitted, altered or reordered stops the reading with a typed error. The relay is shown the newest head that
anybody here was shown, so that it cannot show less without a signature against itself. Who may sign a stored record is
decided by the membership at its place in the log, however much later it is read.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from meshsync.agent.changes import Changes
from meshsync.agent.conversation import RelayConversation
from meshsync.agent.relay_inspection import inspect
from meshsync.agent.relay_watch import RelayWatch
from meshsync.agent.replica import Replica
from meshsync.agent.retired import Retired
from meshsync.content.stored_list import open_stored_list
from meshsync.errors import AccessError, IntegrityError, MalformedMessage, PeerError
from meshsync.ids import BlobId, ChunkId, DeviceId, Dot, RecordId, dot_parts, short
from meshsync.index.chunk_rows import BlobRow, ChunkRows
from meshsync.index.relay_rows import RelayCursor, RelayRows
from meshsync.limits import RECORDS_PAGE_BYTES_MAX
from meshsync.metalog.admission import may_append_stored
from meshsync.metalog.head import LogHead, head_hash
from meshsync.metalog.membership import Membership
from meshsync.metalog.membership_at import is_forged, next_membership
from meshsync.metalog.membership_entry import open_membership
from meshsync.metalog.receipt import open_receipt
from meshsync.metalog.record_log import GENESIS_HEAD, LogRecord, RecordKind, next_head, record_id, verify_page
from meshsync.metalog.stored import StoredRecord, open_stored, stored_id
from meshsync.runtime import Runtime
from meshsync.transport.base import Link, Priority
from meshsync.wire.relay_messages import Attach, Attached, BlobsLost, Follow, LogGrew, Page, Read

log = logging.getLogger(__name__)


class ReaderEvents(Protocol):
    """Who hears what was read."""

    def content_stored(self) -> None:
        """More content can be had from the relay."""

    def versions_durable(self) -> None:
        """Receipts arrived, or all of the relay's log was read."""

    def content_lost(self, relay: DeviceId, blobs: Sequence[BlobId]) -> None:
        """The relay says that it holds no more what it had acknowledged."""


class RelayReader:
    """Follows one folder's log at one relay."""

    def __init__(
        self,
        runtime: Runtime,
        relay: DeviceId,
        replica: Replica,
        rows: RelayRows,
        chunks: ChunkRows,
        events: ReaderEvents,
        watch: RelayWatch,
        retired: Retired,
    ) -> None:
        self._runtime = runtime
        self._relay = relay
        self._replica = replica
        self._rows = rows
        self._chunks = chunks
        self._events = events
        self._watch = watch
        self._retired = retired
        self._is_inspected = False
        self._head: LogHead | None = None  # the relay's last answer
        self.cursor = rows.cursor(relay) or RelayCursor(0, GENESIS_HEAD, b"")
        self.relay_index = self.cursor.index
        self._was_read = asyncio.Event()
        self._reading = asyncio.Lock()
        self._advancing: asyncio.Task[None] | None = None
        self._membership: Membership | None = None  # at the cursor, once it was asked for
        self._is_exact = True  # it is that of the log; not one that stands for it

    @property
    def caught_up(self) -> bool:
        """Whether everything that the relay is known to have was read."""
        return self.cursor.index >= self.relay_index

    @property
    def was_read(self) -> bool:
        """Whether all was read that the relay had when this device attached to it last."""
        return self._was_read.is_set()

    async def until_read(self) -> None:
        """Return once all was read that the relay had when this device attached to it last."""
        await self._was_read.wait()

    async def run(self, link: Link) -> None:
        """Read and follow until the link ends, once the run before has ended.

        Raises AccessError if the relay refuses, PeerError, TransientError.
        """
        async with self._reading:
            if self._advancing is not None:  # which a link that ended does not cut off
                await asyncio.gather(asyncio.shield(self._advancing), return_exceptions=True)
            await self._follow(link)

    async def _follow(self, link: Link) -> None:
        self._was_read.clear()
        while True:
            conversation = RelayConversation(await link.open_stream(Priority.INTERACTIVE))
            try:
                shown = self._watch.newest(self._relay)
                await conversation.send(Attach(self._replica.folder, _name(shown)))
                await self._check_head((await conversation.expect(Attached)).head, shown)
                await self._read_all(conversation)
                self._was_read.set()
                self._events.versions_durable()
                await self._until_more(conversation)
            finally:
                conversation.reset()

    async def _until_more(self, conversation: RelayConversation) -> None:
        """Return when the relay tells of more, or when a member brings a head of it that is beyond what was read."""
        shown = self._watch.newest(self._relay)
        await conversation.send(Follow(self.cursor.index, _name(shown)))
        woken = Changes()
        grew = self._runtime.spawn(self._growth(conversation), "log grew")
        told = self._runtime.spawn(self._until_told(), "told of more")
        for task in (grew, told):
            task.add_done_callback(lambda _: woken.note())
        try:
            await woken.after(0)
            if grew.done():
                await self._check_head(grew.result().head, shown)
        finally:
            for waiting in (grew, told):
                waiting.cancel()
            await asyncio.gather(grew, told, return_exceptions=True)

    async def _growth(self, conversation: RelayConversation) -> LogGrew:
        """Return the first word of a growth; hear what the relay has lost until then."""
        while await conversation.look() == BlobsLost.TYPE:
            lost = await conversation.expect(BlobsLost)
            self._events.content_lost(self._relay, [BlobId(blob) for blob in lost.blobs])
        return await conversation.expect(LogGrew)

    async def _until_told(self) -> None:
        watch, relay = self._watch, self._relay
        while not (watch.knows_more(relay, self.relay_index) or watch.is_convicted(relay)):
            await watch.changes.after(watch.changes.count)

    async def _read_all(self, conversation: RelayConversation) -> None:
        while not self.caught_up:
            start = self.cursor.index + 1
            shown = self._watch.newest(self._relay)
            await conversation.send(Read(start, RECORDS_PAGE_BYTES_MAX, _name(shown)))
            page = await conversation.expect(Page)
            if page.start != start or not page.records:
                raise MalformedMessage("a page of the log that does not continue it")
            await self._check_head(page.head, shown)
            try:
                await self._take(page)
            except IntegrityError:
                await self._inspect(conversation)
                raise
            await self._compare()

    async def _inspect(self, conversation: RelayConversation) -> None:
        """Prove, if that is so, that the relay's log is not the one that it signed before. Once: it costs a reading."""
        if not self._is_inspected:
            words = self._watch.words(self._relay)
            evidence = await inspect(conversation, self._replica.folder, self._relay, words)
            self._is_inspected = True
            if evidence is not None:
                await self._watch.convict(evidence)

    async def _check_head(self, signed: bytes, shown: bytes) -> None:
        self._head = head = await self._watch.answered(self._relay, signed, shown)
        await self._compare()
        if head.index == self.cursor.index and head.head != self.cursor.head:
            raise IntegrityError("the relay's log is not the one that was read here")
        if head.index < self.cursor.index:
            raise IntegrityError("the relay's log is shorter than what was read of it")
        self.relay_index = max(self.relay_index, head.index)
        self.cursor = replace(self.cursor, signed=signed)

    async def _compare(self) -> None:
        """Hold what was read against all that the relay signed. Raises IntegrityError once it is convicted."""
        await self._watch.settle(self._relay)
        if self._watch.is_convicted(self._relay):
            raise IntegrityError("the relay is proven to have shown two logs")

    async def _take(self, page: Page) -> None:
        start = self.cursor
        index = verify_page(start.head, start.index, page.records, page.reached)
        assert self._head is not None, "a page comes with a head"
        if index > self._head.index or (index == self._head.index and page.reached != self._head.head):
            raise IntegrityError("the records that the relay serves do not lead to the log head that it signed")
        seen = [record_id(record) for record in page.records]
        heads = [start.head]
        for record in seen:
            heads.append(next_head(heads[-1], record))
        # A page that was not finished is read again from its beginning: so is the membership at its records.
        membership = self._membership or self._membership_at_cursor()
        at = 0
        for _, group in itertools.groupby(page.records, key=lambda record: record.kind):
            run = list(group)
            places = [(start.index + before, heads[before]) for before in range(at, at + len(run))]
            membership = await self._take_run(run, membership, places)
            at += len(run)
        head = b"" if membership is None else membership.head
        cursor = RelayCursor(index, page.reached, self.cursor.signed, head)
        self._advancing = self._runtime.spawn(self._advance(start, cursor, seen, membership), "advance cursor")
        await asyncio.shield(self._advancing)

    async def _advance(
        self, start: RelayCursor, cursor: RelayCursor, seen: list[RecordId], membership: Membership | None
    ) -> None:
        """Move the cursor, in the index and then here. It is not cut off in between: the two must agree."""
        await self._runtime.in_thread(self._keep, start, cursor, seen)
        self.cursor, self._membership = cursor, membership
        self._watch.read(self._relay, cursor)

    def _keep(self, start: RelayCursor, cursor: RelayCursor, seen: list[RecordId]) -> None:
        with self._replica.database.transaction():
            self._rows.advance(self._relay, cursor, seen)
            self._watch.log.add(self._relay, start.index, start.head, seen)

    def _membership_at_cursor(self) -> Membership | None:
        """Return the membership at the cursor, None at the log's beginning.

        Where this device has since taken the other side of a fork of the chain, its present membership stands for it.
        """
        if not self.cursor.index:
            return None
        known = self._replica.membership_at(RecordId(self.cursor.membership))
        self._is_exact = known is not None
        return known or self._replica.membership

    async def _take_run(
        self, records: list[LogRecord], membership: Membership | None, places: list[tuple[int, bytes]]
    ) -> Membership | None:
        """Take consecutive records of one kind before which `membership` is in force; return what is after them.

        `places` are index and head of the log before each record. One that is not acceptable is passed over: the relay
        is not trusted.
        """
        data = tuple(record.data for record in records)
        if records[0].kind == RecordKind.MEMBERSHIP:
            self._refuse_forged(data, membership)
        try:
            match records[0].kind:
                case RecordKind.MEMBERSHIP:
                    for change in data:
                        membership = next_membership(membership, change, self._replica.folder)
                    start = open_membership(data[0]).body.seq
                    await self._replica.receive_membership(start, data, ordered=True)
                case RecordKind.ENTRY:
                    await self._replica.receive_entries(data)
                    await self._runtime.in_thread(self._entries_kept, data)
                    self._events.versions_durable()
                case RecordKind.STORED:
                    await self._runtime.in_thread(self._take_stored, data, membership)
                    self._events.content_stored()
                case RecordKind.RECEIPT:
                    for odd in await self._runtime.in_thread(self.take_receipts, data, places):
                        self._watch.hear_receipt(self._relay, odd)
                    self._events.versions_durable()
                case RecordKind.RETIRE | RecordKind.COLLECTED:
                    await self._take_letting_go(records, membership or self._replica.membership, places)
                    self._events.versions_durable()
                case _:
                    pass
        except (AccessError, IntegrityError, PeerError) as error:
            log.warning("the relay's log holds a record that is not acceptable: %s", error)
        return membership

    async def _take_letting_go(
        self, records: list[LogRecord], membership: Membership, places: list[tuple[int, bytes]]
    ) -> None:
        for record, (index, _) in zip(records, places, strict=True):
            try:
                if record.kind == RecordKind.RETIRE:
                    await self._retired.take_retire(record.data, membership, index)
                else:
                    await self._retired.take_collected(record.data)
            except (AccessError, IntegrityError, PeerError) as error:
                log.warning("the relay's log holds a record that is not acceptable: %s", error)

    def _refuse_forged(self, data: Sequence[bytes], membership: Membership | None) -> None:
        """Return if the relay may have taken these records. Raises IntegrityError: then nothing of it is read any more.

        A relay takes a change of the members only after those before it, from whom they allow it.
        """
        for change in data if self._is_exact else ():
            if is_forged(membership, change, self._replica.folder):
                raise IntegrityError(
                    "the relay's log holds a change of the members that nobody may make", device=short(self._relay)
                )
            membership = next_membership(membership, change, self._replica.folder)

    def _entries_kept(self, entries: tuple[bytes, ...]) -> None:
        names = [record_id(LogRecord(int(RecordKind.ENTRY), data)) for data in entries]
        self._replica.entries_at_relay(self._relay, names)

    def _take_stored(self, records: tuple[bytes, ...], membership: Membership | None) -> None:
        for data in records:
            try:
                record = open_stored(data, self._replica.folder)
                refusal = may_append_stored(membership or self._replica.membership, record.device)
                if refusal is not None:
                    raise refusal.error()
            except (AccessError, IntegrityError, PeerError) as error:
                log.warning("the relay's log holds a stored record that does not count: %s", error)
                continue
            with self._replica.database.transaction():
                self._chunks.put_blobs(self._relay, self._listed(record))
                self._replica.log_rows.put_stored(stored_id(data), data)
                # Not only with the page: records further on in it may speak of this one.
                self._rows.mark_seen(self._relay, [stored_id(data)])

    def _listed(self, record: StoredRecord) -> list[tuple[ChunkId, BlobRow]]:
        """Return which blob holds which chunk by the record's sealed list."""
        try:
            items = open_stored_list(self._replica.keys, record.blobs, record.sealed) if record.sealed else []
        except (AccessError, IntegrityError, MalformedMessage) as error:
            # Of a hostile member, or under a key that comes later: the record counts, its list helps nobody.
            log.warning("the list of a stored record cannot be read: %s", error)
            return []
        # What this build opens: a delta blob is another way to a chunk.
        return [(item.chunk, BlobRow(item.blob, item.epoch, 0)) for item in items if item.base is None]

    def take_receipts(self, records: tuple[bytes, ...], places: Sequence[tuple[int, bytes]] = ()) -> list[bytes]:
        """Believe receipts of this relay: note that it has what their stored records name. Blocking.

        In its log they stand after `places` (index and head of the record). One that says otherwise was signed for
        another log: it is not believed, and returned. None is believed of a relay that is convicted.
        """
        odd: list[bytes] = []
        for number, data in enumerate(records):
            if self._watch.is_convicted(self._relay):
                return odd
            try:
                receipt = open_receipt(data, self._replica.folder)
                if receipt.device != self._relay or self._relay not in self._replica.keepers:
                    raise AccessError("a receipt of a device that is not to store this folder")
            except (AccessError, IntegrityError, PeerError) as error:
                if not places:
                    raise
                log.warning("the relay's log holds a receipt that is not acceptable: %s", error)
                continue
            if places and (receipt.index, receipt.head) != places[number]:
                odd.append(data)
                continue
            record = self._replica.log_rows.stored(RecordId(receipt.record))
            if record is None:
                continue
            stored = open_stored(record, self._replica.folder)
            with self._replica.database.transaction():
                self._replica.log_rows.put_receipt(RecordId(receipt.record), data)
                if self._retired.revive(RecordId(receipt.record), receipt.index):
                    self._chunks.put_blobs(self._relay, self._listed(stored))
                self._replica.versions.mark_stored(self._relay, [Dot(name) for name in stored.dots])
                self._replica.versions.mark_gone(self._relay, self._own_of(stored.device, stored.gone))
        return odd

    def _own_of(self, device: DeviceId, names: Sequence[bytes]) -> list[Dot]:
        """Return those of the versions `names` that `device` wrote: only their author may declare them gone."""
        chains = self._replica.chains
        authors = {name: chains.rows(dot_parts(Dot(name))[0]) for name in names}
        return [Dot(name) for name, rows in authors.items() if rows and rows[0].device == device]


def _name(shown: bytes) -> bytes:
    """Return by what a signed head is shown to the relay."""
    return head_hash(shown) if shown else b""
