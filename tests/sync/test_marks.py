"""Snapshots are the same on every device, in whatever order entries arrive; the last writer of a name wins."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from meshsync.content.record import Mark
from meshsync.ids import ChainId, DeviceId, EntryId
from meshsync.sync.marks import Marks

NAMES = (b"a", b"b")
marks = st.lists(
    st.tuples(st.integers(1, 4), st.integers(0, 2), st.lists(st.builds(Mark, st.sampled_from(NAMES), st.booleans()))),
    max_size=8,
)


def taken(entries: list[tuple[int, tuple[int, int, list[Mark]]]]) -> Marks:
    found = Marks()
    for number, (time, device, ops) in entries:
        author = DeviceId(bytes([device]) * 32)
        chain, entry = ChainId(bytes([device]) * 32), EntryId(number.to_bytes(32, "big"))
        found.take(entry, author, chain, number + 1, time, 0, ops)
    return found


@given(marks, st.randoms(use_true_random=False))
def test_the_order_of_arrival_decides_nothing_and_the_last_writer_wins(
    drawn: list[tuple[int, int, list[Mark]]], chance: random.Random
) -> None:
    entries = list(enumerate(drawn))
    found = taken(entries)
    chance.shuffle(shuffled := list(entries))
    assert taken(shuffled).all() == found.all()
    for name in NAMES:
        said = [
            ((time, device, number, index), number, op.present)
            for number, (time, device, ops) in entries
            for index, op in enumerate(ops)
            if op.name == name
        ]
        _, number, present = max(said, default=(None, 0, False), key=lambda each: each[0])
        marked = found.find(name)
        assert (marked is not None) == present
        assert marked is None or marked.entry == EntryId(number.to_bytes(32, "big"))
        assert [one for one in found.all() if one.name == name] == ([marked] if marked else [])
