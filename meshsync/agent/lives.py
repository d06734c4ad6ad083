"""When each version of the folder was shown: by its authors' clocks, and by when its entries came to this device.

Invariant: of a version that the view may show, and of one of which no entry says that it was replaced or deleted,
nothing is said. Calls block for a large log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from meshsync.agent.elapsed import Elapsed
from meshsync.agent.past import entries_of, linked_of, readable
from meshsync.agent.replica import Replica
from meshsync.content.record import Content, Drop, Kind, Op, Put
from meshsync.ids import Dot, dot
from meshsync.sync.moments import Moments
from meshsync.sync.retention import Life

_NS = 1_000_000_000


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
    undated: int = 0  # the last entry that ended it at a time which is still to come


def lives(replica: Replica, elapsed: Elapsed, now_ns: int) -> tuple[int, list[Lived]]:
    """Return what time it surely is, in seconds since 1970, and the versions of files that are over, in causal order.

    That is no later than the newest entry tells, and what has passed since it came: a clock here that is ahead makes
    nothing old. What a clock that is ahead has ended, or one here that is behind takes for that, ended when the entry
    came here. Blocks.
    """
    moments, born, newest_s = Moments(now_ns), dict[Dot, _Born](), -1
    for number, (entry, _) in enumerate(entries_of(replica), 1):
        batch = readable(replica, entry)
        stated_ns = 0 if batch is None else batch.time_ns
        made_s = moments.add(linked_of(entry), stated_ns) // _NS
        is_dated = stated_ns <= now_ns
        if is_dated:
            newest_s = max(newest_s, stated_ns // _NS + elapsed.passed_s() - elapsed.seen_s(number))
        for index, op in enumerate(() if batch is None else batch.ops):
            if isinstance(op, Put) and op.content.kind is Kind.FILE:
                born[dot(entry.chain, entry.envelope.seq, index)] = _Born(op.content, op.path, made_s, number)
            for name in _ended(op):
                if name in born:
                    one = born[name]
                    one.ended_s, one.ended_number = max(one.ended_s, made_s), number
                    one.undated = one.undated if is_dated else number
    now_s = now_ns // _NS if newest_s < 0 else min(now_ns // _NS, newest_s)
    return now_s, list(_over(replica, elapsed, born, now_ns // _NS))


def _over(replica: Replica, elapsed: Elapsed, born: Mapping[Dot, _Born], now_s: int) -> Iterator[Lived]:
    for name, one in born.items():
        version = replica.view.version(name)
        if one.ended_number and version is not None and not version.live:
            seen = Life(elapsed.seen_s(one.number), elapsed.seen_s(one.ended_number))
            came_s = now_s - elapsed.passed_s() + elapsed.seen_s(one.undated) if one.undated else -1
            yield Lived(name, one.content, one.path, Life(one.made_s, max(one.ended_s, came_s)), seen)


def _ended(op: Op) -> Iterator[Dot]:
    match op:
        case Put():
            yield from op.replaces
        case Drop():
            for item in op.items:
                yield from item.versions
        case _:
            pass
