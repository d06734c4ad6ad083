"""Whole messages on a stream of a link. Invariant: a peer that stalls inside an exchange is given up in time."""

from __future__ import annotations

import asyncio

from meshsync.errors import LinkClosed, PeerTimeout
from meshsync.limits import RELAY_REQUEST_TIMEOUT_S
from meshsync.transport.framed import FramedStream
from meshsync.wire.relay_messages import Message, pack, unpack


class MessageStream:
    """Sends and receives `relay_messages` over a framed stream."""

    def __init__(self, framed: FramedStream) -> None:
        self.framed = framed

    async def send(self, message: Message) -> None:
        """Queue `message`. Raises PeerTimeout if the peer takes nothing for too long, LinkClosed."""
        try:
            async with asyncio.timeout(RELAY_REQUEST_TIMEOUT_S):
                await self.framed.send_frame(*pack(message))
        except TimeoutError as error:
            raise PeerTimeout("the device takes no more of what it asked for") from error

    async def next_request(self) -> Message | None:
        """Return the next message, however late, or None at the end of the stream. Raises PeerError, LinkClosed."""
        frame = await self.framed.receive_frame()
        return None if frame is None else unpack(*frame)

    async def receive(self) -> Message:
        """Return the next message of an exchange under way.

        Raises PeerTimeout, MalformedMessage or PeerOverran, LinkClosed, also if the stream ends here.
        """
        try:
            async with asyncio.timeout(RELAY_REQUEST_TIMEOUT_S):
                message = await self.next_request()
        except TimeoutError as error:
            raise PeerTimeout("the device stopped in the middle of an upload") from error
        if message is None:
            raise LinkClosed("the device ended the stream in the middle of an upload")
        return message
