"""A QUIC endpoint: one UDP socket, any number of links dialled from and accepted at it.

Invariant: a stranger costs no state before it has shown, by a retry, that it receives at its address.
"""

from __future__ import annotations

import ipaddress
import socket
from functools import partial
from typing import Any

from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import ConfigError, MalformedMessage
from meshsync.runtime import Runtime
from meshsync.transport.base import Policy
from meshsync.transport.certificate import make_certificate
from meshsync.transport.endpoint import FirstPacket, LinkEndpoint
from meshsync.transport.engines.choice import engine_factory
from meshsync.transport.packets import CONNECTION_ID_SIZE_BYTES, Address, RetryTokens, encode_retry, parse_initial
from meshsync.transport.udp import UdpSocket


class QuicEndpoint(LinkEndpoint):
    """An `Endpoint` over UDP. Made by `open`."""

    _udp: UdpSocket
    _tokens: RetryTokens

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
        endpoint = cls(runtime, keys, engine_factory(engine), policy or Policy(), make_certificate())
        endpoint._tokens = RetryTokens(runtime.random_bytes(32))
        host, port = split_address(listen)
        endpoint._udp = endpoint._socket = UdpSocket.bind(host, port, endpoint.on_received, offload=offload)
        endpoint._udp.on_writable(endpoint.flush_all)
        return endpoint

    def _parse_first(self, datagram: bytes, address: Address) -> FirstPacket | None:
        initial = parse_initial(datagram)
        if initial is None:
            return None
        if not initial.token:
            source = self._runtime.random_bytes(CONNECTION_ID_SIZE_BYTES)
            token = self._tokens.make(address, initial.destination, source, self.now())
            self._udp.send([(encode_retry(initial, source, token), address)])
            return None
        try:
            original = self._tokens.check(address, initial.destination, initial.token, self.now())
        except MalformedMessage:
            return None
        return FirstPacket(original, initial.destination)

    async def _resolve(self, address: str) -> Address:
        host, port = split_address(address)
        family = self._udp.family
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
