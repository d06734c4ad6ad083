"""When each version of the folder was shown: by its authors' clocks, and by when its entries came to this device.

Invariant: of a version that the view may show, and of one of which no entry says that it was replaced or deleted,
nothing is said. Calls block for a large log.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from meshsync.agent.elapsed import Elapsed
from meshsync.agent.past import entries_of, linked_of, readable
from meshsync.agent.replica import Replica
from meshsync.content.record import Content, Drop, Kind, Op, Put
from meshsync.ids import Dot, dot
from meshsync.sync.moments import Moments
from meshsync.sync.retention import Life


@dataclass(frozen=True, slots=True)
class Lived:
    """A version that is over, by both clocks; the path where its author had it."""

    name: Dot
    content: Content
    path: tuple[bytes, ...]
    stated: Life
    seen: Life


@dataclass(slots=True)
class _Born:
    content: Content
    path: tuple[bytes, ...]
    made_s: int
    number: int
    ended_s: int = -1
    ended_number: int = 0


def lives(replica: Replica, elapsed: Elapsed, now_ns: int) -> Iterator[Lived]:
    """Yield the versions of files that are over, in causal order. Blocks."""
    moments, born = Moments(now_ns), {}
    for number, (entry, _) in enumerate(entries_of(replica), 1):
        batch = readable(replica, entry)
        made_s = moments.add(linked_of(entry), 0 if batch is None else batch.time_ns) // 1_000_000_000
        for index, op in enumerate(() if batch is None else batch.ops):
            if isinstance(op, Put) and op.content.kind is Kind.FILE:
                born[dot(entry.chain, entry.envelope.seq, index)] = _Born(op.content, op.path, made_s, number)
            for name in _ended(op):
                if name in born:
                    one = born[name]
                    one.ended_s, one.ended_number = max(one.ended_s, made_s), number
    for name, one in born.items():
        version = replica.view.version(name)
        if one.ended_number and version is not None and not version.live:
            seen = Life(elapsed.seen_s(one.number), elapsed.seen_s(one.ended_number))
            yield Lived(name, one.content, one.path, Life(one.made_s, one.ended_s), seen)


def _ended(op: Op) -> Iterator[Dot]:
    match op:
        case Put():
            yield from op.replaces
        case Drop():
            for item in op.items:
                yield from item.versions
        case _:
            pass
