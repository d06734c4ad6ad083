"""Which entries had been made by a moment, and which came before an entry: sets that hold the past of each member.

Invariant: an entry never counts as made before what it names, so what counts as made by a moment is a state that a
device could have shown. Clocks say only which such state is looked at; they decide nothing about the folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meshsync.ids import EntryId


@dataclass(frozen=True, slots=True)
class Linked:
    """An entry and the entries that it names: the one before it in its chain, and what its author had seen."""

    id: EntryId
    past: tuple[EntryId, ...]


class Moments:
    """Tells when entries count as made, in nanoseconds since 1970; they are given in causal order.

    That is by their author's clock, but never before anything of their past: a clock that is slow puts an entry right
    after what it followed. A time that is still to come says nothing but that the clock is fast, and counts as none.
    """

    def __init__(self, now_ns: int) -> None:
        self._now_ns = now_ns
        self._made: dict[EntryId, int] = {}

    def add(self, entry: Linked, time_ns: int) -> int:
        """Take the next entry, whose author's clock showed `time_ns`; return when it counts as made."""
        stated = time_ns if time_ns <= self._now_ns else 0
        made = max((self._made[name] for name in entry.past if name in self._made), default=0)
        self._made[entry.id] = max(made, stated)
        return self._made[entry.id]


def past_of(entries: Sequence[Linked], name: EntryId) -> set[EntryId]:
    """Return what came before the entry `name`: all that it names, and so on. `entries` are in causal order.

    Empty if it is not among them.
    """
    past: set[EntryId] = set()
    is_found = False
    for entry in reversed(entries):
        if entry.id == name:
            is_found = True
        if entry.id == name or (is_found and entry.id in past):
            past.update(entry.past)
    return past


def links(prev: bytes, seen: Iterable[EntryId]) -> tuple[EntryId, ...]:
    """Return what an entry names; `prev` is empty in a chain's first one."""
    return (*([EntryId(prev)] if prev else []), *seen)
