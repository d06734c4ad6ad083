"""Bounds on what a peer may make an endpoint hold.

Invariant: a stranger costs at most HANDSHAKE_BYTES_MAX of input and a place among LINKS_UNAUTHENTICATED_MAX; anybody
costs at most UNDELIVERED_BYTES_MAX of bytes that arrived and did not become the next bytes of a stream.
"""

from __future__ import annotations

import ipaddress
from collections import Counter

from meshsync.errors import PeerOverran
from meshsync.limits import (
    HANDSHAKE_BYTES_MAX,
    LINKS_UNAUTHENTICATED_MAX,
    LINKS_UNAUTHENTICATED_PER_SOURCE_MAX,
    UNDELIVERED_BYTES_MAX,
    UNDELIVERED_FORGIVEN_BYTES_PER_S,
)
from meshsync.transport.packets import Address

_FORGIVEN_SHIFT = 2  # a quarter of the useful bytes, in either direction, as overhead: headers, acks, repeats


class ByteBalance:
    """Bytes received against bytes delivered, for one link: a leaky bucket that only useless bytes fill."""

    def __init__(self, now: float) -> None:
        self.received = 0
        self.delivered = 0
        self._level = 0.0
        self._then = now
        self._authenticated = False

    def authenticated(self) -> None:
        """The peer is proven: the bound of the handshake ends, the bucket starts empty."""
        self._authenticated = True
        self._level = 0.0

    def receive(self, size: int) -> None:
        """Count `size` bytes that arrived; raises PeerOverran, before they are parsed, if they are too many."""
        self.received += size
        if not self._authenticated:
            if self.received > HANDSHAKE_BYTES_MAX:
                raise PeerOverran(f"more than {HANDSHAKE_BYTES_MAX} bytes before the peer's proof")
            return
        self._level += size
        if self._level > UNDELIVERED_BYTES_MAX:
            raise PeerOverran(f"more than {UNDELIVERED_BYTES_MAX} bytes received that belong to no stream in order")

    def deliver(self, size: int) -> None:
        """Count `size` bytes that became the next bytes of a stream."""
        self.delivered += size
        self._level -= size + (size >> _FORGIVEN_SHIFT)
        if self._level < 0:
            self._level = 0.0

    def forgive(self, sent: int, now: float) -> None:
        """Account for the acknowledgements that `sent` bytes of ours cause, and for the time that passed."""
        self._level -= (sent >> _FORGIVEN_SHIFT) + (now - self._then) * UNDELIVERED_FORGIVEN_BYTES_PER_S
        self._then = now
        if self._level < 0:
            self._level = 0.0


class Admission:
    """Counts the links without a proof, in all and by source."""

    def __init__(self) -> None:
        self._sources: Counter[bytes] = Counter()
        self._total = 0

    def enter(self, address: Address) -> bool:
        """Take a place for a link from `address`; False if there is none. Pair with `leave`."""
        source = _source(address)
        if self._total >= LINKS_UNAUTHENTICATED_MAX or self._sources[source] >= LINKS_UNAUTHENTICATED_PER_SOURCE_MAX:
            return False
        self._sources[source] += 1
        self._total += 1
        return True

    def leave(self, address: Address) -> None:
        """Give the place back: the link is proven or over."""
        source = _source(address)
        self._total -= 1
        self._sources[source] -= 1
        if not self._sources[source]:
            del self._sources[source]

    def __len__(self) -> int:
        return self._total


def _source(address: Address) -> bytes:
    host = ipaddress.ip_address(address[0])
    if isinstance(host, ipaddress.IPv6Address):
        return host.ipv4_mapped.packed if host.ipv4_mapped else host.packed[:8]
    return host.packed
