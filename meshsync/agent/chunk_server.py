"""Answers a member's requests for chunks from what lies on this device, a bounded part at a time.

Invariant: every item of a Want gets exactly one answer, in order; at most two parts of SERVE_PART_BYTES are held, for a
chunk that is longer than its item states is not served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence

from meshsync.agent.conversation import Conversation
from meshsync.agent.local_chunks import LocalChunks
from meshsync.chunking.pieces import difference
from meshsync.content.seal import BlobKind, seal_chunk
from meshsync.crypto.folder_keys import FolderKeys
from meshsync.errors import MalformedMessage
from meshsync.ids import ChunkId
from meshsync.limits import PIECE_DELTA_RATIO_MAX, SERVE_PART_BYTES
from meshsync.runtime import Runtime
from meshsync.wire.peer_messages import ChunkAbsent, ChunkFrame, Want, WantItem

Answer = ChunkFrame | ChunkAbsent


def parts(items: Sequence[WantItem]) -> Iterator[list[tuple[int, WantItem]]]:
    """Yield runs of (index, item) of about SERVE_PART_BYTES each."""
    part: list[tuple[int, WantItem]] = []
    size = 0
    for index, item in enumerate(items):
        part.append((index, item))
        size += item.size
        if size >= SERVE_PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


class ChunkServer:
    """Serves one folder."""

    def __init__(
        self, runtime: Runtime, chunks: LocalChunks, keys: Callable[[], FolderKeys], on_served: Callable[[int], None]
    ) -> None:
        """`on_served` is told the plaintext bytes of each answer."""
        self._runtime = runtime
        self._chunks = chunks
        self._keys = keys
        self._on_served = on_served

    async def serve(self, conversation: Conversation) -> None:
        """Answer Wants until the peer finishes. Raises PeerError, LinkClosed."""
        while (message := await conversation.receive()) is not None:
            if not isinstance(message, Want):
                raise MalformedMessage(f"{type(message).__name__} on a chunk stream")
            await self._answer(conversation, message)
        await conversation.finish()

    async def _answer(self, conversation: Conversation, want: Want) -> None:
        following: asyncio.Task[list[Answer]] | None = None
        try:
            for part in parts(want.items):
                ready, following = following, self._spawn(part)
                for answer in await ready if ready is not None else ():
                    await conversation.send(answer)
            for answer in await following if following is not None else ():
                await conversation.send(answer)
        finally:
            if following is not None:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

    def _spawn(self, part: list[tuple[int, WantItem]]) -> asyncio.Task[list[Answer]]:
        return self._runtime.spawn(self._runtime.in_thread(self._seal_part, part), "seal chunks")

    def _seal_part(self, part: list[tuple[int, WantItem]]) -> list[Answer]:
        keys = self._keys()
        wanted: dict[ChunkId, int] = {}
        for _, item in part:
            if item.kind == BlobKind.CHUNK:
                wanted[ChunkId(item.chunk)] = max(item.size, wanted.get(ChunkId(item.chunk), 0))
        here = self._chunks.find_chunks(list(wanted), wanted)
        return [self._seal_item(keys, index, item, here) for index, item in part]

    def _seal_item(self, keys: FolderKeys, index: int, item: WantItem, here: dict[ChunkId, bytes]) -> Answer:
        if item.kind not in (BlobKind.CHUNK, BlobKind.MANIFEST):
            return ChunkAbsent(index)
        kind = BlobKind(item.kind)
        chunk = ChunkId(item.chunk)
        data = here.get(chunk) if kind is BlobKind.CHUNK else self._chunks.find(chunk, kind)
        if data is None or len(data) > item.size:
            return ChunkAbsent(index)
        self._on_served(len(data))
        if item.pieces:
            delta = difference(keys.piece_key, item.pieces, data)
            if len(delta) <= len(data) * PIECE_DELTA_RATIO_MAX:
                return ChunkFrame(index, 1, keys.current, seal_chunk(keys, keys.current, BlobKind.DELTA, delta))
        return ChunkFrame(index, 0, keys.current, seal_chunk(keys, keys.current, kind, data))
