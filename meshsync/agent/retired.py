"""What a relay's log says of versions that are kept no longer: an owner's word, and the relay's that it let go of them.

Invariant: what a relay says it let go of counts as lost, and is brought again, unless an owner had let go of it in that
same log and nothing there needs it. Blocking; call it with the records in the order of the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

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
from meshsync.metalog.stored import StoredRecord, read_stored
from meshsync.roles import Role
from meshsync.runtime import Runtime

log = logging.getLogger(__name__)


class Retired:
    """Of one folder at one relay; it is given the records in the order of the log.

    `suspect` is told which blobs may be gone that should be there.
    """

    def __init__(
        self,
        runtime: Runtime,
        relay: DeviceId,
        replica: Replica,
        relay_rows: RelayRows,
        chunks: ChunkRows,
        suspect: Callable[[BlobId], None],
    ) -> None:
        self.rows = RetireRows(replica.database)
        self._runtime, self._relay, self._replica = runtime, relay, replica
        self._relay_rows, self._chunks, self._suspect = relay_rows, chunks, suspect

    async def take_retire(self, data: bytes, membership: Membership, index: int) -> None:
        """Take an owner's word, the record after `index`. Raises RoleForbids, MalformedMessage, IntegrityError."""
        retire = open_retire(data, self._replica.folder)
        if membership.role(retire.device) is not Role.OWNER:
            raise RoleForbids("only an owner lets go of versions", device=short(retire.device))
        if retire.relay != self._relay:
            raise IntegrityError("the record lets go of versions at another relay", device=short(retire.device))
        hidden = [Dot(name) for name in retire.dots if not self._replica.view.is_shown(Dot(name))]
        await self._runtime.in_thread(self._keep_retire, data, retire, index, hidden)
        await self._bring_what_shows(hidden)

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
        if not (collected.retires or collected.records or collected.blobs):
            return
        judged = await self._runtime.in_thread(self._judge, collected)
        hidden = self._hidden(judged.named)
        await self._runtime.in_thread(self._keep_collected, judged, hidden)
        await self._bring_what_shows(hidden)
        if judged.odd:
            log.error("relay %s let go of %d blobs that nobody gave up", short(self._relay), len(judged.odd))
            for blob in judged.odd:  # asked for: what a log tells of long ago may be there again
                self._suspect(blob)

    def _hidden(self, names: Iterable[Dot]) -> set[Dot]:
        return {name for name in names if not self._replica.view.is_shown(name)}

    async def _bring_what_shows(self, hidden: Collection[Dot]) -> None:
        """What came to show while it was noted as hidden is brought again."""
        shown = set(hidden) - self._hidden(hidden)
        if shown:
            await self._runtime.in_thread(self._replica.versions.bring_again, shown)

    def _judge(self, collected: Collected) -> _Judged:
        """Hold the relay's word against the log, by the rule of the relay's own ledger (`docs/spec/relay.md` 5)."""
        stored, revived = self._records(), self.rows.revived(self._relay)
        retired: set[RecordId] = set()
        named: set[Dot] = set()
        done: list[RetireRow] = []
        for row in self.rows.all(self._relay):
            is_told = row.state is RetireState.WAITS and row.id in collected.retires
            if is_told:
                done.append(row)
            if is_told or row.state is RetireState.CARRIED_OUT:
                retire = open_retire(row.data, self._replica.folder)
                names = (RecordId(name) for name in retire.records)
                retired.update(name for name in names if revived.get(name, -1) < row.position)
                named.update(Dot(name) for name in retire.dots)
        living = _needed(stored, retired)
        kept = {blob for name in living for blob in stored[name].blobs}
        dead = [RecordId(name) for name in collected.records if name in retired and name not in living]
        data = filter(None, (self._replica.log_rows.stored(name) for name in dead))
        lacking = {Dot(name) for one in data for name in read_stored(one).dots}
        lacking.update(Dot(name) for row in done for name in open_retire(row.data, self._replica.folder).dots)
        lacking.difference_update(Dot(name) for each in living for name in stored[each].dots)
        blobs = [BlobId(blob) for blob in collected.blobs if blob not in kept]
        odd = [BlobId(blob) for blob in collected.blobs if blob in kept]
        return _Judged(done, dead, blobs, odd, lacking, named & lacking)

    def _keep_collected(self, judged: _Judged, hidden: Collection[Dot]) -> None:
        with self._replica.database.transaction():
            self.rows.let_go(self._relay, judged.dead)
            self._relay_rows.forget_parts(self._relay, judged.dead)
            self._forget(sorted(judged.blobs))
            self._replica.versions.let_go(self._relay, judged.lacking, hidden)
            for row in judged.done:
                self.rows.end(self._relay, row.id, RetireState.CARRIED_OUT)

    def _records(self) -> dict[RecordId, StoredRecord]:
        return {name: read_stored(data) for name, data in self._relay_rows.stored_at(self._relay)}

    def _forget(self, blobs: Sequence[BlobId]) -> None:
        """Forget where chunks were that these blobs hold; another blob may hold them too, under another epoch's key."""
        chunks = self._chunks.held_in(self._relay, blobs)
        self._chunks.forget_blobs(self._relay, blobs)
        if not chunks:
            return
        for record in self._records().values():
            try:
                items = open_stored_list(self._replica.keys, record.blobs, record.sealed) if record.sealed else []
            except (AccessError, IntegrityError, MalformedMessage):
                continue
            self._chunks.put_blobs(
                self._relay,
                [(item.chunk, BlobRow(item.blob, item.epoch, 0)) for item in items if item.chunk in chunks],
            )

    def revive(self, record: RecordId, position: int) -> bool:
        """The relay gave a receipt, after `position` records, for a stored record: it keeps what that lists. Tells
        whether it did not before.
        """
        return self.rows.revive(self._relay, record, position)


@dataclass(frozen=True, slots=True)
class _Judged:
    """What is believed of a relay's word: `done` were carried out, `dead` keep nothing, of `lacking` no living record
    speaks, and of those an owner `named` some. `odd` blobs it was not free to let go of, `blobs` it was.
    """

    done: list[RetireRow]
    dead: list[RecordId]
    blobs: list[BlobId]
    odd: list[BlobId]
    lacking: set[Dot]
    named: set[Dot]


def _needed(stored: Mapping[RecordId, StoredRecord], retired: Collection[RecordId]) -> set[RecordId]:
    """Return the records that are not retired, and those that they rest on."""
    needed: set[RecordId] = set()
    waiting = [name for name in stored if name not in retired]
    while waiting:
        name = waiting.pop()
        if name in stored and name not in needed:
            needed.add(name)
            waiting += map(RecordId, stored[name].parts)
    return needed
