"""What the rest of the product sees of a transport: links between devices, streams on a link, endpoints.

Invariant: a link is authenticated when its caller gets it; `Link.peer` is proven. Every implementation passes
`tests/contracts/`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from meshsync.ids import DeviceId


class Priority(enum.IntEnum):
    """Which streams of a link go first when several have data queued."""

    INTERACTIVE = 0  # heads, entries, acknowledgements, questions
    BULK = 1  # chunks, blobs


class CloseCode(enum.IntEnum):
    """Error codes of a closed link and a reset stream, as the peer sees them."""

    NORMAL = 0
    PROTOCOL = 1  # malformed or unexpected bytes
    OVERRAN = 2  # more than was asked for
    TIMEOUT = 3
    REFUSED = 4  # identity or authorisation
    CANCELLED = 5  # the stream's user lost interest


def _no_keys() -> Iterable[bytes]:
    return ()


def _nobody(device: DeviceId) -> str | None:
    return "unknown"


def _silent() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Policy:
    """The decisions that an endpoint asks its owner for, at each incoming link.

    `speaks_first()`: whether to prove this device to anyone who asks (a relay, an agent that is pairing).
    `discovery_keys()`: keys of the folders whose members may ask for this device's proof, 32 bytes each.
    `authorize(device)`: None to accept a proven device; otherwise why not: "busy", or any other word for unknown.
    """

    speaks_first: Callable[[], bool] = _silent
    discovery_keys: Callable[[], Iterable[bytes]] = _no_keys
    authorize: Callable[[DeviceId], str | None] = _nobody


class Stream(Protocol):
    """An ordered, reliable byte stream in both directions. One task sends and one receives at a time."""

    priority: Priority
    """Of this side's bytes. The side that accepted a stream sets it; it starts as BULK there."""

    async def send(self, data: bytes) -> None:
        """Queue `data`; wait while more than STREAM_SEND_BUFFER bytes of this stream are unsent.

        Raises LinkClosed if the link ended or the peer stopped reading; `data` may have been sent in part.
        """

    async def receive(self) -> bytes:
        """Return the next bytes, at least one, or b"" at the end of the stream.

        Raises LinkClosed if the link ended or the peer reset the stream, the link's own error if it failed here.
        """

    async def finish(self) -> None:
        """End the sending direction after what was queued. More `send` is a mistake of the caller."""

    def reset(self, code: int) -> None:
        """Drop both directions at once; the peer's `send` and `receive` raise LinkClosed. Idempotent."""


class Link(Protocol):
    """An authenticated connection to one device."""

    @property
    def peer(self) -> DeviceId:
        """The device at the other end, proven."""

    @property
    def binding(self) -> bytes:
        """32 bytes that name this link alike at both ends and no other link: a hash of all that the proofs signed."""

    @property
    def address(self) -> str:
        """Where the peer is, "host:port"."""

    @property
    def rtt_s(self) -> float | None:
        """The last measured round trip in seconds; None before the first."""

    @property
    def bytes_sent(self) -> int:
        """Bytes put on the network for this link, headers of the transport included."""

    @property
    def bytes_received(self) -> int:
        """Bytes taken from the network for this link, headers of the transport included."""

    async def open_stream(self, priority: Priority) -> Stream:
        """Return a new stream; wait while STREAMS_MAX opened here are unfinished. Raises LinkClosed.

        The peer sees the stream when the first bytes or the end are sent.
        """

    async def accept_stream(self) -> Stream:
        """Return the next stream that the peer opened. Raises LinkClosed, or the link's own error if it failed here."""

    def close(self, reason: str) -> None:
        """End the link at once; `reason` is shown at the peer. What was queued may be lost. Idempotent."""

    async def wait_closed(self) -> None:
        """Return when the link has ended, for whatever reason."""


Recognise = Callable[[DeviceId], bool]
"""Whether the device that answered is one that this side wants to be known to."""


class Endpoint(Protocol):
    """Where links start and arrive."""

    @property
    def port(self) -> int:
        """The UDP port, 1 to 65535."""

    async def dial(
        self,
        address: str,
        *,
        expect: DeviceId | None,
        discovery_key: bytes | None,
        timeout_s: float,
        recognise: Recognise | None = None,
    ) -> Link:
        """Return a link to the device at `address` ("host:port", "[v6]:port").

        `expect`: the only device that may answer; None for any that `recognise` knows, or for whoever does where
        that is None too. `discovery_key`: of a folder thought to be shared, None if the peer speaks first. Raises
        PeerTimeout after `timeout_s`, PeerIdentityMismatch if another answers (nothing was proven to it), NotAMember if
        the peer refuses this device, LinkClosed, ConfigError on a bad address.
        """

    async def accept(self) -> Link:
        """Return the next link that a peer dialled and both sides proved. Raises LinkClosed once closed."""

    async def close(self) -> None:
        """Close every link and release the port. Idempotent."""
