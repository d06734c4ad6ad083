"""Snapshots: the names that users gave to the folder as it was. The last writer of a name wins.

Invariant: a pure function of the set of entries, whatever their order of arrival.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meshsync.content.record import Mark, Op
from meshsync.ids import ChainId, DeviceId, EntryId, dot
from meshsync.sync.stamp import Stamp


@dataclass(frozen=True, slots=True)
class Marked:
    """What came before `entry` is called `name`. `time_ns` is its author's clock, for display."""

    name: bytes
    entry: EntryId
    device: DeviceId
    time_ns: int


class Marks:
    """Takes entries in any order."""

    def __init__(self) -> None:
        self._last: dict[bytes, tuple[Stamp, Marked | None]] = {}

    def take(
        self, entry: EntryId, device: DeviceId, chain: ChainId, seq: int, time: int, time_ns: int, ops: Sequence[Op]
    ) -> None:
        """Take one entry of `device`; `time` is its Lamport time."""
        for index, op in enumerate(ops):
            if isinstance(op, Mark):
                stamp, before = Stamp(time, device, dot(chain, seq, index)), self._last.get(op.name)
                if before is None or stamp > before[0]:
                    self._last[op.name] = stamp, Marked(op.name, entry, device, time_ns) if op.present else None

    def all(self) -> list[Marked]:
        """Return all snapshots, oldest first by stamp."""
        return [marked for _, marked in sorted(self._last.values(), key=lambda pair: pair[0]) if marked is not None]

    def find(self, name: bytes) -> Marked | None:
        """Return the snapshot of this name, None if there is none."""
        found = self._last.get(name)
        return None if found is None else found[1]
