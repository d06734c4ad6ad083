"""Another member's device as a source of chunks.

Invariant: one stream for each batch, so a failure costs one batch; a broken rule costs the link.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from meshsync.agent.conversation import Conversation
from meshsync.agent.fetcher import Absent, Need, Sealed
from meshsync.chunking.pieces import piece_hashes
from meshsync.content.seal import BlobKind
from meshsync.crypto.folder_keys import FolderKeys
from meshsync.errors import LinkClosed, MalformedMessage, PeerError, PeerTimeout, RoleForbids
from meshsync.ids import EpochId, FolderId
from meshsync.limits import FETCH_ANSWER_S
from meshsync.transport.base import Link, Priority
from meshsync.wire.peer_messages import ChunkAbsent, ChunkFrame, FollowRefused, OpenChunks, Want, WantItem


class PeerSource:
    """Asks one linked member for chunks of one folder."""

    def __init__(self, name: str, link: Link, folder: FolderId, keys: FolderKeys) -> None:
        self._name = name
        self._link = link
        self._folder = folder
        self._keys = keys

    @property
    def name(self) -> str:
        return self._name

    def may_have(self, need: Need) -> bool:
        return True

    async def fetch(self, needs: Sequence[Need], priority: Priority) -> AsyncGenerator[Sealed | Absent, None]:
        conversation = Conversation(await self._link.open_stream(priority))
        try:
            await conversation.send(OpenChunks(self._folder))
            await conversation.send(Want(tuple(self._item(need) for need in needs)))
            await conversation.finish()
            for at, need in enumerate(needs):
                yield await self._answer(conversation, at, need)
        except PeerError as error:
            self._link.close(error.what[:100])
            raise
        finally:
            conversation.reset()

    async def _answer(self, conversation: Conversation, at: int, need: Need) -> Sealed | Absent:
        try:
            async with asyncio.timeout(FETCH_ANSWER_S):
                message = await conversation.receive()
        except TimeoutError:
            raise PeerTimeout(f"{self._name} owes the answer to chunk {at} for {FETCH_ANSWER_S:g} s") from None
        if isinstance(message, ChunkFrame) and message.index == at:
            return Sealed(need, message.form, EpochId(message.epoch), message.sealed)
        if isinstance(message, ChunkAbsent) and message.index == at:
            return Absent(need)
        if message is None:
            raise LinkClosed(f"{self._name} ended the stream before its answer to chunk {at}")
        if isinstance(message, FollowRefused):
            raise RoleForbids(f"{self._name} serves no chunks: {message.reason}")
        raise MalformedMessage(f"{type(message).__name__} where the answer to chunk {at} was due")

    def _item(self, need: Need) -> WantItem:
        pieces = b""
        if need.base is not None and need.kind is BlobKind.CHUNK:
            pieces = piece_hashes(self._keys.piece_key, need.base)
        return WantItem(need.chunk, int(need.kind), need.size, pieces)
