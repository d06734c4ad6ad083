"""Frames on a stream. Invariant: at most one unfinished frame, of bounded size, is held."""

from __future__ import annotations

from collections import deque

from meshsync.errors import LinkClosed
from meshsync.limits import FRAME_BYTES_MAX
from meshsync.transport.base import Stream
from meshsync.wire.frames import FrameDecoder, frame_header

_JOIN_BYTES_MAX = 4096  # below this one joined send is cheaper than two


class FramedStream:
    """Sends and receives whole frames over a `Stream`, which it takes over."""

    def __init__(self, stream: Stream, size_max: int = FRAME_BYTES_MAX) -> None:
        """`size_max` bounds the body of a received frame, in bytes."""
        self.stream = stream
        self._decoder = FrameDecoder(size_max)
        self._ready: deque[tuple[int, bytes]] = deque()

    async def send_frame(self, kind: int, body: bytes) -> None:
        """Queue one frame; waits and raises as `Stream.send` does."""
        header = frame_header(kind, len(body))
        if len(body) <= _JOIN_BYTES_MAX:
            await self.stream.send(header + body)
            return
        await self.stream.send(header)
        await self.stream.send(body)

    async def receive_frame(self) -> tuple[int, bytes] | None:
        """Return the next frame (type, body), or None at the end of the stream.

        Raises PeerOverran or MalformedMessage on a frame out of bounds, LinkClosed if the stream ends inside a frame,
        and what `Stream.receive` raises.
        """
        while not self._ready:
            data = await self.stream.receive()
            if not data:
                if self._decoder.at_boundary:
                    return None
                raise LinkClosed("the stream ended in the middle of a frame")
            self._ready.extend(self._decoder.feed(data))
        return self._ready.popleft()

    def unread(self, frame: tuple[int, bytes]) -> None:
        """Let `receive_frame` return a frame once more: who looked at it is not who is to have it."""
        self._ready.appendleft(frame)

    async def finish(self) -> None:
        """End the sending direction."""
        await self.stream.finish()

    def reset(self, code: int) -> None:
        """Drop both directions."""
        self.stream.reset(code)
