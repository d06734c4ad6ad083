"""What a relay's log says of versions that are kept no longer: an owner's word, and the relay's that it let go of them.

Invariant: what a relay says it let go of counts as lost, and is brought again, unless an owner had let go of it in that
same log and nothing there needs it. Blocking; call it with the records in the order of the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence

from meshsync.agent.replica import Replica
from meshsync.content.stored_list import open_stored_list
from meshsync.errors import AccessError, IntegrityError, MalformedMessage, RoleForbids
from meshsync.ids import BlobId, DeviceId, Dot, RecordId, short
from meshsync.index.chunk_rows import BlobRow, ChunkRows
from meshsync.index.relay_rows import RelayRows
from meshsync.index.retire_rows import RetireRow, RetireRows, RetireState
from meshsync.metalog.membership import Membership
from meshsync.metalog.record_log import LogRecord, RecordKind, record_id
from meshsync.metalog.retire import Collected, Retire, open_collected, open_retire
from meshsync.metalog.stored import StoredRecord, open_stored
from meshsync.roles import Role
from meshsync.runtime import Runtime

log = logging.getLogger(__name__)


class Retired:
    """Of one folder at one relay; it is given the records in the order of the log.

    `lost` is told which blobs are gone that should be there.
    """

    def __init__(
        self,
        runtime: Runtime,
        relay: DeviceId,
        replica: Replica,
        relay_rows: RelayRows,
        chunks: ChunkRows,
        lost: Callable[[Sequence[BlobId]], None],
    ) -> None:
        self.rows = RetireRows(replica.database)
        self._runtime, self._relay, self._replica = runtime, relay, replica
        self._relay_rows, self._chunks, self._lost = relay_rows, chunks, lost

    async def take_retire(self, data: bytes, membership: Membership, index: int) -> None:
        """Take an owner's word, the record after `index`. Raises RoleForbids, MalformedMessage, IntegrityError."""
        retire = open_retire(data, self._replica.folder)
        if membership.role(retire.device) is not Role.OWNER:
            raise RoleForbids("only an owner lets go of versions", device=short(retire.device))
        if retire.relay != self._relay:
            raise IntegrityError("the record lets go of versions at another relay", device=short(retire.device))
        hidden = [Dot(name) for name in retire.dots if not self._replica.view.is_shown(Dot(name))]
        await self._runtime.in_thread(self._keep_retire, data, retire, index, hidden)

    def _keep_retire(self, data: bytes, retire: Retire, index: int, hidden: Sequence[Dot]) -> None:
        name = record_id(LogRecord(int(RecordKind.RETIRE), data))
        with self._replica.database.transaction():
            if self.rows.get(self._relay, name) is not None:
                return  # the page is read again
            self.rows.add(self._relay, index, name, data, self._runtime.wall_time_ns())
            self._replica.versions.bring_no_more(hidden)
            for row in filter(None, (self.rows.get(self._relay, RecordId(each)) for each in retire.cancels)):
                self._cancel(row)
            if not (retire.dots or retire.records):
                self.rows.end(self._relay, name, RetireState.CARRIED_OUT)

    def _cancel(self, row: RetireRow) -> None:
        if row.state is RetireState.WAITS:
            self.rows.end(self._relay, row.id, RetireState.CANCELLED)
            dots = open_retire(row.data, self._replica.folder).dots
            self._replica.versions.bring_no_more([Dot(dot) for dot in dots], yes=False)

    async def take_collected(self, data: bytes) -> None:
        """Take the relay's word. Raises AccessError (of another device), MalformedMessage, IntegrityError."""
        collected = open_collected(data, self._replica.folder)
        if collected.device != self._relay:
            raise AccessError("what another relay let go of", device=short(collected.device))
        done, dots = await self._runtime.in_thread(self._done, collected)
        hidden = [name for name in dots if not self._replica.view.is_shown(name)]
        odd = await self._runtime.in_thread(self._keep_collected, collected, done, dots, hidden)
        if odd:
            log.error("relay %s let go of %d blobs that nobody gave up", short(self._relay), len(odd))
            self._lost(odd)

    def _done(self, collected: Collected) -> tuple[list[RetireRow], list[Dot]]:
        """Return what was carried out, and the versions that it named."""
        rows = [row for row in (self.rows.get(self._relay, RecordId(name)) for name in collected.retires) if row]
        return rows, [Dot(name) for row in rows for name in open_retire(row.data, self._replica.folder).dots]

    def _keep_collected(
        self, collected: Collected, done: Sequence[RetireRow], dots: Sequence[Dot], hidden: Sequence[Dot]
    ) -> list[BlobId]:
        """Return what should not have been let go of."""
        blobs, records = self._believed(collected)
        with self._replica.database.transaction():
            self.rows.let_go(self._relay, records)
            self._relay_rows.forget_parts(self._relay, records)
            self._forget(sorted(blobs))
            self._replica.versions.let_go(self._relay, self._not_kept(records, dots), set(hidden))
            for row in done:
                self.rows.end(self._relay, row.id, RetireState.CARRIED_OUT)
        return [BlobId(blob) for blob in collected.blobs if blob not in blobs]

    def _not_kept(self, dead: Sequence[RecordId], named: Sequence[Dot]) -> set[Dot]:
        """Return the versions of `dead` records, and those that were `named`, of which no living record speaks."""
        data = filter(None, (self._replica.log_rows.stored(name) for name in dead))
        of_dead = {Dot(name) for one in data for name in open_stored(one, self._replica.folder).dots}
        return of_dead.union(named) - {Dot(name) for _, record in self._records() for name in record.dots}

    def _believed(self, collected: Collected) -> tuple[set[BlobId], list[RecordId]]:
        """Return which of the blobs and records the relay was free to let go of."""
        named: set[RecordId] = set()
        for row in self.rows.all(self._relay):
            if row.state is not RetireState.CANCELLED:
                named.update(RecordId(name) for name in open_retire(row.data, self._replica.folder).records)
        records = [RecordId(name) for name in collected.records if name in named]
        kept = self._kept_by_others(set(records))
        return {BlobId(blob) for blob in collected.blobs if blob not in kept}, records

    def _kept_by_others(self, dying: Collection[RecordId]) -> set[bytes]:
        kept: set[bytes] = set()
        for name, record in self._records():
            if name not in dying:
                kept.update(record.blobs)
        return kept

    def _records(self) -> list[tuple[RecordId, StoredRecord]]:
        folder = self._replica.folder
        return [(name, open_stored(data, folder)) for name, data in self._relay_rows.stored_at(self._relay)]

    def _forget(self, blobs: Sequence[BlobId]) -> None:
        """Forget where chunks were that these blobs hold; another blob may hold them too, under another epoch's key."""
        chunks = self._chunks.held_in(self._relay, blobs)
        self._chunks.forget_blobs(self._relay, blobs)
        if not chunks:
            return
        for _, record in self._records():
            try:
                items = open_stored_list(self._replica.keys, record.blobs, record.sealed) if record.sealed else []
            except (AccessError, IntegrityError, MalformedMessage):
                continue
            self._chunks.put_blobs(
                self._relay,
                [(item.chunk, BlobRow(item.blob, item.epoch, 0)) for item in items if item.chunk in chunks],
            )

    def revive(self, record: RecordId) -> bool:
        """The relay gave a receipt for a stored record: it keeps what that lists. Tells whether it did not before."""
        return self.rows.revive(self._relay, record)
