"""Without what one device did, the view is everybody else's work on its own: nothing of it is lost or in conflict."""

from __future__ import annotations

import pytest

from meshsync.content.record import Content, Drop, Dropped, Kind, Op, Place, Put
from meshsync.ids import ROOT, ChainId, ChunkId, DeviceId, Dot, NodeId, dot
from meshsync.sync.delivered import DeliveredEntry
from meshsync.sync.undoing import Without
from meshsync.sync.view import View

A, B = DeviceId(b"a" * 32), DeviceId(b"b" * 32)
CHAINS = {A: ChainId(b"A" * 32), B: ChainId(b"B" * 32)}
FIRST = dot(CHAINS[B], 1, 0)  # what B wrote before all else, at the path `f`
NODE = NodeId(FIRST)

Shown = dict[tuple[bytes, ...], int]
History = list[tuple[DeviceId, Op]]


def put(size: int, *replaces: Dot, node: NodeId | None = NODE, name: bytes = b"f") -> Put:
    content = Content(Kind.FILE, size, ChunkId(size.to_bytes(32, "big")))
    return Put(node, content, False, 0, replaces, ROOT, name, (name,))


def drop(*versions: Dot, node: NodeId = NODE) -> Drop:
    return Drop((Dropped(node, versions, None, -1),))


def at(device: DeviceId, seq: int) -> Dot:
    return dot(CHAINS[device], seq, 0)


def without_a(history: History) -> tuple[Shown, list[bool]]:
    """Return path → size without what A did to B's first file, and of each act of B's on top of it, if it removed."""
    view, without, seqs = View(), Without(), {A: 0, B: 0}
    for time, (device, op) in enumerate([(B, put(1, node=None)), *history], 1):
        seqs[device] += 1
        chain, seq = CHAINS[device], seqs[device]
        if device == A:
            without.undo(chain, seq, (op,))
            view.void(chain, seq)
        else:
            view.apply(DeliveredEntry(device, chain, seq, time, without.keep(chain, seq, (op,))))
    return {path: shown.content.size for path, shown in view.walk()}, [one.removed for one in without.built]


@pytest.mark.parametrize(
    ("history", "shown", "built_on"),
    [
        ([(A, put(2, FIRST))], {(b"f",): 1}, []),
        ([(A, drop(FIRST))], {(b"f",): 1}, []),
        ([(A, Place(NODE, ROOT, b"g", (FIRST,), (b"g",)))], {(b"f",): 1}, []),
        ([(A, put(2, node=None, name=b"new"))], {(b"f",): 1}, []),
        # B edits what A had edited, twice over: that edit stays, and is in conflict with nothing
        ([(A, put(2, FIRST)), (A, put(3, at(A, 1))), (B, put(4, at(A, 2)))], {(b"f",): 4}, [False]),
        # B edits what it had seen before A's edit: two versions then, one now
        ([(A, put(2, FIRST)), (B, put(4, FIRST))], {(b"f",): 4}, []),
        # B renames or edits what A made
        (
            [(A, put(2, node=None, name=b"n")), (B, put(3, at(A, 1), node=NodeId(at(A, 1)), name=b"n"))],
            {(b"f",): 1, (b"n",): 3},
            [False],
        ),
        ([(A, put(2, FIRST)), (B, Place(NODE, ROOT, b"g", (at(A, 1),), (b"g",)))], {(b"g",): 1}, []),
        # B removes what A had spoilt: it comes back; what B removed of its own accord does not
        ([(A, put(2, FIRST)), (B, drop(at(A, 1)))], {(b"f",): 1}, [True]),
        ([(A, put(2, FIRST)), (B, drop(FIRST))], {}, []),
        # B puts both of two versions together
        ([(A, put(2, FIRST)), (B, put(3, FIRST)), (B, put(4, at(A, 1), at(B, 2)))], {(b"f",): 4}, [False]),
    ],
)
def test_everybody_elses_work_stays_and_no_more(history: History, shown: Shown, built_on: list[bool]) -> None:
    assert without_a(history) == (shown, built_on)
