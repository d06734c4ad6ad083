"""What every way of finding devices has in common.

Invariant: what is found is a hint, perhaps stale, forged or about oneself: only a link's handshake says who is there.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias


@dataclass(frozen=True, slots=True)
class Found:
    """A device may be at `addresses` ('ip:port', IPv6 as '[ip]:port', or 'name:port' from the user), all of one `port`.

    `tags` (8 bytes each) and `nonce` (8 bytes) are as announced: `tags.match_tags` tells who it says it is. Both are
    empty where the source says nothing about who is there.
    """

    addresses: tuple[str, ...]
    port: int
    tags: tuple[bytes, ...] = ()
    nonce: bytes = b""


class Reason(enum.Enum):
    """Why an announcement is ignored."""

    NO_ANSWER = "it did not answer in time"
    NO_ADDRESS = "it names no address that can be dialled"
    MALFORMED = "its text record is malformed"
    OTHER_VERSION = "it speaks another version"
    TOO_MANY = "too many announcements at once"


@dataclass(frozen=True, slots=True)
class Ignored:
    """An announcement was ignored. `source` is its instance name, at most 64 printable characters."""

    source: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Unavailable:
    """This way of finding devices does not work on this machine now; `why` is one sentence for the user."""

    why: str


Event: TypeAlias = Found | Ignored | Unavailable
Report: TypeAlias = Callable[[Event], None]


class Discovery(Protocol):
    """One way of finding devices, and of being found. Its methods are called from one task, in this order."""

    async def start(self, report: Report) -> None:
        """Begin to report, on the caller's loop, until `close`. What cannot work is reported, not raised."""

    async def announce(self, port: int, keys: Sequence[bytes]) -> None:
        """Be found at `port` by whoever holds one of `keys` (32 bytes each). Replaces the last announcement.

        Keys beyond DISCOVERY_TAGS_MAX are left out, last ones first. Call again whenever keys change.
        """

    async def close(self) -> None:
        """Withdraw the announcement and stop reporting. Nothing is reported afterwards."""
