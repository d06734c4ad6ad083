"""A QUIC link: drives one engine, keeps its streams, counts and bounds what the peer sends.

Invariant: after every call into the engine its events are delivered and its datagrams sent (or the socket is blocked),
and `wake_at` is right. Nothing of a stream other than the first is shown to anyone before `authenticated`.
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from typing import Protocol

from meshsync.errors import LinkClosed, MeshsyncError, PeerError, PeerIdentityMismatch, PeerOverran, PeerTimeout
from meshsync.ids import DeviceId
from meshsync.limits import (
    LINK_CLOSE_TIMEOUT_S,
    LINK_PING_INTERVAL_S,
    RECEIVE_UNREAD_LINK_MAX,
    STREAMS_MAX,
)
from meshsync.transport.base import CloseCode, Priority
from meshsync.transport.engines.base import QuicEngine
from meshsync.transport.guard import ByteBalance
from meshsync.transport.packets import Address
from meshsync.transport.streams import UNASSIGNED, QuicStream, SendScheduler

_REASON_CHARS_MAX = 100
_TLS_SIGNATURE_ALERTS = frozenset({42, 43, 46, 51})  # bad, unsupported, unknown certificate; decrypt error


class Phase(enum.Enum):
    """How far a link is. It moves forward only."""

    HANDSHAKE = 0
    PROOF = 1
    OPEN = 2
    CLOSED = 3


class LinkOwner(Protocol):
    """What a link needs of its endpoint."""

    def now(self) -> float:
        """Seconds."""

    def transmit(self, datagrams: list[tuple[bytes, Address]]) -> int:
        """Send or queue; return the bytes."""

    def is_blocked(self) -> bool:
        """Whether the socket cannot take more now."""

    def flush_soon(self, link: QuicLink) -> None:
        """Call `flush` before the loop goes idle."""

    def route(self, connection_id: bytes, link: QuicLink | None) -> None:
        """Datagrams for this id are for `link` from now on, or for nobody."""

    def link_closed(self, link: QuicLink) -> None:
        """The link ended; its ids stay routed until `link_gone`."""

    def link_gone(self, link: QuicLink) -> None:
        """The engine is finished too."""


class QuicLink:
    """One link, as a `base.Link` once `authenticate` has been called."""

    def __init__(self, owner: LinkOwner, engine: QuicEngine, address: Address, *, is_client: bool, deadline: float):
        """`deadline`: when the link fails unless `authenticated` was called."""
        now = owner.now()
        self.engine = engine
        self.remote = address
        self.is_client = is_client
        self.phase = Phase.HANDSHAKE
        self.error: MeshsyncError | None = None
        self.ids: dict[bytes, None] = {}
        self.bytes_sent = 0
        self.rtt_s: float | None = None
        self.binding = b""
        self._owner = owner
        self._balance = ByteBalance(now)
        self._deadline = deadline
        self._peer: DeviceId | None = None
        self._is_trusted = False
        self._streams: dict[int, QuicStream] = {}
        self._unstarted: dict[QuicStream, None] = {}
        self._scheduler = SendScheduler()
        self._next_id = 0 if is_client else 1
        self._peer_next_id = 1 if is_client else 0
        self._peer_skipped: set[int] = set()
        self._unread_bytes = 0
        self._incoming: deque[QuicStream] = deque()
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}
        self._ping_at: float | None = None
        self._ping_sent: tuple[int, float] | None = None
        self._ping_uid = 0

    # --- Link ----------------------------------------------------------------------------------------------------

    @property
    def peer(self) -> DeviceId:
        assert self._peer is not None, "a link is handed out only after the proofs"
        return self._peer

    @property
    def address(self) -> str:
        host = self.remote[0].removeprefix("::ffff:")
        return f"[{host}]:{self.remote[1]}" if ":" in host else f"{host}:{self.remote[1]}"

    @property
    def bytes_received(self) -> int:
        return self._balance.received

    async def open_stream(self, priority: Priority) -> QuicStream:
        while self.phase is not Phase.CLOSED and self._open_here() >= STREAMS_MAX:
            await self._wait("slot")
        if self.phase is Phase.CLOSED:
            raise self._failure()
        stream = QuicStream(self, UNASSIGNED, priority)
        self._unstarted[stream] = None
        return stream

    async def accept_stream(self) -> QuicStream:
        while not self._incoming:
            if self.phase is Phase.CLOSED:
                raise self._failure()
            await self._wait("incoming")
        return self._incoming.popleft()

    def close(self, reason: str) -> None:
        self.fail(LinkClosed(f"the link was closed here: {reason}"), CloseCode.NORMAL, reason)

    async def wait_closed(self) -> None:
        while self.phase is not Phase.CLOSED:
            await self._wait("closed")

    # --- for the endpoint ----------------------------------------------------------------------------------------

    async def wait_handshake(self) -> None:
        """Return when TLS is complete; raise the link's error if it fails before."""
        while self.phase is Phase.HANDSHAKE:
            await self._wait("handshake")
        if self.phase is Phase.CLOSED:
            raise self._failure()

    def authenticated(self, peer: DeviceId, binding: bytes) -> None:
        """The proofs are complete: lift the bounds of the handshake and hand out streams."""
        if self.phase is Phase.CLOSED:
            raise self._failure()
        self._peer, self.binding = peer, binding
        self.phase = Phase.OPEN
        self.trusted()
        self._ping_at = self._owner.now()
        self._owner.flush_soon(self)

    def trusted(self) -> None:
        """The peer has proved itself, though not yet everything is said: lift the bounds of the handshake."""
        self._is_trusted = True
        self._balance.authenticated()
        self.engine.authenticated()

    def receive(self, data: bytes, segment_size: int, address: Address) -> None:
        """Take datagrams of `segment_size` bytes, back to back. The caller flushes afterwards."""
        if self.phase is not Phase.CLOSED:
            try:
                self._balance.receive(len(data))
            except PeerOverran as error:
                self.fail(error, CloseCode.OVERRAN)
                return
        try:
            if len(data) <= segment_size:
                self.engine.receive([data], address, self._owner.now())
            else:
                self.engine.receive_segments(data, segment_size, address, self._owner.now())
            self.engine.deliver(self)
        except PeerError as error:
            self.fail(error, CloseCode.OVERRAN if isinstance(error, PeerOverran) else CloseCode.PROTOCOL)

    def flush(self) -> None:
        """Hand over what streams have queued and send what the engine allows."""
        now = self._owner.now()
        sent = 0
        while not self._owner.is_blocked():
            moved = self.phase is not Phase.CLOSED and self._scheduler.fill(self.engine)
            datagrams = self.engine.datagrams_to_send(now)
            if datagrams:
                sent += self._owner.transmit(datagrams)
                self.remote = datagrams[-1][1]
            if not moved:
                break
        self.bytes_sent += sent
        self._balance.forgive(sent, now)
        self.engine.deliver(self)

    @property
    def wake_at(self) -> float | None:
        """When `wake` is to be called."""
        times = [self.engine.timer(), self._ping_at if self.phase is Phase.OPEN else None]
        if self.phase is not Phase.OPEN:
            times.append(self._deadline)
        return min((at for at in times if at is not None), default=None)

    def wake(self) -> None:
        """Do what is due; early calls do nothing. The caller flushes afterwards."""
        now = self._owner.now()
        timer = self.engine.timer()
        if timer is not None and now >= timer:
            self.engine.handle_timer(now)
            self.engine.deliver(self)
        if self.phase is Phase.OPEN:
            if self._ping_at is not None and now >= self._ping_at:
                self._ping(now)
        elif now >= self._deadline:
            if self.phase is Phase.CLOSED:
                self._owner.link_gone(self)
            else:
                self.fail(PeerTimeout("the peer did not complete the handshake in time"), CloseCode.TIMEOUT)

    def fail(self, error: MeshsyncError, code: CloseCode, reason: str = "") -> None:
        """End the link with `error` for everyone who uses it here, `code` and `reason` for the peer."""
        if self.phase is Phase.CLOSED:
            return
        self.engine.close(code, reason[:_REASON_CHARS_MAX])
        self._end(error)
        self._deadline = self._owner.now() + LINK_CLOSE_TIMEOUT_S
        self._owner.flush_soon(self)

    # --- EngineSink ----------------------------------------------------------------------------------------------

    def on_handshake_completed(self) -> None:
        if self.phase is Phase.HANDSHAKE:
            self.phase = Phase.PROOF
            self._notify("handshake")

    def on_stream_data(self, stream_id: int, data: bytes, end: bool) -> None:
        self._balance.deliver(len(data))
        stream = self._streams.get(stream_id) or self._arrived(stream_id)
        if stream is None or self.phase is Phase.CLOSED:
            return
        before = stream.unread_bytes
        try:
            stream.feed(data, end)
            self._unread_bytes += stream.unread_bytes - before
            if self._unread_bytes > RECEIVE_UNREAD_LINK_MAX:
                raise PeerOverran(f"more than {RECEIVE_UNREAD_LINK_MAX} bytes that nobody asked for on one link")
        except PeerOverran as error:
            self.fail(error, CloseCode.OVERRAN)

    def on_stream_reset(self, stream_id: int, code: int) -> None:
        stream = self._streams.get(stream_id) or self._arrived(stream_id)
        if stream is not None:
            self.engine.reset(stream_id, code)
            stream.fail(LinkClosed(f"the peer gave up the stream (code {code})"))

    def on_stop_sending(self, stream_id: int, code: int) -> None:
        stream = self._streams.get(stream_id) or self._arrived(stream_id)
        if stream is not None:
            stream.stopped()

    def on_ping_acknowledged(self, uid: int) -> None:
        if self._ping_sent is not None and self._ping_sent[0] == uid:
            self.rtt_s = self._owner.now() - self._ping_sent[1]
            self._ping_sent = None

    def on_connection_id(self, connection_id: bytes, issued: bool) -> None:
        self._owner.route(connection_id, self if issued else None)

    def on_terminated(self, code: int, is_tls: bool, reason: str) -> None:
        shown = "".join(c for c in reason[:_REASON_CHARS_MAX] if c.isascii() and c.isprintable())
        if is_tls and code in _TLS_SIGNATURE_ALERTS:
            self._end(PeerIdentityMismatch("the peer does not hold the key of the certificate that it showed"))
        elif code == CloseCode.REFUSED and not is_tls:
            self._end(LinkClosed("the peer refused the link"))
        else:
            self._end(LinkClosed(f"the link ended: {shown or 'no answer'}"))
        self._owner.link_gone(self)

    # --- StreamOwner ---------------------------------------------------------------------------------------------

    def send_soon(self, stream: QuicStream) -> None:
        self._scheduler.add(stream)
        self._owner.flush_soon(self)

    def assign_id(self, stream: QuicStream) -> bool:
        if not self.engine.can_open(self._next_id):
            return False
        stream.stream_id = self._next_id
        self._next_id += 4
        self._unstarted.pop(stream, None)
        self._streams[stream.stream_id] = stream
        return True

    def consumed(self, size: int) -> None:
        self._unread_bytes -= size

    def reset_stream(self, stream: QuicStream, code: int) -> None:
        if stream.stream_id != UNASSIGNED and self.phase is not Phase.CLOSED:
            self.engine.reset(stream.stream_id, code)
            self._owner.flush_soon(self)

    def stream_ended(self, stream: QuicStream) -> None:
        if stream.is_over:
            self._streams.pop(stream.stream_id, None)
            self._unstarted.pop(stream, None)
            self._notify("slot")

    # --- inside --------------------------------------------------------------------------------------------------

    def _open_here(self) -> int:
        mine = 0 if self.is_client else 1
        return len(self._unstarted) + sum(1 for stream_id in self._streams if stream_id & 1 == mine)

    def _arrived(self, stream_id: int) -> QuicStream | None:
        """Return the new stream that the peer opened with this id, None if it is an old one of either side."""
        if stream_id & 2:
            self.fail(PeerOverran("the peer opened a stream of one direction"), CloseCode.PROTOCOL)
            return None
        if stream_id & 1 == (0 if self.is_client else 1):
            return None
        if stream_id != 0 and not self._is_trusted:
            self.fail(PeerOverran("the peer opened a stream before its proof"), CloseCode.PROTOCOL)
            return None
        if stream_id >= self._peer_next_id:
            self._peer_skipped.update(range(self._peer_next_id, stream_id, 4))
            self._peer_next_id = stream_id + 4
        elif stream_id in self._peer_skipped:
            self._peer_skipped.discard(stream_id)
        else:
            return None
        if len(self._incoming) >= 2 * STREAMS_MAX:
            self.fail(PeerOverran("the peer opened more streams than were accepted"), CloseCode.OVERRAN)
            return None
        stream = QuicStream(self, stream_id, Priority.BULK)
        self._streams[stream_id] = stream
        self._incoming.append(stream)
        self._notify("incoming")
        return stream

    def _ping(self, now: float) -> None:
        self._ping_uid += 1
        self._ping_sent = (self._ping_uid, now)
        self._ping_at = now + LINK_PING_INTERVAL_S
        self.engine.ping(self._ping_uid)

    def _failure(self) -> MeshsyncError:
        return self.error or LinkClosed("the link is closed")

    def _end(self, error: MeshsyncError) -> None:
        if self.phase is Phase.CLOSED:
            return
        self.phase = Phase.CLOSED
        self.error = error
        for stream in [*self._streams.values(), *self._unstarted]:
            stream.fail(error)
        for what in list(self._waiters):
            self._notify(what)
        self._owner.link_closed(self)

    async def _wait(self, what: str) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(what, []).append(waiter)
        await waiter

    def _notify(self, what: str) -> None:
        for waiter in self._waiters.pop(what, ()):
            if not waiter.done():
                waiter.set_result(None)
