"""Lets go, at a relay, of versions that the folder's policy keeps no longer. An owner's device does it.

Invariant: nothing is let go of that is shown, that a snapshot names, that the policy keeps by its authors' clocks or by
the time that passed here, or of which this device cannot tell; and what a retire record takes that the policy has come
to keep again is taken back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from meshsync.agent.elapsed import Elapsed
from meshsync.agent.history import unpack_content
from meshsync.agent.lives import Lived, lives
from meshsync.agent.past import before, views
from meshsync.agent.replica import Replica
from meshsync.agent.stored_parts import pieces_of
from meshsync.content.record import Content
from meshsync.content.stored_list import StoredItem, open_stored_list
from meshsync.errors import AccessError, IntegrityError, MalformedMessage
from meshsync.ids import ChunkId, DeviceId, Dot, RecordId
from meshsync.index.chunk_rows import ChunkRows
from meshsync.index.relay_rows import RelayRows
from meshsync.index.retire_rows import RetireRows
from meshsync.limits import RETIRE_RECORDS_MAX, STORED_DOTS_MAX, VIEWS_AT_ONCE_MAX
from meshsync.metalog.retention_policy import RetentionPolicy
from meshsync.metalog.retire import open_retire
from meshsync.metalog.stored import StoredRecord, read_stored
from meshsync.sync.retention import keeps
from meshsync.sync.view import View


@dataclass(frozen=True, slots=True)
class Narrowed:
    """A stored record that is to be replaced by one that speaks of `dots` only, and lists `items`."""

    dots: tuple[Dot, ...]
    items: Mapping[ChunkId, StoredItem]


@dataclass(slots=True)
class Step:
    """What one retire record says: `dots` go, and of `records` nothing is kept once each of `narrowed` is stored."""

    dots: list[Dot] = field(default_factory=list)
    records: list[RecordId] = field(default_factory=list)
    narrowed: list[Narrowed] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Over:
    """What a policy keeps no longer: `by_dates` by the dates of the authors and this device's clock; `go` as surely as
    it can be known here. Who is new in a folder lets go of little, and takes back nothing because of that.
    """

    go: dict[Dot, Lived]
    by_dates: frozenset[Dot]


def to_let_go(replica: Replica, policy: RetentionPolicy, elapsed: Elapsed, now_ns: int) -> Over:
    """Return the versions that `policy` keeps no longer at `now_ns`, nanoseconds since 1970. Blocks."""
    elapsed.mark(replica.log_rows.count_entries())
    if policy.keeps_everything:
        return Over({}, frozenset())
    passed_s = elapsed.passed_s()
    now_s, lived = lives(replica, elapsed, now_ns)
    over = {one.name: one for one in lived if not keeps(policy, one.stated, now_ns // 1_000_000_000)}
    named = sorted({mark.entry for mark in replica.marks.all()})
    while over and named:
        some, named = named[:VIEWS_AT_ONCE_MAX], named[VIEWS_AT_ONCE_MAX:]
        for view in views(replica, *(before(replica, entry) for entry in some)):
            for name in _shown(view):
                over.pop(name, None)
    go = {
        name: one
        for name, one in over.items()
        if not keeps(policy, one.stated, now_s) and not keeps(policy, one.seen, passed_s)
    }
    return Over(go, frozenset(over))


def _shown(view: View) -> Iterator[Dot]:
    for _, shown in view.walk():
        for face in shown.faces:
            yield from face.versions


class LettingGo:
    """Plans for one folder at one relay. Blocking."""

    def __init__(self, relay: DeviceId, replica: Replica, relay_rows: RelayRows, chunks: ChunkRows) -> None:
        self._relay, self._replica, self._relay_rows, self._chunks = relay, replica, relay_rows, chunks
        self._rows = RetireRows(replica.database)

    def to_cancel(self, over: Collection[Dot]) -> list[RecordId]:
        """Return the retire records that wait and take away a version that is not in `over`."""
        return [name for name, dots in self.waiting().items() if not all(dot in over for dot in dots)]

    def waiting(self) -> dict[RecordId, set[Dot]]:
        """Return which versions each retire record takes away that waits: those it names, and those that no stored
        record speaks of that would be left.
        """
        stored = {name: read_stored(data) for name, data in self._relay_rows.stored_at(self._relay)}
        retires = {row.id: open_retire(row.data, self._replica.folder) for row in self._rows.waiting(self._relay)}
        dying = {RecordId(name) for retire in retires.values() for name in retire.records}
        kept = {dot for name, record in stored.items() if name not in dying for dot in record.dots}
        found = {}
        for name, retire in retires.items():
            records = (stored[RecordId(each)] for each in retire.records if RecordId(each) in stored)
            left = {Dot(dot) for record in records for dot in record.dots if dot not in kept}
            found[name] = left.union(Dot(dot) for dot in retire.dots)
        return found

    def steps(self, over: Mapping[Dot, Lived]) -> list[Step]:
        """Return how to let go of the versions `over`; what waits to be let go of is not named again."""
        folder = self._replica.folder
        records = {name: read_stored(data) for name, data in self._relay_rows.stored_at(self._relay)}
        waiting: set[RecordId] = set()
        for row in self._rows.waiting(self._relay):
            waiting.update(RecordId(name) for name in open_retire(row.data, folder).records)
        steps = [Step()]
        dying: set[RecordId] = set(waiting)
        for name, record in sorted(records.items()):
            dots = [Dot(dot) for dot in record.dots if dot in over]
            if not dots or name in waiting:
                continue
            narrowed = self._narrowed(record, over)
            if narrowed is None:
                continue
            if len(steps[-1].dots) + len(dots) > STORED_DOTS_MAX or len(steps[-1].records) >= RETIRE_RECORDS_MAX // 2:
                steps.append(Step())
            steps[-1].dots += dots
            steps[-1].records.append(name)
            steps[-1].narrowed += narrowed
            dying.add(name)
        for part in _parts_of(records, dying) - waiting:
            if len(steps[-1].records) >= RETIRE_RECORDS_MAX:
                steps.append(Step())
            steps[-1].records.append(part)
        return [step for step in steps if step.records]

    def _narrowed(self, record: StoredRecord, over: Collection[Dot]) -> list[Narrowed] | None:
        """Return what takes the place of a record some of whose versions go; None if it is better kept as it is."""
        kept = tuple(Dot(dot) for dot in record.dots if dot not in over)
        if not kept:
            return []
        if record.parts:
            return None
        try:
            listed = open_stored_list(self._replica.keys, record.blobs, record.sealed) if record.sealed else []
        except (AccessError, IntegrityError, MalformedMessage):
            return None
        items = {item.chunk: item for item in listed if item.base is None}
        needed: dict[ChunkId, StoredItem] = {}
        for name in kept:
            content = self._content(name)
            pieces = None if content is None else pieces_of(content, self._chunks.list_bytes)
            if pieces is None or any(piece.chunk not in items for piece in pieces):
                return None
            needed |= {piece.chunk: items[piece.chunk] for piece in pieces}
        if len({item.blob for item in needed.values()}) == len(record.blobs):
            return None
        return [Narrowed(kept, needed)]

    def _content(self, name: Dot) -> Content | None:
        version = self._replica.versions.get(name)
        return None if version is None else unpack_content(version.content)


def _parts_of(records: Mapping[RecordId, StoredRecord], dying: Collection[RecordId]) -> set[RecordId]:
    """Return the parts that only records in `dying` rest on."""
    needed = _below(records, [name for name, record in records.items() if record.dots and name not in dying])
    return _below(records, list(dying)) - needed - set(dying)


def _below(records: Mapping[RecordId, StoredRecord], tops: Sequence[RecordId]) -> set[RecordId]:
    found: set[RecordId] = set()
    waiting = list(tops)
    while waiting:
        name = waiting.pop()
        if name not in found and name in records:
            found.add(name)
            waiting += (RecordId(part) for part in records[name].parts)
    return found
