"""What the shell needs of a QUIC implementation: bytes and time in, bytes and events out.

Invariant: an engine does no I/O and reads no clock; errors of the implementation never leave its module untyped.
"""

from __future__ import annotations

from typing import Protocol

from meshsync.transport.certificate import Certificate
from meshsync.transport.packets import Address


class EngineSink(Protocol):
    """What an engine reports, in order, while `QuicEngine.deliver` runs."""

    def on_handshake_completed(self) -> None:
        """TLS is complete: the peer's certificate is known and it holds the certificate's key."""

    def on_stream_data(self, stream_id: int, data: bytes, end: bool) -> None:
        """The next bytes of a stream, and whether they are the last."""

    def on_stream_reset(self, stream_id: int, code: int) -> None:
        """The peer gave up sending on a stream."""

    def on_stop_sending(self, stream_id: int, code: int) -> None:
        """The peer gave up reading a stream."""

    def on_ping_acknowledged(self, uid: int) -> None:
        """The ping with `uid` came back."""

    def on_connection_id(self, connection_id: bytes, issued: bool) -> None:
        """The peer may from now on use this id (`issued`), or will not use it any more."""

    def on_terminated(self, code: int, is_tls: bool, reason: str) -> None:
        """The connection is over: nothing more is sent or received. `is_tls`: `code` is a TLS alert."""


class QuicEngine(Protocol):
    """One connection. Times are seconds of one monotonic clock."""

    connection_id: bytes
    """The id by which this side is addressed first."""

    def connect(self, address: Address, now: float) -> None:
        """Client: prepare the first flight to `address`."""

    def receive(self, datagrams: list[bytes], address: Address, now: float) -> None:
        """Take datagrams that arrived from `address`, in order. Raises PeerOverran, MalformedMessage."""

    def receive_segments(self, buffer: bytes, segment_size: int, address: Address, now: float) -> None:
        """The same for datagrams of `segment_size` bytes each, back to back; the last may be shorter."""

    def deliver(self, sink: EngineSink) -> None:
        """Report all pending events to `sink`."""

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """Return the datagrams that may go out now."""

    def timer(self) -> float | None:
        """Return when `handle_timer` must be called, None for never."""

    def handle_timer(self, now: float) -> None:
        """Do what is due at `now`."""

    def send(self, stream_id: int, data: bytes | memoryview, end: bool) -> None:
        """Queue bytes of a stream; a new id of this side opens it. Raises LinkClosed if the stream cannot send."""

    def can_open(self, stream_id: int) -> bool:
        """Return whether the peer's limit lets this side open `stream_id` now."""

    def unsent_bytes(self) -> int:
        """Return the bytes queued for their first transmission."""

    def reset(self, stream_id: int, code: int) -> None:
        """Give up both directions of a stream. Harmless if it is over."""

    def ping(self, uid: int) -> None:
        """Send a ping; nothing on a connection that has ended."""

    def close(self, code: int, reason: str) -> None:
        """End the connection with an application code."""

    def peer_certificate(self) -> bytes | None:
        """Return the DER bytes of the certificate that the server showed; None before, and for a server."""

    def authenticated(self) -> None:
        """The peer is proven: the wider bounds apply from now on."""


class EngineFactory(Protocol):
    """Makes the connections of one implementation."""

    def client(self) -> QuicEngine:
        """Return the dialling side of a new connection."""

    def server(self, certificate: Certificate, original_id: bytes, retry_id: bytes) -> QuicEngine:
        """Return the side that was dialled, after a retry from `original_id` to `retry_id`."""
