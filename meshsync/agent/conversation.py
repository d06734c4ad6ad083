"""Messages over one stream. Invariant: whatever arrives is a well-formed message of one protocol, or a PeerError."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from meshsync.errors import LinkClosed, MalformedMessage
from meshsync.transport.base import CloseCode, Stream
from meshsync.transport.framed import FramedStream
from meshsync.wire import peer_messages, relay_messages

M = TypeVar("M")
K = TypeVar("K")


class _Conversation(Generic[M]):
    def __init__(
        self, stream: Stream, pack: Callable[[M], tuple[int, bytes]], unpack: Callable[[int, bytes], M]
    ) -> None:
        self.framed = self._framed = FramedStream(stream)
        self._pack = pack
        self._unpack = unpack
        self._sending = asyncio.Lock()

    async def send(self, message: M) -> None:
        """Send one message; waits while the stream's send buffer is full. Several tasks may send. Raises LinkClosed."""
        async with self._sending:
            await self._framed.send_frame(*self._pack(message))

    async def receive(self) -> M | None:
        """Return the next message, or None when the peer has finished. Raises PeerError, LinkClosed."""
        frame = await self._framed.receive_frame()
        return None if frame is None else self._unpack(*frame)

    async def look(self) -> int | None:
        """Return the type of the next frame, which `receive` then takes; None at the end. As `receive` raises."""
        frame = await self._framed.receive_frame()
        if frame is None:
            return None
        self._framed.unread(frame)
        return frame[0]

    async def expect(self, kind: type[K]) -> K:
        """Return the next message, which must be a `kind`.

        Raises MalformedMessage if it is another, LinkClosed; from a relay a refusal as the error it stands for.
        """
        message = await self.receive()
        if message is None:
            raise LinkClosed(f"the stream ended where {kind.__name__} was due")
        if isinstance(message, relay_messages.Refused) and not isinstance(message, kind):
            raise relay_messages.refusal_error(message)
        if not isinstance(message, kind):
            raise MalformedMessage(f"{type(message).__name__} where {kind.__name__} was due")
        return message

    async def finish(self) -> None:
        """Say that nothing more will be sent."""
        await self._framed.finish()

    def reset(self) -> None:
        """Drop the stream in both directions."""
        self._framed.reset(CloseCode.CANCELLED)


class Conversation(_Conversation[peer_messages.Message]):
    """Between two members."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream, peer_messages.pack, peer_messages.unpack)


class RelayConversation(_Conversation[relay_messages.Message]):
    """Between a device and a relay."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream, relay_messages.pack, relay_messages.unpack)
