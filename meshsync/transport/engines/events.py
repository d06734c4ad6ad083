"""The events that both engines report, which share aioquic's event classes by name.

Invariant: stream data, the one frequent event, is not routed here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from meshsync.transport.engines.base import EngineSink

ALPN: Final = "meshsync/1"
_TLS_ALERT_BASE: Final = 0x100  # RFC 9001 4.8: CRYPTO_ERROR + alert


def report(event: Any, sink: EngineSink) -> None:
    """Report `event`, of either engine and not stream data, to `sink`; kinds without meaning here are dropped."""
    handler = _HANDLERS.get(type(event).__name__)
    if handler is not None:
        handler(event, sink)


def _terminated(event: Any, sink: EngineSink) -> None:
    is_tls = _TLS_ALERT_BASE <= event.error_code < 2 * _TLS_ALERT_BASE and event.frame_type is not None
    sink.on_terminated(event.error_code & 0xFF if is_tls else event.error_code, is_tls, event.reason_phrase)


_HANDLERS: Final[dict[str, Callable[[Any, EngineSink], None]]] = {
    "HandshakeCompleted": lambda event, sink: sink.on_handshake_completed(),
    "StreamReset": lambda event, sink: sink.on_stream_reset(event.stream_id, event.error_code),
    "StopSendingReceived": lambda event, sink: sink.on_stop_sending(event.stream_id, event.error_code),
    "PingAcknowledged": lambda event, sink: sink.on_ping_acknowledged(event.uid),
    "ConnectionIdIssued": lambda event, sink: sink.on_connection_id(event.connection_id, True),
    "ConnectionIdRetired": lambda event, sink: sink.on_connection_id(event.connection_id, False),
    "ConnectionTerminated": _terminated,
}
