"""The folder's chains of entries: order of delivery, Lamport time, branches, and what a peer lacks. Pure.

Invariant: an entry is delivered after everything that its `prev` and `seen` name, exactly once, with a time that every
device computes alike, whatever the order of arrival (`semantics.md` 1.1 and 1.3).
Source: L. Lamport, "Time, clocks, and the ordering of events in a distributed system", CACM 1978.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from meshsync import limits
from meshsync.errors import MalformedMessage
from meshsync.ids import ChainId, DeviceId, EntryId, short
from meshsync.metalog.entry import OpenedEntry
from meshsync.metalog.fields import ChainHead
from meshsync.metalog.waiting import WaitingEntries


class Row(NamedTuple):
    """All that must be kept of a delivered entry. `prev` is empty in a chain's first entry."""

    device: DeviceId
    chain: ChainId
    seq: int
    id: EntryId
    prev: bytes
    time: int

    @property
    def head(self) -> ChainHead:
        """The entry's place."""
        return ChainHead(self.chain, self.seq, self.id)


@dataclass(frozen=True, slots=True)
class Delivered:
    """One entry whose whole past is delivered, and its Lamport time."""

    entry: OpenedEntry
    row: Row


@dataclass(frozen=True, slots=True)
class BranchAlarm:
    """`device` extended two or more branches (ids of their first entries) after `prev`: it equivocates.

    The branches' entries and their successors, all signed by the device, are the evidence. All of them stay applied.
    """

    device: DeviceId
    chain: ChainId
    prev: EntryId
    branches: tuple[EntryId, ...]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The entry was delivered, at `time`.

    `delivered` holds it first and then all that waited for it, in causal order. `refused` holds entries that waited and
    turned out to contradict the entries they name; they are dropped, and any device would refuse them.
    """

    time: int
    delivered: tuple[Delivered, ...]
    alarms: tuple[BranchAlarm, ...] = ()
    refused: tuple[OpenedEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The entry is delivered already, or waits already."""


@dataclass(frozen=True, slots=True)
class Missing:
    """The entry waits for `what`, which is neither delivered nor waiting; empty if all of it waits as well.

    `kept` is False if the buffer was full: then the entry must be sent again after its past.
    """

    what: tuple[ChainHead, ...]
    kept: bool


Outcome = Accepted | Duplicate | Missing


class ChainSet:
    """All chains of one folder. Not thread-safe."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        """Rebuild from the `rows` of all delivered entries, in any order.

        Rows may begin in the middle of a chain (a checkpoint's vector): then what lies before is known only by them.
        """
        self._rows: dict[EntryId, Row] = {}
        self._chains: dict[ChainId, list[Row]] = {}
        self._children: dict[EntryId, tuple[EntryId, ...]] = {}
        self._leaves: set[EntryId] = set()
        self._forks: dict[EntryId, None] = {}  # entries after which there are branches
        self._waiting = WaitingEntries()
        for row in sorted(rows, key=lambda row: (row.time, row.id)):
            self._insert(row)

    def without(self, entries: Collection[EntryId]) -> ChainSet:
        """Return the chains as they were before `entries` were delivered, on which no other delivered one builds.

        What waits is left out.
        """
        return ChainSet(row for row in self._rows.values() if row.id not in entries)

    def __contains__(self, entry: EntryId) -> bool:
        """Whether `entry` is delivered."""
        return entry in self._rows

    def __len__(self) -> int:
        """The number of delivered entries."""
        return len(self._rows)

    @property
    def waiting(self) -> int:
        """The number of entries that wait for their past."""
        return len(self._waiting)

    def row(self, entry: EntryId) -> Row | None:
        """Return what is kept of a delivered entry, or None."""
        return self._rows.get(entry)

    def rows(self, chain: ChainId) -> list[Row]:
        """Return the delivered entries of `chain` in order of delivery; of branches, all."""
        return list(self._chains.get(chain, ()))

    def accept(self, entry: OpenedEntry) -> Outcome:
        """Take a verified entry.

        Raises MalformedMessage, with nothing changed but that entries waiting for it are dropped, if it contradicts the
        entries that it names: another author or chain, or a sequence number that does not continue.
        """
        if entry.id in self._rows or entry.id in self._waiting:
            return Duplicate()
        lacking = {place.entry: place for place in entry.past() if place.entry not in self._rows}
        if lacking:
            kept = self._waiting.add(entry, set(lacking))
            what = tuple(sorted(place for id_, place in lacking.items() if id_ not in self._waiting))
            return Missing(what, kept)
        try:
            self._check_past(entry)
        except MalformedMessage:
            self._waiting.refuse(entry.id)
            raise
        return self._deliver(entry)

    def heads(self) -> list[ChainHead]:
        """Return the newest entry of every branch of every chain, in ascending order."""
        return sorted(self._rows[leaf].head for leaf in self._leaves)

    def alarms(self) -> list[BranchAlarm]:
        """Return one alarm for each entry after which a device extended two or more branches."""
        found = []
        for fork in self._forks:
            extended = self._extended(fork)
            if len(extended) > 1:
                row = self._rows[extended[0]]
                found.append(BranchAlarm(row.device, row.chain, fork, extended))
        return found

    def missing_for(self, peer_heads: Iterable[ChainHead], count_max: int = limits.HEADS_MAX) -> list[Row]:
        """Return the first `count_max` delivered entries, in causal order, that a peer with `peer_heads` lacks.

        Of a head that is unknown here only its sequence number is known: the peer is taken to have what lies before it
        on its chain. If it then meets a branch it does not know, it asks for the branch's past by id.
        """
        by_chain: dict[ChainId, list[ChainHead]] = {}
        for head in peer_heads:
            by_chain.setdefault(head.chain, []).append(head)
        lacking: list[Row] = []
        for chain, rows in self._chains.items():
            held = by_chain.get(chain)
            lacking += rows if held is None else self._beyond(rows, held)
        lacking.sort(key=lambda row: (row.time, row.id))
        return lacking[:count_max]

    def is_ancestor(self, older: EntryId, newer: EntryId) -> bool:
        """Whether `older` is `newer` or lies before it on its branch; False if either is not delivered."""
        target, row = self._rows.get(older), self._rows.get(newer)
        while target is not None and row is not None and row.seq > target.seq:
            row = self._rows.get(EntryId(row.prev))
        return target is not None and row == target

    def _beyond(self, rows: list[Row], held: list[ChainHead]) -> list[Row]:
        if len(rows) == rows[-1].seq - rows[0].seq + 1:  # no branches
            start = max(head.seq + (head.entry in self._rows) for head in held)
            return rows[max(0, start - rows[0].seq) :]
        have: set[EntryId] = set()
        unknown_seq = 0
        for head in held:
            row = self._rows.get(head.entry)
            if row is None:
                unknown_seq = max(unknown_seq, head.seq)
            while row is not None and row.id not in have:
                have.add(row.id)
                row = self._rows.get(EntryId(row.prev))
        return [row for row in rows if row.id not in have and row.seq >= unknown_seq]

    def _check_past(self, entry: OpenedEntry) -> None:
        for place in entry.past():
            row = self._rows[place.entry]
            if (row.chain, row.seq) != (place.chain, place.seq):
                raise MalformedMessage(
                    f"entry {short(entry.id)} misplaces the entry {short(row.id)}", device=short(entry.device)
                )
        prev = self._rows.get(EntryId(entry.envelope.prev))
        if prev is not None and prev.device != entry.device:
            raise MalformedMessage(
                f"entry {short(entry.id)} continues a chain of device {short(prev.device)}", device=short(entry.device)
            )

    def _deliver(self, first: OpenedEntry) -> Accepted:
        delivered: list[Delivered] = []
        alarms: list[BranchAlarm] = []
        refused: list[OpenedEntry] = []
        ready = deque([first])
        while ready:
            entry = ready.popleft()
            try:
                self._check_past(entry)
            except MalformedMessage:
                refused += [entry, *self._waiting.refuse(entry.id)]
                continue
            time = 1 + max((self._rows[place.entry].time for place in entry.past()), default=0)
            row = Row(entry.device, entry.chain, entry.envelope.seq, entry.id, entry.envelope.prev, time)
            alarms += self._insert(row)
            delivered.append(Delivered(entry, row))
            ready.extend(self._waiting.resolve(entry.id))
        return Accepted(delivered[0].row.time, tuple(delivered), tuple(alarms), tuple(refused))

    def _insert(self, row: Row) -> list[BranchAlarm]:
        self._rows[row.id] = row
        self._leaves.add(row.id)
        self._leaves.discard(EntryId(row.prev))
        self._chains.setdefault(row.chain, []).append(row)
        if not row.prev:
            return []
        prev = EntryId(row.prev)
        siblings = self._children.get(prev, ())
        self._children[prev] = (*siblings, row.id)
        if siblings:
            self._forks[prev] = None
        parent = self._rows.get(prev)
        if siblings or parent is None or not parent.prev:
            return []
        return self._alarm(row, EntryId(parent.prev))

    def _alarm(self, row: Row, fork: EntryId) -> list[BranchAlarm]:
        """`row` extends a branch after `fork`: alarm if another branch there is extended too."""
        extended = self._extended(fork)
        return [BranchAlarm(row.device, row.chain, fork, extended)] if len(extended) > 1 else []

    def _extended(self, fork: EntryId) -> tuple[EntryId, ...]:
        return tuple(sorted(child for child in self._children.get(fork, ()) if child in self._children))
