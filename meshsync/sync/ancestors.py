"""What came before a version: which contents, and under which names.

Invariant: the answer depends on the set of versions only; it is bounded by the newest ANCESTORS_MAX.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping

from meshsync.content.record import Content
from meshsync.ids import Dot, NodeId
from meshsync.limits import ANCESTORS_MAX
from meshsync.sync.node import Version

Put = tuple[Content, NodeId, bytes]


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


def put_of(version: Version) -> Put:
    """Return what a version holds, and the parent and name under which its author had it."""
    return version.content, version.parent, version.name


def _newest_first(version: Version) -> tuple[int, bytes, bytes]:
    time, device, dot = version.stamp
    return -time, _complement(device), _complement(dot)


def _complement(data: bytes) -> bytes:
    """Return bytes that order the other way round among bytes of one length."""
    return bytes(255 - byte for byte in data)
