"""What came before a version: which contents, and under which names.

Invariant: the answer depends on the set of versions only; it is bounded by the newest ANCESTORS_MAX.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from meshsync.content.record import Content
from meshsync.ids import Dot, NodeId
from meshsync.limits import ANCESTORS_MAX
from meshsync.sync.node import Version

Put = tuple[Content, NodeId, bytes]


class Past(NamedTuple):
    """What a version with `content` came after: which versions, and what they held where."""

    content: Content
    dots: frozenset[Dot]
    puts: frozenset[Put]


def ancestors(version: Version, known: Mapping[Dot, Version]) -> Iterator[Version]:
    """Yield the ANCESTORS_MAX newest versions that `version` directly or indirectly replaced, newest first."""
    found = {version.dot}
    edge: list[tuple[tuple[int, bytes, bytes], Version]] = []
    for _ in range(ANCESTORS_MAX):
        for name in version.replaces:
            earlier = known.get(name)
            if earlier is not None and name not in found:
                found.add(name)
                heapq.heappush(edge, (_newest_first(earlier), earlier))
        if not edge:
            return
        version = heapq.heappop(edge)[1]
        yield version


def ancestor_puts(version: Version, known: Mapping[Dot, Version]) -> set[Put]:
    """Return what the `ancestors` held, and where."""
    return {put_of(earlier) for earlier in ancestors(version, known)}


def past_of(version: Version, known: Mapping[Dot, Version]) -> Past:
    """Return the `ancestors` of a version in the form that `adds_nothing` asks."""
    earlier = list(ancestors(version, known))
    return Past(version.content, frozenset(v.dot for v in earlier), frozenset(map(put_of, earlier)))


def adds_nothing(version: Version, past: Past, known: Mapping[Dot, Version]) -> bool:
    """Tell whether a version of other content holds only what another one, whose past is given, came after.

    So does a version that replaces nothing and equals one of the past, put at the same place; and one that replaces
    only versions of its own content, each in the past or adding nothing itself: its author changed the mtime.
    """
    if version.content == past.content:
        return False
    near = {earlier.dot: earlier for earlier in ancestors(version, known)}
    pending, seen = [version], {version.dot}
    while pending:
        each = pending.pop()
        if each.dot in past.dots or (not each.replaces and put_of(each) in past.puts):
            continue
        if not each.replaces:
            return False
        for name in each.replaces:
            earlier = near.get(name)
            if earlier is None or earlier.content != version.content:
                return False
            if name not in seen:
                seen.add(name)
                pending.append(earlier)
    return True


def put_of(version: Version) -> Put:
    """Return what a version holds, and the parent and name under which its author had it."""
    return version.content, version.parent, version.name


def _newest_first(version: Version) -> tuple[int, bytes, bytes]:
    time, device, dot = version.stamp
    return -time, _complement(device), _complement(dot)


def _complement(data: bytes) -> bytes:
    """Return bytes that order the other way round among bytes of one length."""
    return bytes(255 - byte for byte in data)
