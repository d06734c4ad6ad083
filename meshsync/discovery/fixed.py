"""Addresses that the user wrote down."""

from __future__ import annotations

from collections.abc import Sequence

from meshsync.discovery.base import Found, Report
from meshsync.errors import ConfigError


class FixedAddresses:
    """Reports each configured address once, at start. Invariant: it announces nothing to anyone."""

    def __init__(self, addresses: Sequence[str]) -> None:
        """Take 'host:port' strings, IPv6 as '[ip]:port'. Raises ConfigError on any other form."""
        self._found = [Found((address,), parse_address(address)[1]) for address in addresses]

    async def start(self, report: Report) -> None:
        for found in self._found:
            report(found)

    async def announce(self, port: int, keys: Sequence[bytes]) -> None:
        """Do nothing: the other side has this address written down, or has not."""

    async def close(self) -> None:
        """Do nothing."""


def parse_address(text: str) -> tuple[str, int]:
    """Return (host, port) of 'host:port' or '[ip]:port'. Raises ConfigError."""
    host, colon, digits = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    port = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 5 else 0
    if bracketed:
        host = host[1:-1]
    if not colon or not host or not 1 <= port <= 0xFFFF or (":" in host) != bracketed or any(c.isspace() for c in host):
        raise ConfigError(f"not an address: {text[:80]!r}", next_step="Write HOST:PORT, for example 192.0.2.7:4433")
    return host, port
