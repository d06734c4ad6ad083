"""Looks whether one relay still has what it acknowledged, and sees that what it lost is stored there again.

Invariant: a blob counts as lost only if a stored record in the relay's log lists it and the relay, asked for just that
blob, did not give its bytes; then no version that needs it counts as acknowledged by this relay until a receipt is
given anew. Any member that has the content brings it.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable

from meshsync.agent.conversation import RelayConversation
from meshsync.agent.replica import Replica
from meshsync.crypto.hashing import blob_id
from meshsync.errors import MalformedMessage
from meshsync.ids import BlobId, DeviceId, Dot, RecordId, short
from meshsync.index.chunk_rows import ChunkRows
from meshsync.index.relay_rows import RelayRows
from meshsync.index.version_rows import VersionRow
from meshsync.limits import (
    RELAY_LOSSES_MAX,
    SAMPLE_BLOBS,
    SAMPLE_FIRST_S,
    SAMPLE_S,
    SAMPLE_SUSPECTS_MAX,
    UPLOAD_RECORD_VERSIONS_MAX,
)
from meshsync.metalog.stored import StoredRecord, open_stored
from meshsync.runtime import Runtime
from meshsync.transport.base import Link, Priority
from meshsync.wire.relay_messages import Absence, Attach, Attached, BlobAbsent, BlobFrame, Fetch

log = logging.getLogger(__name__)


class RelaySampler:
    """Belongs to one loop. `lost_count` blobs were found lost since the agent started; `to_bring` are owed for it."""

    def __init__(
        self,
        runtime: Runtime,
        relay: DeviceId,
        replica: Replica,
        rows: RelayRows,
        chunks: ChunkRows,
        on_change: Callable[[], None],
    ) -> None:
        self.lost_count = 0
        self.to_bring: set[Dot] = set()
        self._runtime = runtime
        self._relay = relay
        self._replica = replica
        self._rows = rows
        self._chunks = chunks
        self._on_change = on_change
        self._suspects: dict[BlobId, None] = {}
        self._told: dict[BlobId, None] = {}  # by the relay; at most RELAY_LOSSES_MAX
        self._next_s = runtime.monotonic() + SAMPLE_FIRST_S

    def suspect(self, blob: BlobId) -> None:
        """Hear that the relay did not give a blob that it should have."""
        if len(self._suspects) < SAMPLE_SUSPECTS_MAX:
            self._suspects[blob] = None

    def lost(self, blobs: Iterable[BlobId]) -> None:
        """Hear from the relay itself what it has lost: nobody has to ask for that."""
        self._told.update(dict.fromkeys(itertools.islice(blobs, RELAY_LOSSES_MAX - len(self._told))))

    async def look(self, link: Link) -> None:
        """Take the relay's word for what it lost; ask for what is suspected, and every SAMPLE_S for a few others, or at
        once where the last look found a loss.

        What is lost is forgotten as stored there; `to_bring` then names the versions that need it. Raises PeerError,
        TransientError.
        """
        told, self._told = list(self._told), {}
        if told:
            await self._take_for_lost(told)
        wanted: list[BlobId] = []
        if self._runtime.monotonic() >= self._next_s:
            start = self._runtime.random_bytes(32)
            wanted = await self._runtime.in_thread(self._chunks.some_blobs, self._relay, start, SAMPLE_BLOBS)
            self._next_s = self._runtime.monotonic() + SAMPLE_S
        while wanted := list(dict.fromkeys([*itertools.islice(self._suspects, SAMPLE_BLOBS), *wanted])):
            absent = await self._absent(link, wanted)
            for blob in wanted:
                self._suspects.pop(blob, None)
            if not (absent and await self._take_for_lost(absent)):
                return
            self._next_s, wanted = self._runtime.monotonic(), []  # there may be more

    async def _take_for_lost(self, blobs: list[BlobId]) -> bool:
        """Bring again what needs `blobs`; return whether any of them was acknowledged."""
        lost, dots = await self._runtime.in_thread(self._forget, blobs)
        self.to_bring |= dots
        self.lost_count += lost
        log.error("relay %s has lost %d blobs that it had acknowledged", short(self._relay), lost)
        self._on_change()
        return lost > 0

    async def _absent(self, link: Link, blobs: list[BlobId]) -> list[BlobId]:
        """Return those of `blobs` that the relay does not give as they are named."""
        conversation = RelayConversation(await link.open_stream(Priority.BULK))
        try:
            await conversation.send(Attach(self._replica.folder))
            await conversation.expect(Attached)
            await conversation.send(Fetch(tuple(blobs)))
            lost = []
            for at, blob in enumerate(blobs):
                message = await conversation.receive()
                if isinstance(message, BlobFrame) and message.position == at:
                    if blob_id(message.data) != blob:
                        lost.append(blob)
                elif isinstance(message, BlobAbsent) and message.position == at:
                    if message.reason != Absence.LATER:
                        lost.append(blob)
                else:
                    raise MalformedMessage(f"{type(message).__name__} where the answer to blob {at} was due")
            return lost
        finally:
            conversation.reset()

    def _forget(self, lost: list[BlobId]) -> tuple[int, set[Dot]]:
        """Take nothing for stored that needs an absent blob; return how many were acknowledged, and the versions.

        One that no record lists was uploaded and never recorded: the relay may collect it. Blocking.
        """
        folder = self._replica.folder
        records = {name: open_stored(data, folder) for name, data in self._rows.stored_at(self._relay)}
        listed = {BlobId(blob) for record in records.values() for blob in record.blobs}
        needing = _needing(records, set(lost))
        dots = {Dot(name) for record in needing for name in records[record].dots}
        with self._replica.database.transaction():
            self._chunks.forget_blobs(self._relay, lost)
            self._rows.forget_parts(self._relay, needing)
            self._replica.versions.mark_lost(self._relay, dots)
        return len(listed.intersection(lost)), dots

    def owed(self) -> int:
        """Return how many of the versions to bring the relay still lacks; the others are done. Blocking."""
        lacking = self._replica.versions.lacking(sorted(self.to_bring)) if self.to_bring else {}
        self.to_bring = {name for name, relays in lacking.items() if self._relay in relays}
        return len(self.to_bring)

    def versions(self) -> list[VersionRow]:
        """Return some of the versions to bring that the relay still lacks. Blocking."""
        self.owed()
        rows = (self._replica.versions.get(name) for name in sorted(self.to_bring)[:UPLOAD_RECORD_VERSIONS_MAX])
        return [row for row in rows if row is not None]


def _needing(records: dict[RecordId, StoredRecord], lost: set[BlobId]) -> list[RecordId]:
    """Return the records that list one of the blobs, or rest on a part that does."""
    above: dict[RecordId, list[RecordId]] = {}
    for name, record in records.items():
        for part in record.parts:
            above.setdefault(RecordId(part), []).append(name)
    found: dict[RecordId, None] = {}
    queue: Iterable[RecordId] = [name for name, record in records.items() if not lost.isdisjoint(record.blobs)]
    while queue:
        found.update(dict.fromkeys(queue))
        queue = [name for part in queue for name in above.get(part, ()) if name not in found]
    return list(found)
