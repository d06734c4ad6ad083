"""Many versions of one file, none of which had seen another: a writer can make them, and nobody may wait for long."""

from __future__ import annotations

from meshsync.content.record import Content, Kind, Put
from meshsync.ids import ROOT, ChainId, ChunkId, DeviceId, Dot, NodeId, dot
from meshsync.sync.delivered import DeliveredEntry
from meshsync.sync.view import View
from tests.support.work import calls_of

DEVICE, CHAIN = DeviceId(b"\1" * 32), ChainId(b"\x81" * 32)
FILE = Content(Kind.FILE, 5, ChunkId(b"c" * 32))


def put(node: NodeId | None, mtime_ns: int, replaces: tuple[Dot, ...]) -> Put:
    return Put(node, FILE, False, mtime_ns, replaces, ROOT, b"f", (b"f",))


def view_with_touches(count: int) -> View:
    view, first = View(), dot(CHAIN, 1, 0)
    view.apply(DeliveredEntry(DEVICE, CHAIN, 1, 1, (put(None, 0, ()),)))
    for seq in range(2, count + 2):
        view.apply(DeliveredEntry(DEVICE, CHAIN, seq, seq, (put(NodeId(first), seq, (first,)),)))
    return view


def test_one_more_touch_costs_no_more_than_in_proportion_to_those_before() -> None:
    view = view_with_touches(400)
    assert len(view.live_versions(NodeId(dot(CHAIN, 1, 0)))) == 400 and len(list(view.walk())) == 1
    few, many = calls_of(view_with_touches, 25), calls_of(view_with_touches, 200)
    assert many < 8 * 8 * few  # each of n touches, in proportion to n
