"""Stamps: the total order in which the last writer wins.

Invariant: two operations never have equal stamps, and an operation's stamp is above those of all that it names.
Source: Lamport clocks with the device as tie-breaker (Lamport, CACM 1978); the dot orders operations of one entry.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from meshsync.ids import DeviceId, Dot


class Stamp(NamedTuple):
    """Lamport time, author, operation; compared in this order."""

    time: int
    device: DeviceId
    dot: Dot


FIRST: Final = Stamp(0, DeviceId(b""), Dot(b""))
"""Below every operation: the stamp of a placement that no operation made."""
