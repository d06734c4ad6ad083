"""A relay as a source of chunks. Invariant: a blob that does not hash to its id is never opened."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence

from meshsync.agent.conversation import RelayConversation
from meshsync.agent.fetcher import Absent, Need, Sealed
from meshsync.crypto.hashing import blob_id
from meshsync.errors import MalformedMessage
from meshsync.ids import BlobId, ChunkId, FolderId
from meshsync.index.chunk_rows import BlobRow
from meshsync.runtime import Runtime
from meshsync.transport.base import Link, Priority
from meshsync.wire.relay_messages import Absence, Attach, Attached, BlobAbsent, BlobFrame, Fetch

BlobsOf = Callable[[Sequence[ChunkId]], dict[ChunkId, BlobRow]]


class RelaySource:
    """Asks a linked relay for blobs of one folder. `blobs_of` looks up which blob holds a chunk; it may block.

    `absent` hears of blobs that the relay should have and does not give.
    """

    def __init__(
        self,
        runtime: Runtime,
        name: str,
        link: Link,
        folder: FolderId,
        blobs_of: BlobsOf,
        absent: Callable[[BlobId], None] = lambda blob: None,
    ) -> None:
        self._runtime = runtime
        self._name = name
        self._link = link
        self._folder = folder
        self._blobs_of = blobs_of
        self._absent = absent

    @property
    def name(self) -> str:
        return self._name

    def may_have(self, need: Need) -> bool:
        return True

    async def fetch(self, needs: Sequence[Need], priority: Priority) -> AsyncGenerator[Sealed | Absent, None]:
        rows = await self._runtime.in_thread(self._blobs_of, [need.chunk for need in needs])
        asked = [(need, rows[need.chunk]) for need in needs if need.chunk in rows]
        for need in needs:
            if need.chunk not in rows:
                yield Absent(need)
        if not asked:
            return
        conversation = RelayConversation(await self._link.open_stream(priority))
        try:
            await conversation.send(Attach(self._folder))
            await conversation.send(Fetch(tuple(row.blob for _, row in asked)))
            await conversation.finish()
            await conversation.expect(Attached)
            for at, (need, row) in enumerate(asked):
                message = await conversation.receive()
                if isinstance(message, BlobFrame) and message.position == at:
                    if blob_id(message.data) == row.blob:
                        yield Sealed(need, 0, row.epoch, message.data)
                    else:
                        self._absent(row.blob)
                        yield Absent(need, damaged=True)
                elif isinstance(message, BlobAbsent) and message.position == at:
                    if message.reason != Absence.LATER:
                        self._absent(row.blob)
                    yield Absent(need, message.reason == Absence.DAMAGED)
                else:
                    raise MalformedMessage(f"{type(message).__name__} where the answer to blob {at} was due")
        finally:
            conversation.reset()
