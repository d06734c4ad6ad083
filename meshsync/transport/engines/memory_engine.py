"""An engine without QUIC, for links inside one process: no loss, no encryption, the same events and bounds.

Invariant: what it does depends only on the calls made and on the bytes of its connection ids, so a simulation that
draws those from one seed runs alike every time.

A packet is 0x40 ‖ 8 bytes connection id ‖ MessagePack of [sequence number, frame kind, stream id or number, data, end].
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from meshsync.errors import MalformedMessage
from meshsync.limits import LINK_IDLE_TIMEOUT_S, MEMORY_LINK_WINDOW_BYTES, SEND_PIECE_BYTES
from meshsync.transport.certificate import Certificate
from meshsync.transport.engines.base import EngineSink
from meshsync.transport.packets import CONNECTION_ID_SIZE_BYTES, Address

_HEADER_BYTES: Final = 1 + CONNECTION_ID_SIZE_BYTES
_OVERHEAD_BYTES: Final = 64


class Kind(enum.IntEnum):
    """What a packet carries."""

    CONNECT = 0  # data: the client's connection id
    CERTIFICATE = 1  # data: the server's certificate; stream: unused
    STREAM = 2
    RESET = 3
    ACK = 4  # stream: bytes that arrived
    PING = 5
    PONG = 6
    CLOSE = 7  # stream: the code; data: the reason


class Packet(msgspec.Struct, array_like=True, frozen=True):
    """One packet after its connection id."""

    seq: int
    kind: int
    number: int
    data: bytes
    end: bool


def encode_packet(connection_id: bytes, packet: Packet) -> bytes:
    """Return the bytes of a packet for `connection_id`."""
    return b"\x40" + connection_id + msgspec.msgpack.encode(packet)


def decode_packet(data: bytes) -> tuple[bytes, Packet]:
    """Return (connection id, packet). Raises MalformedMessage."""
    try:
        return data[1:_HEADER_BYTES], msgspec.msgpack.decode(data[_HEADER_BYTES:], type=Packet)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise MalformedMessage("not a packet of a memory link") from error


class MemoryEngine:
    """One side of a connection inside the process, as a `QuicEngine`."""

    def __init__(self, connection_id: bytes, peer_id: bytes, *, is_client: bool, certificate_der: bytes = b"") -> None:
        self.connection_id = connection_id
        self._peer_id = peer_id
        self._is_client = is_client
        self._certificate_der = certificate_der
        self._address: Address = ("memory", 0)
        self._control: deque[Packet] = deque()
        self._streams: deque[Packet] = deque()
        self._unsent = 0
        self._in_flight = 0
        self._next_seq = 0
        self._expected_seq = 0
        self._events: deque[Callable[[EngineSink], None]] = deque()
        self._idle_at = 0.0
        self._over = False
        self._closing: tuple[int, str] | None = None

    def connect(self, address: Address, now: float) -> None:
        self._address = address
        self._idle_at = now + LINK_IDLE_TIMEOUT_S
        self._control.append(self._packet(Kind.CONNECT, 0, self.connection_id))

    def receive(self, datagrams: list[bytes], address: Address, now: float) -> None:
        self._address = address
        self._idle_at = now + LINK_IDLE_TIMEOUT_S
        for data in datagrams:
            if not self._over:
                self._take(decode_packet(data)[1])

    def receive_segments(self, buffer: bytes, segment_size: int, address: Address, now: float) -> None:
        raise AssertionError("memory links do not join packets")

    def deliver(self, sink: EngineSink) -> None:
        while self._events:
            self._events.popleft()(sink)

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        if not self._idle_at:
            self._idle_at = now + LINK_IDLE_TIMEOUT_S
        out = [*self._control]
        self._control.clear()
        while self._streams and self._in_flight < MEMORY_LINK_WINDOW_BYTES and self._peer_id:
            packet = self._streams.popleft()
            self._unsent -= len(packet.data)
            self._in_flight += len(packet.data) + _OVERHEAD_BYTES
            out.append(packet)
        if self._closing is not None:
            self._terminate(*self._closing)
            self._closing = None
        return [(self._encode(packet), self._address) for packet in out]

    def timer(self) -> float | None:
        return None if self._over else self._idle_at

    def handle_timer(self, now: float) -> None:
        if not self._over and now >= self._idle_at:
            self._terminate(0, "idle for too long")

    def send(self, stream_id: int, data: bytes | memoryview, end: bool) -> None:
        view = memoryview(data)
        for start in range(0, max(len(view), 1), SEND_PIECE_BYTES):
            piece = bytes(view[start : start + SEND_PIECE_BYTES])
            last = end and start + SEND_PIECE_BYTES >= len(view)
            self._streams.append(self._packet(Kind.STREAM, stream_id, piece, end=last))
        self._unsent += len(view)

    def can_open(self, stream_id: int) -> bool:
        return True

    def unsent_bytes(self) -> int:
        return self._unsent

    def reset(self, stream_id: int, code: int) -> None:
        kept = deque(packet for packet in self._streams if packet.number != stream_id)
        self._unsent -= sum(len(packet.data) for packet in self._streams if packet.number == stream_id)
        self._streams = kept
        self._control.append(self._packet(Kind.RESET, stream_id, code.to_bytes(8, "big")))

    def ping(self, uid: int) -> None:
        self._control.append(self._packet(Kind.PING, uid))

    def close(self, code: int, reason: str) -> None:
        if not self._over:
            self._streams.clear()
            self._unsent = 0
            self._control.append(self._packet(Kind.CLOSE, code, reason.encode()))
            self._over = True  # reported as terminated once the peer's packet is out
            self._closing = (code, reason)

    def peer_certificate(self) -> bytes | None:
        return self._certificate_der if self._is_client and self._certificate_der else None

    def authenticated(self) -> None:
        pass

    def _packet(self, kind: Kind, number: int, data: bytes = b"", *, end: bool = False) -> Packet:
        return Packet(0, kind, number, data, end)

    def _encode(self, packet: Packet) -> bytes:
        numbered = Packet(self._next_seq, packet.kind, packet.number, packet.data, packet.end)
        self._next_seq += 1
        return encode_packet(self._peer_id or bytes(CONNECTION_ID_SIZE_BYTES), numbered)

    def _take(self, packet: Packet) -> None:
        if packet.seq != self._expected_seq:
            self._terminate(0, "packets were lost")
            return
        self._expected_seq += 1
        number, data, end = packet.number, packet.data, packet.end
        if packet.kind == Kind.STREAM:
            self._control.append(self._packet(Kind.ACK, len(data) + _OVERHEAD_BYTES))
            self._events.append(lambda sink: sink.on_stream_data(number, data, end))
        elif packet.kind == Kind.RESET:
            code = int.from_bytes(data, "big")
            self._events.append(lambda sink: sink.on_stream_reset(number, code))
        elif packet.kind == Kind.ACK:
            self._in_flight -= number
        elif packet.kind == Kind.PING:
            self._control.append(self._packet(Kind.PONG, number))
        elif packet.kind == Kind.PONG:
            self._events.append(lambda sink: sink.on_ping_acknowledged(number))
        elif packet.kind == Kind.CLOSE:
            self._terminate(number, data.decode(errors="replace"))
        else:
            self._take_handshake(packet)

    def _take_handshake(self, packet: Packet) -> None:
        if packet.kind == Kind.CONNECT and not self._is_client:
            self._peer_id = packet.data
            self._control.append(self._packet(Kind.CERTIFICATE, 0, self.connection_id + self._certificate_der))
        elif packet.kind == Kind.CERTIFICATE and self._is_client:
            self._peer_id = packet.data[:CONNECTION_ID_SIZE_BYTES]
            self._certificate_der = packet.data[CONNECTION_ID_SIZE_BYTES:]
        else:
            raise MalformedMessage(f"a packet of kind {packet.kind}")
        self._events.append(lambda sink: sink.on_handshake_completed())

    def _terminate(self, code: int, reason: str) -> None:
        self._over = True
        self._events.append(lambda sink: sink.on_terminated(code, False, reason))


class MemoryEngines:
    """Makes both sides; ids come from `random_bytes(size)`."""

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes

    def client(self) -> MemoryEngine:
        """Return the dialling side."""
        return MemoryEngine(self._random_bytes(CONNECTION_ID_SIZE_BYTES), b"", is_client=True)

    def server(self, certificate: Certificate, original_id: bytes, retry_id: bytes) -> MemoryEngine:
        """Return the side that was dialled."""
        own = self._random_bytes(CONNECTION_ID_SIZE_BYTES)
        return MemoryEngine(own, b"", is_client=False, certificate_der=certificate.certificate_pem)
