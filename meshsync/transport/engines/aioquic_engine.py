"""The `aioquic` engine behind a guard.

Invariant: a frame that starts far beyond the delivered bytes is refused before aioquic makes room for the gap: its
reassembly buffers are as long as the farthest byte, and its receive windows double as offsets, not bytes, arrive. The
guard overrides two frame handlers of aioquic; the tests of `tests/transport/` hold them to what they must refuse.
"""

from __future__ import annotations

import logging
import ssl
from typing import Any

from aioquic.buffer import Buffer, BufferReadError  # type: ignore[attr-defined]
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection, QuicConnectionError, QuicReceiveContext
from aioquic.quic.packet import QuicErrorCode, QuicProtocolVersion
from aioquic.tls import load_pem_private_key, load_pem_x509_certificates
from cryptography.hazmat.primitives.serialization import Encoding

from meshsync.errors import LinkClosed, MalformedMessage, PeerOverran
from meshsync.limits import (
    DATAGRAM_BYTES,
    HANDSHAKE_BYTES_MAX,
    LINK_IDLE_TIMEOUT_S,
    LINK_WINDOW_BYTES,
    RECEIVE_GAP_BYTES_MAX,
    RECEIVE_GAP_BYTES_MAX_UNAUTHENTICATED,
    RECEIVE_GAP_LINK_BYTES_MAX,
    STREAM_WINDOW_BYTES,
)
from meshsync.transport.certificate import SERVER_NAME, Certificate
from meshsync.transport.engines.base import EngineSink
from meshsync.transport.engines.events import ALPN, report
from meshsync.transport.packets import CONNECTION_ID_SIZE_BYTES, Address


class _GuardedConnection(QuicConnection):
    """Refuses gaps. Everything else is aioquic's."""

    gap_bytes_max = RECEIVE_GAP_BYTES_MAX_UNAUTHENTICATED
    gap_link_bytes_max = RECEIVE_GAP_BYTES_MAX_UNAUTHENTICATED
    refusal = ""

    def _handle_crypto_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        start = buf.tell()
        offset, length = buf.pull_uint_var(), buf.pull_uint_var()
        if offset + length > HANDSHAKE_BYTES_MAX:
            raise self._refuse(QuicErrorCode.CRYPTO_BUFFER_EXCEEDED, frame_type, "the handshake is too long")
        buf.seek(start)
        super()._handle_crypto_frame(context, frame_type, buf)

    def _handle_stream_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        if frame_type & 4:  # without an offset field the frame starts at 0
            start = buf.tell()
            stream_id, offset = buf.pull_uint_var(), buf.pull_uint_var()
            buf.seek(start)
            stream = self._streams.get(stream_id)
            delivered = 0 if stream is None else stream.receiver.starting_offset()
            if offset > delivered:
                self._check_gap(offset - delivered, frame_type)
        super()._handle_stream_frame(context, frame_type, buf)

    def _check_gap(self, gap: int, frame_type: int) -> None:
        held = sum(len(stream.receiver._buffer) for stream in self._streams.values())
        if gap > self.gap_bytes_max or held > self.gap_link_bytes_max:
            raise self._refuse(
                QuicErrorCode.FLOW_CONTROL_ERROR, frame_type, "a frame too far beyond what was delivered"
            )

    def _refuse(self, code: QuicErrorCode, frame_type: int, reason: str) -> QuicConnectionError:
        self.refusal = reason
        return QuicConnectionError(code, frame_type, reason)


def _configuration(is_client: bool) -> QuicConfiguration:
    return QuicConfiguration(
        alpn_protocols=[ALPN],
        congestion_control_algorithm="cubic",
        connection_id_length=CONNECTION_ID_SIZE_BYTES,
        idle_timeout=LINK_IDLE_TIMEOUT_S,
        is_client=is_client,
        max_data=LINK_WINDOW_BYTES,
        max_stream_data=STREAM_WINDOW_BYTES,
        max_datagram_size=DATAGRAM_BYTES,
        server_name=SERVER_NAME,
        supported_versions=[QuicProtocolVersion.VERSION_1],
        verify_mode=ssl.CERT_NONE,
    )


class AioquicEngine:
    """One guarded aioquic connection as a `QuicEngine`."""

    def __init__(self, connection: _GuardedConnection) -> None:
        self._quic = connection
        self.connection_id: bytes = connection.host_cid

    @classmethod
    def client(cls) -> AioquicEngine:
        """Return the dialling side."""
        return cls(_GuardedConnection(configuration=_configuration(is_client=True)))

    @classmethod
    def server(cls, certificate: Certificate, original_id: bytes, retry_id: bytes) -> AioquicEngine:
        """Return the side that was dialled, after a retry from `original_id` to `retry_id`."""
        configuration = _configuration(is_client=False)
        configuration.certificate = load_pem_x509_certificates(certificate.certificate_pem)[0]
        configuration.private_key = load_pem_private_key(certificate.key_pem)
        return cls(
            _GuardedConnection(
                configuration=configuration,
                original_destination_connection_id=original_id,
                retry_source_connection_id=retry_id,
            )
        )

    def connect(self, address: Address, now: float) -> None:
        self._quic.connect(address, now)

    def receive(self, datagrams: list[bytes], address: Address, now: float) -> None:
        try:
            for data in datagrams:
                self._quic.receive_datagram(data, address, now)
        except (QuicConnectionError, BufferReadError, ValueError) as error:
            raise MalformedMessage(f"the QUIC engine refuses a packet: {error}") from error
        if self._quic.refusal:
            raise PeerOverran(self._quic.refusal)

    def receive_segments(self, buffer: bytes, segment_size: int, address: Address, now: float) -> None:
        self.receive(
            [buffer[start : start + segment_size] for start in range(0, len(buffer), segment_size)], address, now
        )

    def deliver(self, sink: EngineSink) -> None:
        while (event := self._quic.next_event()) is not None:
            if isinstance(event, events.StreamDataReceived):
                sink.on_stream_data(event.stream_id, event.data, event.end_stream)
            else:
                report(event, sink)

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        datagrams: list[tuple[bytes, Address]] = self._quic.datagrams_to_send(now)
        return datagrams

    def timer(self) -> float | None:
        return self._quic.get_timer()

    def handle_timer(self, now: float) -> None:
        self._quic.handle_timer(now)

    def send(self, stream_id: int, data: bytes | memoryview, end: bool) -> None:
        try:
            self._quic.send_stream_data(stream_id, bytes(data), end)
        except (ValueError, RuntimeError) as error:
            raise LinkClosed("the stream cannot send any more") from error

    def can_open(self, stream_id: int) -> bool:
        return stream_id // 4 < self._quic._remote_max_streams_bidi

    def unsent_bytes(self) -> int:
        return sum(stream.sender._buffer_stop - stream.sender.highest_offset for stream in self._quic._streams.values())

    def reset(self, stream_id: int, code: int) -> None:
        give_ups: tuple[Any, ...] = (self._quic.reset_stream, self._quic.stop_stream)
        for give_up in give_ups:
            try:
                give_up(stream_id, code)
            except ValueError:
                continue  # that direction is over already

    def ping(self, uid: int) -> None:
        self._quic.send_ping(uid)

    def close(self, code: int, reason: str) -> None:
        self._quic.close(code, None, reason)

    def peer_certificate(self) -> bytes | None:
        certificate = self._quic.tls._peer_certificate
        return None if certificate is None else certificate.public_bytes(Encoding.DER)

    def authenticated(self) -> None:
        self._quic.gap_bytes_max = RECEIVE_GAP_BYTES_MAX
        self._quic.gap_link_bytes_max = RECEIVE_GAP_LINK_BYTES_MAX


logging.getLogger("quic").setLevel(logging.ERROR)  # closes and losses are events here, not news
