"""What every endpoint does with its links: routes datagrams, flushes, keeps time, runs the proofs.

Invariant: whoever calls `accept` or `dial` sees only links on which both proofs are complete.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import AccessError, LinkClosed, MalformedMessage, MeshsyncError, PeerTimeout
from meshsync.ids import DeviceId
from meshsync.limits import HANDSHAKE_TIMEOUT_S, LINKS_ACCEPT_QUEUE_MAX
from meshsync.runtime import Runtime
from meshsync.transport.auth import authenticate_client, authenticate_server
from meshsync.transport.base import CloseCode, Policy, Priority, Recognise
from meshsync.transport.certificate import Certificate, certificate_hash
from meshsync.transport.engines.base import EngineFactory
from meshsync.transport.guard import Admission
from meshsync.transport.link import Phase, QuicLink
from meshsync.transport.packets import (
    CONNECTION_ID_SIZE_BYTES,
    Address,
    destination_id,
)
from meshsync.transport.timer import Timer
from meshsync.transport.udp import Received
from meshsync.wire.session import NONCE_SIZE_BYTES, ClientSession, ServerSession, tag_matches


@dataclass(frozen=True, slots=True)
class FirstPacket:
    """A client's first packet after a retry: the id that it addressed at first, and the one that it addresses now."""

    original_id: bytes
    addressed_id: bytes


class DatagramSocket(Protocol):
    """What an endpoint sends through. Datagrams arrive at `LinkEndpoint.on_received`."""

    @property
    def address(self) -> Address:
        """The bound address."""

    @property
    def is_blocked(self) -> bool:
        """Whether no new datagrams can be taken now."""

    def send(self, datagrams: list[tuple[bytes, Address]]) -> int:
        """Send or drop; return the bytes."""

    def close(self) -> None:
        """Release the address."""


class LinkEndpoint:
    """An `Endpoint` but for the socket, addresses, and the first packet of a client, which subclasses bring."""

    def __init__(
        self, runtime: Runtime, keys: DeviceKeys, factory: EngineFactory, policy: Policy, certificate: Certificate
    ) -> None:
        self._runtime = runtime
        self._keys = keys
        self._factory = factory
        self._policy = policy
        self._certificate = certificate
        self._admission = Admission()
        self._routes: dict[bytes, QuicLink] = {}
        self._links: dict[QuicLink, None] = {}  # dicts, not sets: the order must not depend on where objects lie
        self._strangers: dict[QuicLink, Address] = {}
        self._dirty: dict[QuicLink, None] = {}
        self._flush_scheduled = False
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._accepted: deque[QuicLink] = deque()
        self._acceptor: asyncio.Future[None] | None = None
        self._closed = False
        self._timer = Timer(runtime, self._wake)
        self._socket: DatagramSocket

    @property
    def port(self) -> int:
        return self._socket.address[1]

    @property
    def certificate_hash(self) -> bytes:
        """The hash that proofs towards this endpoint name."""
        return self._certificate.hash

    async def dial(
        self,
        address: str,
        *,
        expect: DeviceId | None,
        discovery_key: bytes | None,
        timeout_s: float = HANDSHAKE_TIMEOUT_S,
        recognise: Recognise | None = None,
    ) -> QuicLink:
        if self._closed:
            raise LinkClosed("the endpoint is closed")
        deadline = self.now() + timeout_s
        remote = await self._resolve(address)
        engine = self._factory.client()
        link = QuicLink(self, engine, remote, is_client=True, deadline=deadline)
        self._links[link] = None
        self.route(engine.connection_id, link)
        engine.connect(remote, self.now())
        self.flush_soon(link)
        try:
            await link.wait_handshake()
            session = self._client_session(link, expect, discovery_key, recognise)
            peer = await authenticate_client(await link.open_stream(Priority.INTERACTIVE), session)
            link.authenticated(peer, session.binding)
        except MeshsyncError as error:
            link.fail(error, CloseCode.REFUSED)
            if isinstance(link.error, PeerTimeout):
                raise PeerTimeout(f"{address} did not answer within {timeout_s:g} s") from error
            raise
        except asyncio.CancelledError:
            link.close("cancelled")
            raise
        return link

    async def accept(self) -> QuicLink:
        while True:
            while self._accepted:
                link = self._accepted.popleft()
                if link.phase is Phase.OPEN:
                    return link
            if self._closed:
                raise LinkClosed("the endpoint is closed")
            self._acceptor = asyncio.get_running_loop().create_future()
            await self._acceptor

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for link in list(self._links):
            link.close("the peer is shutting down")
        self._flush_dirty()
        self._timer.stop()
        self._wake_acceptor()
        for task in list(self._tasks):
            await task
        self._socket.close()
        self._routes.clear()
        self._links.clear()

    # --- LinkOwner -----------------------------------------------------------------------------------------------

    def now(self) -> float:
        return self._runtime.monotonic()

    def transmit(self, datagrams: list[tuple[bytes, Address]]) -> int:
        return self._socket.send(datagrams)

    def is_blocked(self) -> bool:
        return self._socket.is_blocked

    def flush_soon(self, link: QuicLink) -> None:
        self._dirty[link] = None
        if not self._flush_scheduled:
            self._flush_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush_dirty)

    def route(self, connection_id: bytes, link: QuicLink | None) -> None:
        if link is not None:
            self._routes[connection_id] = link
            link.ids[connection_id] = None
        elif (old := self._routes.pop(connection_id, None)) is not None:
            old.ids.pop(connection_id, None)

    def link_closed(self, link: QuicLink) -> None:
        self._forget_stranger(link)

    def link_gone(self, link: QuicLink) -> None:
        for connection_id in list(link.ids):
            self.route(connection_id, None)
        self._links.pop(link, None)

    # --- datagrams -----------------------------------------------------------------------------------------------

    def on_received(self, batch: list[Received]) -> None:
        """Take what the socket read."""
        for data, size, address in batch:
            if len(data) <= size or _same_destination(data, size):
                self._dispatch(data, size, address)
            else:  # the kernel joined datagrams of one sender that are for several links
                for start in range(0, len(data), size):
                    self._dispatch(data[start : start + size], size, address)
        self._flush_dirty()

    def _dispatch(self, data: bytes, size: int, address: Address) -> None:
        destination = destination_id(data[:size])
        if destination is None:
            return
        link = self._routes.get(destination) or self._welcome(data, address)
        if link is not None:
            link.receive(data, size, address)
            self._dirty[link] = None

    def _welcome(self, datagram: bytes, address: Address) -> QuicLink | None:
        """Return the new link that `datagram` starts, None if it starts none (yet)."""
        if self._closed or (first := self._parse_first(datagram, address)) is None:
            return None
        if not self._admission.enter(address):
            return None
        engine = self._factory.server(self._certificate, first.original_id, first.addressed_id)
        link = QuicLink(self, engine, address, is_client=False, deadline=self.now() + HANDSHAKE_TIMEOUT_S)
        self._links[link] = None
        self._strangers[link] = address
        self.route(first.addressed_id, link)
        self.route(engine.connection_id, link)
        self._spawn(self._greet(link), "greet a client")
        return link

    def _flush_dirty(self) -> None:
        self._flush_scheduled = False
        dirty, self._dirty = self._dirty, {}
        for link in dirty:
            if link in self._links:
                link.flush()
        self._arm()

    def flush_all(self) -> None:
        """Flush every link: the socket takes datagrams again."""
        self._dirty.update(self._links)
        self._flush_dirty()

    def _arm(self) -> None:
        self._timer.set(min((at for link in self._links if (at := link.wake_at) is not None), default=None))

    def _wake(self) -> None:
        now = self.now()
        for link in list(self._links):
            at = link.wake_at
            if at is not None and at <= now:
                link.wake()
                self._dirty[link] = None
        self._flush_dirty()

    # --- proofs --------------------------------------------------------------------------------------------------

    async def _greet(self, link: QuicLink) -> None:
        try:
            await link.wait_handshake()
            session = ServerSession(
                self._keys,
                self._certificate.hash,
                self._runtime.random_bytes(NONCE_SIZE_BYTES),
                self.now(),
                speaks_first=self._policy.speaks_first(),
                match_tag=partial(tag_matches, self._policy.discovery_keys()),
                authorize=self._authorize,
            )
            peer = await authenticate_server(await link.accept_stream(), session, link.trusted)
            link.authenticated(peer, session.binding)
        except MeshsyncError as error:
            link.fail(error, CloseCode.REFUSED if isinstance(error, AccessError) else CloseCode.PROTOCOL)
            return
        self._forget_stranger(link)
        self._accepted.append(link)
        self._wake_acceptor()

    def _authorize(self, device: DeviceId) -> str | None:
        if len(self._accepted) >= LINKS_ACCEPT_QUEUE_MAX:
            return "busy"
        return self._policy.authorize(device)

    def _client_session(
        self, link: QuicLink, expect: DeviceId | None, discovery_key: bytes | None, recognise: Recognise | None
    ) -> ClientSession:
        certificate = link.engine.peer_certificate()
        if certificate is None:
            raise MalformedMessage("the server showed no certificate")
        return ClientSession(
            self._keys,
            certificate_hash(certificate),
            self._runtime.random_bytes(NONCE_SIZE_BYTES),
            self.now(),
            expect=expect,
            discovery_key=discovery_key,
            recognise=recognise,
        )

    # --- for subclasses ------------------------------------------------------------------------------------------

    async def _resolve(self, address: str) -> Address:
        """Return where to send for `address`. Raises ConfigError if it names no place."""
        raise NotImplementedError

    def _parse_first(self, datagram: bytes, address: Address) -> FirstPacket | None:
        """Return what a first packet says if it may start a link, None otherwise. May answer, must not keep state."""
        raise NotImplementedError

    # --- inside --------------------------------------------------------------------------------------------------

    def _forget_stranger(self, link: QuicLink) -> None:
        address = self._strangers.pop(link, None)
        if address is not None:
            self._admission.leave(address)

    def _wake_acceptor(self) -> None:
        if self._acceptor is not None and not self._acceptor.done():
            self._acceptor.set_result(None)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = self._runtime.spawn(work, name)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))


def _same_destination(data: bytes, size: int) -> bool:
    """Whether all segments are short-header packets for one connection id."""
    first = data[1 : 1 + CONNECTION_ID_SIZE_BYTES]
    end = 1 + CONNECTION_ID_SIZE_BYTES
    return not data[0] & 0x80 and all(
        data[start + 1 : start + end] == first and data[start] < 0x80 for start in range(size, len(data), size)
    )
