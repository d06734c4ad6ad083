"""The `qh3` engine: Rust packet core under aioquic's sans-IO interface. Only its public interface is used.

Invariant: no ticket is issued or taken, no 0-RTT, no DATAGRAM frames; the certificate is not checked against any
authority, because the proofs of `wire/session.py` bind to it, but the server's possession of its key is.
"""

from __future__ import annotations

import contextlib
import logging
import ssl

from qh3.quic import events
from qh3.quic.configuration import QuicConfiguration
from qh3.quic.connection import QuicConnection, QuicConnectionError

from meshsync.errors import LinkClosed, MalformedMessage
from meshsync.limits import (
    DATAGRAM_BYTES,
    LINK_IDLE_TIMEOUT_S,
    LINK_WINDOW_BYTES,
    STREAM_WINDOW_BYTES,
)
from meshsync.transport.certificate import SERVER_NAME, Certificate
from meshsync.transport.engines.base import EngineSink
from meshsync.transport.engines.events import ALPN, report
from meshsync.transport.packets import CONNECTION_ID_SIZE_BYTES, Address


def _configuration(is_client: bool) -> QuicConfiguration:
    return QuicConfiguration(
        alpn_protocols=[ALPN],
        connection_id_length=CONNECTION_ID_SIZE_BYTES,
        idle_timeout=LINK_IDLE_TIMEOUT_S,
        is_client=is_client,
        max_data=LINK_WINDOW_BYTES,
        max_stream_data=STREAM_WINDOW_BYTES,
        max_datagram_size=DATAGRAM_BYTES,
        max_datagram_frame_size=0,
        probe_datagram_size=False,
        server_name=SERVER_NAME,
        verify_mode=ssl.CERT_NONE,
        verify_hostname=False,
    )


class Qh3Engine:
    """One qh3 connection as a `QuicEngine`."""

    def __init__(self, connection: QuicConnection) -> None:
        self._quic = connection
        self.connection_id: bytes = connection.host_cid

    @classmethod
    def client(cls) -> Qh3Engine:
        """Return the dialling side."""
        return cls(QuicConnection(configuration=_configuration(is_client=True)))

    @classmethod
    def server(cls, certificate: Certificate, original_id: bytes, retry_id: bytes) -> Qh3Engine:
        """Return the side that was dialled, after a retry from `original_id` to `retry_id`."""
        configuration = _configuration(is_client=False)
        configuration.load_cert_chain(certificate.certificate_pem, certificate.key_pem)
        return cls(
            QuicConnection(
                configuration=configuration,
                original_destination_connection_id=original_id,
                retry_source_connection_id=retry_id,
            )
        )

    def connect(self, address: Address, now: float) -> None:
        self._quic.connect(address, now)

    def receive(self, datagrams: list[bytes], address: Address, now: float) -> None:
        try:
            self._quic.receive_many_datagrams(datagrams, address, now)
        except (QuicConnectionError, ValueError) as error:
            raise MalformedMessage(f"the QUIC engine refuses a packet: {error}") from error

    def receive_segments(self, buffer: bytes, segment_size: int, address: Address, now: float) -> None:
        try:
            self._quic.receive_gro_buffer(buffer, segment_size, address, now)
        except (QuicConnectionError, ValueError) as error:
            raise MalformedMessage(f"the QUIC engine refuses a packet: {error}") from error

    def deliver(self, sink: EngineSink) -> None:
        next_event = self._quic.next_event
        while (event := next_event()) is not None:
            if type(event) is events.StreamDataReceived:
                sink.on_stream_data(event.stream_id, event.data, event.end_stream)
            else:
                report(event, sink)

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        return self._quic.datagrams_to_send(now)

    def timer(self) -> float | None:
        return self._quic.get_timer()

    def handle_timer(self, now: float) -> None:
        self._quic.handle_timer(now)

    def send(self, stream_id: int, data: bytes | memoryview, end: bool) -> None:
        try:
            self._quic.send_stream_data(stream_id, data, end)
        except QuicConnectionError as error:
            raise LinkClosed("the stream cannot send any more") from error

    def can_open(self, stream_id: int) -> bool:
        return self._quic.open_outbound_streams < self._quic.max_concurrent_bidi_streams

    def unsent_bytes(self) -> int:
        return self._quic.get_send_buffer_size()

    def reset(self, stream_id: int, code: int) -> None:
        for give_up in (self._quic.reset_stream, self._quic.stop_stream):
            try:
                give_up(stream_id, code)
            except (QuicConnectionError, ValueError):
                continue  # that direction is over already

    def ping(self, uid: int) -> None:
        with contextlib.suppress(QuicConnectionError):  # the peer ended it; its event comes when the draining is over
            self._quic.send_ping(uid)

    def close(self, code: int, reason: str) -> None:
        self._quic.close(code, None, reason)

    def peer_certificate(self) -> bytes | None:
        certificate = self._quic.get_peercert()
        return None if certificate is None else certificate.public_bytes()

    def authenticated(self) -> None:
        pass  # its reassembly costs what was received, which the shell counts


logging.getLogger("quic").setLevel(logging.ERROR)  # it warns at every close by a peer, which is an event here
