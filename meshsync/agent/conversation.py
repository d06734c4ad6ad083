"""Messages between members over one stream. Invariant: whatever arrives is a well-formed message or a PeerError."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from meshsync.errors import LinkClosed, MalformedMessage
from meshsync.transport.base import CloseCode, Stream
from meshsync.transport.framed import FramedStream
from meshsync.wire.peer_messages import Message, pack, unpack

M = TypeVar("M", bound=Message)


class Conversation:
    """One stream as a sequence of messages."""

    def __init__(self, stream: Stream) -> None:
        self._framed = FramedStream(stream)
        self._sending = asyncio.Lock()

    async def send(self, message: Message) -> None:
        """Send one message; waits while the stream's send buffer is full. Several tasks may send. Raises LinkClosed."""
        async with self._sending:
            await self._framed.send_frame(*pack(message))

    async def receive(self) -> Message | None:
        """Return the next message, or None when the peer has finished. Raises PeerError, LinkClosed."""
        frame = await self._framed.receive_frame()
        return None if frame is None else unpack(*frame)

    async def expect(self, kind: type[M]) -> M:
        """Return the next message, which must be a `kind`. Raises MalformedMessage if it is another, LinkClosed."""
        message = await self.receive()
        if message is None:
            raise LinkClosed(f"the stream ended where {kind.__name__} was due")
        if not isinstance(message, kind):
            raise MalformedMessage(f"{type(message).__name__} where {kind.__name__} was due")
        return message

    async def finish(self) -> None:
        """Say that nothing more will be sent."""
        await self._framed.finish()

    def reset(self) -> None:
        """Drop the stream in both directions."""
        self._framed.reset(CloseCode.CANCELLED)
