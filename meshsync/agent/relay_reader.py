"""Reading a relay's log of one folder into the local replica, from a cursor, verified record by record.

Invariant: the cursor moves only past records that are in the index; the log head is recomputed over everything read, so
a record omitted, altered or reordered stops the reading with a typed error. Who may sign a stored record is decided by
the membership at its place in the log, however much later it is read.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from meshsync.agent.conversation import RelayConversation
from meshsync.agent.replica import Replica
from meshsync.content.stored_list import open_stored_list
from meshsync.errors import AccessError, IntegrityError, MalformedMessage, PeerError
from meshsync.ids import ChunkId, DeviceId, Dot, RecordId, dot_parts
from meshsync.index.chunk_rows import BlobRow, ChunkRows
from meshsync.index.relay_rows import RelayCursor, RelayRows
from meshsync.limits import RECORDS_PAGE_BYTES_MAX
from meshsync.metalog.admission import may_append_stored
from meshsync.metalog.evidence import Evidence, compare_heads
from meshsync.metalog.head import head_hash, open_head
from meshsync.metalog.membership import Membership
from meshsync.metalog.membership_at import next_membership
from meshsync.metalog.membership_entry import open_membership
from meshsync.metalog.receipt import open_receipt
from meshsync.metalog.record_log import GENESIS_HEAD, LogRecord, RecordKind, record_id, verify_page
from meshsync.metalog.stored import StoredRecord, open_stored, stored_id
from meshsync.runtime import Runtime
from meshsync.transport.base import Link, Priority
from meshsync.wire.relay_messages import Attach, Attached, Follow, LogGrew, Page, Read

log = logging.getLogger(__name__)


class ReaderEvents(Protocol):
    """Who hears what was read."""

    def content_stored(self) -> None:
        """More content can be had from the relay."""

    def versions_durable(self) -> None:
        """Receipts arrived, or all of the relay's log was read."""

    def relay_lied(self, relay: DeviceId, evidence: Evidence) -> None:
        """Two signed heads of the relay contradict each other."""


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
    ) -> None:
        self._runtime = runtime
        self._relay = relay
        self._replica = replica
        self._rows = rows
        self._chunks = chunks
        self._events = events
        self.cursor = rows.cursor(relay) or RelayCursor(0, GENESIS_HEAD, b"")
        self.relay_index = self.cursor.index
        self._was_read = asyncio.Event()
        self._membership: Membership | None = None  # at the cursor, once it was asked for

    @property
    def caught_up(self) -> bool:
        """Whether everything that the relay is known to have was read."""
        return self.cursor.index >= self.relay_index

    async def until_read(self) -> None:
        """Return once all was read that the relay had when this device attached to it last."""
        await self._was_read.wait()

    async def run(self, link: Link) -> None:
        """Read and follow until the link ends. Raises AccessError if the relay refuses, PeerError, TransientError."""
        self._was_read.clear()
        while True:
            conversation = RelayConversation(await link.open_stream(Priority.INTERACTIVE))
            try:
                await conversation.send(Attach(self._replica.folder, self._shown()))
                self._check_head((await conversation.expect(Attached)).head)
                await self._read_all(conversation)
                self._was_read.set()
                self._events.versions_durable()
                await conversation.send(Follow(self.cursor.index, self._shown()))
                self._check_head((await conversation.expect(LogGrew)).head)
            finally:
                conversation.reset()

    def _shown(self) -> bytes:
        return head_hash(self.cursor.signed) if self.cursor.signed else b""

    async def _read_all(self, conversation: RelayConversation) -> None:
        while not self.caught_up:
            start = self.cursor.index + 1
            await conversation.send(Read(start, RECORDS_PAGE_BYTES_MAX, self._shown()))
            page = await conversation.expect(Page)
            if page.start != start or not page.records:
                raise MalformedMessage("a page of the log that does not continue it")
            self._check_head(page.head)
            await self._take(page)

    def _check_head(self, signed: bytes) -> None:
        head = open_head(signed, self._replica.folder)
        if head.device != self._relay:
            raise IntegrityError("a log head of another relay")
        if self.cursor.signed:
            evidence = compare_heads(self.cursor.signed, signed, self._replica.folder)
            if evidence is not None:
                self._events.relay_lied(self._relay, evidence)
                raise IntegrityError("the relay contradicts its own signed log head")
        if head.index == self.cursor.index and head.head != self.cursor.head:
            raise IntegrityError("the relay's log is not the one that was read here")
        if head.index < self.cursor.index:
            raise IntegrityError("the relay's log is shorter than what was read of it")
        self.relay_index = max(self.relay_index, head.index)
        self.cursor = replace(self.cursor, signed=signed)

    async def _take(self, page: Page) -> None:
        index = verify_page(self.cursor.head, self.cursor.index, page.records, page.reached)
        # A page that was not finished is read again from its beginning: so is the membership at its records.
        membership = self._membership or self._membership_at_cursor()
        for _, run in itertools.groupby(page.records, key=lambda record: record.kind):
            membership = await self._take_run(list(run), membership)
        head = b"" if membership is None else membership.head
        cursor = RelayCursor(index, page.reached, self.cursor.signed, head)
        seen = [record_id(record) for record in page.records]
        await self._runtime.in_thread(self._rows.advance, self._relay, cursor, seen)
        self.cursor, self._membership = cursor, membership

    def _membership_at_cursor(self) -> Membership | None:
        """Return the membership at the cursor, None at the log's beginning.

        Where this device has since taken the other side of a fork of the chain, its present membership stands for it.
        """
        if not self.cursor.index:
            return None
        return self._replica.membership_at(RecordId(self.cursor.membership)) or self._replica.membership

    async def _take_run(self, records: list[LogRecord], membership: Membership | None) -> Membership | None:
        """Take consecutive records of one kind before which `membership` is in force; return what is after them.

        One that is not acceptable is passed over: the relay is not trusted.
        """
        data = tuple(record.data for record in records)
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
                    await self._runtime.in_thread(self.take_receipts, data)
                    self._events.versions_durable()
                case _:
                    pass
        except (AccessError, IntegrityError, PeerError) as error:
            log.warning("the relay's log holds a record that is not acceptable: %s", error)
        return membership

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

    def take_receipts(self, records: tuple[bytes, ...]) -> None:
        """Believe receipts of this relay: note that it has what their stored records name. Blocking."""
        for data in records:
            receipt = open_receipt(data, self._replica.folder)
            if receipt.device != self._relay or self._relay not in self._replica.membership.relays:
                raise AccessError("a receipt of a device that is not this folder's relay")
            record = self._replica.log_rows.stored(RecordId(receipt.record))
            if record is None:
                continue
            stored = open_stored(record, self._replica.folder)
            with self._replica.database.transaction():
                self._replica.log_rows.put_receipt(RecordId(receipt.record), data)
                self._replica.versions.mark_stored(self._relay, [Dot(name) for name in stored.dots])
                self._replica.versions.mark_gone(self._relay, self._own_of(stored.device, stored.gone))

    def _own_of(self, device: DeviceId, names: Sequence[bytes]) -> list[Dot]:
        """Return those of the versions `names` that `device` wrote: only their author may declare them gone."""
        chains = self._replica.chains
        authors = {name: chains.rows(dot_parts(Dot(name))[0]) for name in names}
        return [Dot(name) for name, rows in authors.items() if rows and rows[0].device == device]
