"""The in-process twin of the QUIC endpoint: the same links, streams and proofs over a network that is a dict.

Invariant: packets between two endpoints arrive in order or not at all; all randomness and time come from the runtime.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import ConfigError
from meshsync.limits import SOCKET_UNSENT_BYTES_MAX
from meshsync.runtime import Runtime
from meshsync.transport.base import Policy
from meshsync.transport.certificate import Certificate, certificate_hash
from meshsync.transport.endpoint import FirstPacket, LinkEndpoint
from meshsync.transport.engines.memory_engine import Kind, MemoryEngines, Packet, decode_packet, encode_packet
from meshsync.transport.packets import Address

_PORT_FIRST = 49_152
_CERTIFICATE_BYTES = 32


def _at_once() -> float:
    return 0.0


def _intact(data: bytes) -> bytes:
    return data


def _connected(source: int, target: int) -> bool:
    return True


class MemoryNetwork:
    """Where memory endpoints find each other by port.

    The hooks may be replaced at any time: `delay_s()` is the one-way delay of the next packet in seconds;
    `damage(data)` may alter stream bytes on their way (never those of the proofs); `reaches(source port, target port)`
    tells whether a packet gets through. A lost packet ends the link, as a long outage would.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.delay_s: Callable[[], float] = _at_once
        self.damage: Callable[[bytes], bytes] = _intact
        self.reaches: Callable[[int, int], bool] = _connected
        self._runtime = runtime
        self._endpoints: dict[int, MemoryEndpoint] = {}
        self._next_port = _PORT_FIRST

    def attach(self, endpoint: MemoryEndpoint, port: int) -> int:
        """Give `endpoint` a port, `port` unless 0. Raises ConfigError if it is taken."""
        if port == 0:
            port, self._next_port = self._next_port, self._next_port + 1
        if port in self._endpoints:
            raise ConfigError(f"port {port} is in use")
        self._endpoints[port] = endpoint
        return port

    def detach(self, port: int) -> None:
        """Free `port`; packets for it are lost from now on."""
        self._endpoints.pop(port, None)

    def find(self, port: int) -> MemoryEndpoint | None:
        """Return the endpoint at `port`."""
        return self._endpoints.get(port)


class _MemorySocket:
    """One endpoint's door to the network: a queue of packets in flight and a task that delivers them in order."""

    def __init__(self, network: MemoryNetwork, runtime: Runtime, endpoint: MemoryEndpoint, port: int) -> None:
        self.port = network.attach(endpoint, port)
        self._network = network
        self._runtime = runtime
        self._flying: deque[tuple[float, bytes, int]] = deque()
        self._flying_bytes = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def address(self) -> Address:
        return _address(self.port)

    @property
    def is_blocked(self) -> bool:
        return self._flying_bytes > SOCKET_UNSENT_BYTES_MAX

    def send(self, datagrams: list[tuple[bytes, Address]]) -> int:
        now = self._runtime.monotonic()
        for data, address in datagrams:
            if self._network.reaches(self.port, address[1]):
                self._flying.append((now + self._network.delay_s(), _damaged(data, self._network.damage), address[1]))
                self._flying_bytes += len(data)
        if self._flying and self._task is None:
            self._task = self._runtime.spawn(self._fly(), "memory network")
        return sum(len(data) for data, _ in datagrams)

    def close(self) -> None:
        self._network.detach(self.port)

    async def _fly(self) -> None:
        while self._flying:
            arrives_at, data, port = self._flying[0]
            await self._runtime.sleep(max(0.0, arrives_at - self._runtime.monotonic()))
            self._flying.popleft()
            was_blocked = self.is_blocked
            self._flying_bytes -= len(data)
            target, source = self._network.find(port), self._network.find(self.port)
            if target is not None:
                target.on_received([(data, len(data), self.address)])
            if was_blocked and not self.is_blocked and source is not None:
                source.flush_all()
        self._task = None


class MemoryEndpoint(LinkEndpoint):
    """An `Endpoint` on a `MemoryNetwork`. Made by `open`."""

    @classmethod
    async def open(
        cls,
        runtime: Runtime,
        keys: DeviceKeys,
        network: MemoryNetwork,
        policy: Policy | None = None,
        port: int = 0,
    ) -> MemoryEndpoint:
        """Attach to `network` at `port` (0: any free one). `policy` None refuses every client."""
        der = runtime.random_bytes(_CERTIFICATE_BYTES)
        certificate = Certificate(der, b"", certificate_hash(der))
        endpoint = cls(runtime, keys, MemoryEngines(runtime.random_bytes), policy or Policy(), certificate)
        endpoint._socket = _MemorySocket(network, runtime, endpoint, port)
        return endpoint

    async def _resolve(self, address: str) -> Address:
        port = address.rpartition(":")[2]
        if not (port.isascii() and port.isdigit()):
            raise ConfigError(f"{address!r} is not an address", next_step="Write host:port.")
        return _address(int(port))

    def _parse_first(self, datagram: bytes, address: Address) -> FirstPacket | None:
        addressed, packet = decode_packet(datagram)
        if packet.kind != Kind.CONNECT:
            return None
        return FirstPacket(addressed, b"first " + packet.data)  # nothing more comes to this id


def _address(port: int) -> Address:
    return (f"10.0.{port >> 8}.{port & 0xFF}", port)  # a source of its own for each, as machines are


def _damaged(data: bytes, damage: Callable[[bytes], bytes]) -> bytes:
    if damage is _intact:
        return data
    connection_id, packet = decode_packet(data)
    if packet.kind != Kind.STREAM or packet.number == 0 or not packet.data:
        return data
    altered = Packet(packet.seq, packet.kind, packet.number, damage(packet.data), packet.end)
    return encode_packet(connection_id, altered)
