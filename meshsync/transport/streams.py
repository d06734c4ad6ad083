"""Both directions of one stream of a QUIC link, and the order in which streams get to send.

Invariant: bytes wait here, not in the engine: it is handed at most ENGINE_UNSENT_BYTES_MAX at a time, so what is small
and urgent never waits behind more than that of bulk data.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from meshsync.errors import LinkClosed, MeshsyncError, PeerOverran
from meshsync.limits import ENGINE_UNSENT_BYTES_MAX, RECEIVE_UNREAD_MAX, SEND_PIECE_BYTES, STREAM_SEND_BUFFER
from meshsync.transport.base import Priority
from meshsync.transport.engines.base import QuicEngine

UNASSIGNED = -1


class StreamOwner(Protocol):
    """What a stream needs of its link."""

    def send_soon(self, stream: QuicStream) -> None:
        """The stream has something queued."""

    def assign_id(self, stream: QuicStream) -> bool:
        """Give a new stream its id; False if the peer's limit does not allow another one now."""

    def consumed(self, size: int) -> None:
        """The application took `size` bytes."""

    def reset_stream(self, stream: QuicStream, code: int) -> None:
        """Give up the stream in the engine."""

    def stream_ended(self, stream: QuicStream) -> None:
        """One direction ended; the link forgets the stream when both have."""


class QuicStream:
    """One stream, as a `base.Stream`."""

    def __init__(self, owner: StreamOwner, stream_id: int, priority: Priority) -> None:
        """`stream_id` is UNASSIGNED until the first bytes go out: ids are given in the order of use."""
        self.stream_id = stream_id
        self.priority = priority
        self._owner = owner
        self._outgoing: deque[memoryview] = deque()
        self._outgoing_bytes = 0
        self._fin_queued = False
        self.send_ended = False
        self._incoming: deque[bytes] = deque()
        self.unread_bytes = 0
        self.receive_ended = False
        self.is_scheduled = False
        self._receive_error: MeshsyncError | None = None
        self._send_error: MeshsyncError | None = None
        self._sender: asyncio.Future[None] | None = None
        self._receiver: asyncio.Future[None] | None = None

    async def send(self, data: bytes) -> None:
        assert not self._fin_queued, "send after finish"
        if self.send_ended:
            raise self._send_error or LinkClosed("the peer stopped reading the stream")
        if data:
            self._outgoing.append(memoryview(data))
            self._outgoing_bytes += len(data)
            self._owner.send_soon(self)
        while self._outgoing_bytes > STREAM_SEND_BUFFER:
            self._sender = asyncio.get_running_loop().create_future()
            await self._sender
            if self.send_ended:
                raise self._send_error or LinkClosed("the peer stopped reading the stream")

    async def receive(self) -> bytes:
        while not self._incoming:
            if self._receive_error is not None:
                raise self._receive_error
            if self.receive_ended:
                return b""
            self._receiver = asyncio.get_running_loop().create_future()
            await self._receiver
        data = self._incoming[0] if len(self._incoming) == 1 else b"".join(self._incoming)
        self._incoming.clear()
        self._owner.consumed(self.unread_bytes)
        self.unread_bytes = 0
        return data

    async def finish(self) -> None:
        if not self._fin_queued and not self.send_ended:
            self._fin_queued = True
            self._owner.send_soon(self)

    def reset(self, code: int) -> None:
        if self.send_ended and self.receive_ended:
            return
        self._owner.reset_stream(self, code)
        self._incoming.clear()
        self._owner.consumed(self.unread_bytes)
        self.unread_bytes = 0
        self.fail(LinkClosed("the stream was given up here"))

    @property
    def is_over(self) -> bool:
        """Whether nothing more is sent or received; unread bytes may remain."""
        return self.send_ended and self.receive_ended

    @property
    def has_outgoing(self) -> bool:
        """Whether bytes or the end wait to be handed to the engine."""
        return not self.send_ended and (bool(self._outgoing) or self._fin_queued)

    def can_hand_over(self) -> bool:
        """Whether the stream has an id, a new one if need be."""
        return self.stream_id != UNASSIGNED or self._owner.assign_id(self)

    def hand_over(self, engine: QuicEngine) -> None:
        """Give the engine the next piece of at most SEND_PIECE_BYTES, and the end with the last. Raises LinkClosed."""
        if not self._outgoing:
            engine.send(self.stream_id, b"", True)
            self._end_sending()
            return
        piece = self._outgoing.popleft()
        if len(piece) > SEND_PIECE_BYTES:
            self._outgoing.appendleft(piece[SEND_PIECE_BYTES:])
            piece = piece[:SEND_PIECE_BYTES]
        end = self._fin_queued and not self._outgoing
        engine.send(self.stream_id, piece, end)
        self._outgoing_bytes -= len(piece)
        if self._outgoing_bytes <= STREAM_SEND_BUFFER:
            _wake(self._sender)
        if end:
            self._end_sending()

    def feed(self, data: bytes, end: bool) -> None:
        """Take the next bytes from the peer. Raises PeerOverran above RECEIVE_UNREAD_MAX unread bytes."""
        if self.receive_ended:
            return
        if data:
            self.unread_bytes += len(data)
            if self.unread_bytes > RECEIVE_UNREAD_MAX:
                raise PeerOverran(f"more than {RECEIVE_UNREAD_MAX} bytes that nobody asked for on one stream")
            self._incoming.append(data)
        if end:
            self.receive_ended = True
            self._owner.stream_ended(self)
        _wake(self._receiver)

    def stopped(self) -> None:
        """The peer stopped reading."""
        if not self.send_ended:
            self._drop_outgoing()
            self._end_sending()

    def fail(self, error: MeshsyncError) -> None:
        """End both directions: calls on a direction that was open raise `error`, after the bytes that arrived."""
        if not self.receive_ended:
            self._receive_error = error
        if not self.send_ended:
            self._send_error = error
        self._drop_outgoing()
        self.receive_ended = True
        self._end_sending()
        _wake(self._receiver)

    def _drop_outgoing(self) -> None:
        self._outgoing.clear()
        self._outgoing_bytes = 0

    def _end_sending(self) -> None:
        self.send_ended = True
        _wake(self._sender)
        self._owner.stream_ended(self)


class SendScheduler:
    """Round robin among the streams of one priority, INTERACTIVE before BULK."""

    def __init__(self) -> None:
        self._ready: tuple[deque[QuicStream], ...] = tuple(deque() for _ in Priority)

    def add(self, stream: QuicStream) -> None:
        """The stream has something queued. Adding it again does nothing."""
        if not stream.is_scheduled:
            stream.is_scheduled = True
            self._ready[stream.priority].append(stream)

    def fill(self, engine: QuicEngine) -> bool:
        """Hand pieces to the engine until it holds ENGINE_UNSENT_BYTES_MAX; return whether any was handed over."""
        return any(self._fill_from(ready, engine) for ready in self._ready)

    def _fill_from(self, ready: deque[QuicStream], engine: QuicEngine) -> bool:
        moved = False
        waiting: list[QuicStream] = []  # for an id
        while ready and engine.unsent_bytes() < ENGINE_UNSENT_BYTES_MAX:
            stream = ready.popleft()
            if not stream.has_outgoing:
                stream.is_scheduled = False
            elif not stream.can_hand_over():
                waiting.append(stream)
            else:
                moved |= _hand_over(stream, engine)
                ready.append(stream)
        ready.extend(waiting)
        return moved


def _hand_over(stream: QuicStream, engine: QuicEngine) -> bool:
    try:
        stream.hand_over(engine)
    except LinkClosed:  # the peer stopped reading; the event that says so is on its way
        stream.stopped()
        return False
    return True


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
