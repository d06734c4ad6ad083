"""A QUIC endpoint: one UDP socket, any number of links dialled from and accepted at it.

Invariant: whoever calls `accept` or `dial` sees only links on which both proofs are complete; a stranger costs no
state before it has shown, by a retry, that it receives at its address.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections import deque
from collections.abc import Coroutine
from functools import partial
from typing import Any

from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import AccessError, ConfigError, LinkClosed, MalformedMessage, MeshsyncError, PeerTimeout
from meshsync.ids import DeviceId
from meshsync.limits import HANDSHAKE_TIMEOUT_S, LINKS_ACCEPT_QUEUE_MAX
from meshsync.runtime import Runtime
from meshsync.transport.auth import authenticate_client, authenticate_server
from meshsync.transport.base import CloseCode, Policy, Priority
from meshsync.transport.certificate import certificate_hash, make_certificate
from meshsync.transport.engines.base import EngineFactory
from meshsync.transport.engines.choice import engine_factory
from meshsync.transport.guard import Admission
from meshsync.transport.link import Phase, QuicLink
from meshsync.transport.packets import (
    CONNECTION_ID_SIZE_BYTES,
    Address,
    RetryTokens,
    destination_id,
    encode_retry,
    parse_initial,
)
from meshsync.transport.timer import Timer
from meshsync.transport.udp import Received, UdpSocket
from meshsync.wire.session import NONCE_SIZE_BYTES, ClientSession, ServerSession, tag_matches


class QuicEndpoint:
    """An `Endpoint` over UDP. Made by `open`."""

    def __init__(self, runtime: Runtime, keys: DeviceKeys, factory: EngineFactory, policy: Policy) -> None:
        self._runtime = runtime
        self._keys = keys
        self._factory = factory
        self._policy = policy
        self._certificate = make_certificate()
        self._tokens = RetryTokens(runtime.random_bytes(32))
        self._admission = Admission()
        self._routes: dict[bytes, QuicLink] = {}
        self._links: set[QuicLink] = set()
        self._strangers: dict[QuicLink, Address] = {}
        self._dirty: set[QuicLink] = set()
        self._flush_scheduled = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepted: deque[QuicLink] = deque()
        self._acceptor: asyncio.Future[None] | None = None
        self._closed = False
        self._timer = Timer(runtime, self._wake)
        self._socket: UdpSocket

    @classmethod
    async def open(
        cls,
        runtime: Runtime,
        keys: DeviceKeys,
        listen: str,
        engine: str = "qh3",
        policy: Policy | None = None,
        *,
        offload: bool = True,
    ) -> QuicEndpoint:
        """Listen at `listen`: "host:port" with a numeric host; "[::]:port" takes IPv4 too; port 0 is any free one.

        `engine`: "qh3" or "aioquic". `policy` None dials only: every client is refused. `offload` False forbids the
        kernel's segmentation. Raises ConfigError on a bad address or engine, or a port in use.
        """
        endpoint = cls(runtime, keys, engine_factory(engine), policy or Policy())
        host, port = split_address(listen)
        endpoint._socket = UdpSocket.bind(host, port, endpoint._on_received, offload=offload)
        endpoint._socket.on_writable(endpoint._flush_all)
        return endpoint

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
    ) -> QuicLink:
        if self._closed:
            raise LinkClosed("the endpoint is closed")
        deadline = self.now() + timeout_s
        remote = await self._resolve(address)
        engine = self._factory.client()
        link = QuicLink(self, engine, remote, is_client=True, deadline=deadline)
        self._links.add(link)
        self.route(engine.connection_id, link)
        engine.connect(remote, self.now())
        self.flush_soon(link)
        try:
            await link.wait_handshake()
            peer = await authenticate_client(
                await link.open_stream(Priority.INTERACTIVE), self._client_session(link, expect, discovery_key)
            )
            link.authenticated(peer)
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
        self._dirty.add(link)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush_dirty)

    def route(self, connection_id: bytes, link: QuicLink | None) -> None:
        if link is not None:
            self._routes[connection_id] = link
            link.ids.add(connection_id)
        elif (old := self._routes.pop(connection_id, None)) is not None:
            old.ids.discard(connection_id)

    def link_closed(self, link: QuicLink) -> None:
        self._forget_stranger(link)

    def link_gone(self, link: QuicLink) -> None:
        for connection_id in list(link.ids):
            self.route(connection_id, None)
        self._links.discard(link)

    # --- datagrams -----------------------------------------------------------------------------------------------

    def _on_received(self, batch: list[Received]) -> None:
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
            self._dirty.add(link)

    def _welcome(self, datagram: bytes, address: Address) -> QuicLink | None:
        """Return the new link that `datagram` starts, None if it starts none (yet)."""
        initial = parse_initial(datagram)
        if initial is None or self._closed:
            return None
        if not initial.token:
            source = self._runtime.random_bytes(CONNECTION_ID_SIZE_BYTES)
            token = self._tokens.make(address, initial.destination, source, self.now())
            self._socket.send([(encode_retry(initial, source, token), address)])
            return None
        try:
            original = self._tokens.check(address, initial.destination, initial.token, self.now())
        except MalformedMessage:
            return None
        if not self._admission.enter(address):
            return None
        engine = self._factory.server(self._certificate, original, initial.destination)
        link = QuicLink(self, engine, address, is_client=False, deadline=self.now() + HANDSHAKE_TIMEOUT_S)
        self._links.add(link)
        self._strangers[link] = address
        self.route(initial.destination, link)
        self.route(engine.connection_id, link)
        self._spawn(self._greet(link), "greet a client")
        return link

    def _flush_dirty(self) -> None:
        self._flush_scheduled = False
        dirty, self._dirty = self._dirty, set()
        for link in dirty:
            if link in self._links:
                link.flush()
        self._arm()

    def _flush_all(self) -> None:
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
                self._dirty.add(link)
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
            link.authenticated(peer)
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

    def _client_session(self, link: QuicLink, expect: DeviceId | None, discovery_key: bytes | None) -> ClientSession:
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
        )

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
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _resolve(self, address: str) -> Address:
        host, port = split_address(address)
        family = self._socket.family
        if _is_numeric(host) and (family == socket.AF_INET6 or ":" not in host):
            mapped = f"::ffff:{host}" if family == socket.AF_INET6 and ":" not in host else host
            return (mapped, port) if family == socket.AF_INET else (mapped, port, 0, 0)
        look_up = partial(socket.getaddrinfo, host, port, family, socket.SOCK_DGRAM, 0, socket.AI_V4MAPPED)
        try:
            found = await self._runtime.in_thread(look_up)
        except (OSError, UnicodeError) as error:
            raise ConfigError(f"the address {address} cannot be resolved", next_step="Check its spelling.") from error
        resolved: Any = found[0][4]
        return resolved  # type: ignore[no-any-return]


def split_address(address: str) -> tuple[str, int]:
    """Return (host, port) of "host:port" or "[v6]:port". Raises ConfigError on anything else."""
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not (host and colon and port.isascii() and port.isdigit() and int(port) <= 0xFFFF):
        raise ConfigError(f"{address!r} is not an address", next_step="Write host:port or [v6]:port.")
    return host, int(port)


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _same_destination(data: bytes, size: int) -> bool:
    """Whether all segments are short-header packets for one connection id."""
    first = data[1 : 1 + CONNECTION_ID_SIZE_BYTES]
    end = 1 + CONNECTION_ID_SIZE_BYTES
    return not data[0] & 0x80 and all(
        data[start + 1 : start + end] == first and data[start] < 0x80 for start in range(size, len(data), size)
    )
