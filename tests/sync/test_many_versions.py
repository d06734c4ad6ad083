"""Many versions of one file, none of which had seen another: a writer can make them, and nobody may wait for long."""

from __future__ import annotations

import time

from meshsync.content.record import Content, Kind, Put
from meshsync.ids import ROOT, ChainId, ChunkId, DeviceId, Dot, NodeId, dot
from meshsync.sync.delivered import DeliveredEntry
from meshsync.sync.view import View

DEVICE, CHAIN = DeviceId(b"\1" * 32), ChainId(b"\x81" * 32)
FILE = Content(Kind.FILE, 5, ChunkId(b"c" * 32))


def put(node: NodeId | None, mtime_ns: int, replaces: tuple[Dot, ...]) -> Put:
    return Put(node, FILE, False, mtime_ns, replaces, ROOT, b"f", (b"f",))


def test_four_hundred_touches_of_one_version_are_taken_in_a_second() -> None:
    view, first = View(), dot(CHAIN, 1, 0)
    view.apply(DeliveredEntry(DEVICE, CHAIN, 1, 1, (put(None, 0, ()),)))
    start = time.thread_time()
    for seq in range(2, 402):
        view.apply(DeliveredEntry(DEVICE, CHAIN, seq, seq, (put(NodeId(first), seq, (first,)),)))
    assert time.thread_time() - start < 1
    assert len(view.live_versions(NodeId(first))) == 400 and len(list(view.walk())) == 1
