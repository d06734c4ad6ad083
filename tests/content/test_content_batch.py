"""Batches of operations. Spec: docs/spec/content.md 4."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshsync.codec.canonical import encode
from meshsync.content.batch import UNNAMED_CHAIN, Batch, decode_batch, encode_batch, size_bound
from meshsync.content.record import Attr, Content, Drop, Dropped, Keep, Kind, Mark, Op, Place, Put
from meshsync.errors import MalformedMessage
from meshsync.ids import ROOT, ChainId, ChunkId, Dot, NodeId, dot
from meshsync.limits import (
    CHUNK_SIZE_BYTES_MAX,
    COUNTER_MAX,
    DROP_ITEMS_MAX,
    ENTRY_BATCH_BYTES_MAX,
    ENTRY_OPS_MAX,
    FILE_SIZE_BYTES_MAX,
    LINK_TARGET_BYTES_MAX,
    OP_KEEPS_MAX,
    OP_VERSIONS_MAX,
    PATH_BYTES_MAX,
    PATH_DEPTH_MAX,
)

OWN, A, B = ChainId(b"O" * 32), ChainId(b"A" * 32), ChainId(b"B" * 32)
SEQ, TIME_NS = 9, 1_700_000_000_123_456_789
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "content.json").read_text())

DOT, NODE = dot(A, 1, 2), NodeId(dot(B, 3, 4))
EMPTY = Content(Kind.FILE)
PUT = Put(NODE, Content(Kind.FILE, 5, ChunkId(b"c" * 32)), True, -1, (DOT,), ROOT, b"f", (b"d", b"f"))
PLACE = Place(NODE, NodeId(b"h" * 32), b"g", (DOT, dot(OWN, 8, 0)), (b"g",))
DROP = Drop((Dropped(NODE, (), None, -1), Dropped(NodeId(b"h" * 32), (DOT,), DOT, 0)))
ATTR = Attr(NODE, False)
KEEP = Keep(NODE, DOT, None, ROOT, b"f (copy)")

names = st.binary(min_size=1, max_size=12).filter(lambda n: n not in (b".", b"..") and b"/" not in n and b"\0" not in n)
foreign = st.builds(dot, st.sampled_from([A, B]), st.integers(1, 1 << 62), st.integers(0, ENTRY_OPS_MAX - 1))
dots = foreign | st.builds(dot, st.just(OWN), st.integers(1, SEQ - 1), st.integers(0, ENTRY_OPS_MAX - 1))
nodes = (dots | st.binary(min_size=32, max_size=32)).map(NodeId)
parents = nodes | st.just(ROOT)
versions = st.lists(dots, max_size=3).map(tuple)
paths = st.lists(names, min_size=1, max_size=4).map(tuple)
ids = st.binary(min_size=32, max_size=32).map(ChunkId)
contents = st.one_of(
    st.just(EMPTY),
    st.just(Content(Kind.DIRECTORY)),
    st.builds(Content, st.just(Kind.FILE), st.integers(1, CHUNK_SIZE_BYTES_MAX), ids),
    st.builds(Content, st.just(Kind.FILE), st.integers(1, FILE_SIZE_BYTES_MAX), ids, st.just(6)),
    st.builds(Content, st.just(Kind.LINK), target=st.binary(min_size=1).filter(lambda t: b"\0" not in t)),
)
keeps = st.lists(st.builds(Keep, nodes, st.none() | dots, st.none() | dots, parents, names), max_size=2).map(tuple)
mtimes = st.integers(-(1 << 63), (1 << 63) - 1)
puts = st.builds(Put, st.none() | nodes, contents, st.booleans(), mtimes, versions, parents, names, paths, keeps)
places = st.builds(Place, nodes, parents, names, versions, paths, keeps)
items = st.builds(Dropped, nodes, versions, st.none() | dots, st.just(-1))
drops = st.builds(Drop, st.lists(items, min_size=1, max_size=3).map(tuple), keeps)
ops = puts | places | drops | st.builds(Attr, nodes, st.booleans()) | st.builds(Mark, names, st.booleans())


def round_trip(*written: Op) -> list[Op]:
    return decode_batch(encode_batch(written, OWN), OWN, SEQ).ops


@settings(max_examples=40)
@given(st.lists(ops, max_size=4), st.integers(0, COUNTER_MAX))
def test_what_was_written_is_read(written: list[Op], time_ns: int) -> None:
    data = encode_batch(written, OWN, time_ns)
    assert decode_batch(data, OWN, SEQ) == Batch(time_ns, written)
    assert encode_batch(written, OWN, time_ns) == data
    assert len(data) <= 20 + sum(map(size_bound, written))


def test_bytes_are_those_of_the_specification() -> None:
    assert encode_batch([PUT, PLACE, DROP, ATTR], OWN, TIME_NS).hex() == VECTORS["batch"]


def test_a_chain_can_be_named_before_its_first_entry_has_a_hash() -> None:
    directory = Put(None, Content(Kind.DIRECTORY), False, 0, (), ROOT, b"d", (b"d",))
    inside = Put(None, EMPTY, False, 0, (), NodeId(dot(UNNAMED_CHAIN, 1, 0)), b"f", (b"d", b"f"))
    data = encode_batch([directory, inside], UNNAMED_CHAIN)
    assert decode_batch(data, OWN, 1).ops == [directory, replace(inside, parent=NodeId(dot(OWN, 1, 0)))]


@pytest.mark.parametrize(("clock", "written"), [(-1, 0), (1 << 63, COUNTER_MAX), (1 << 80, COUNTER_MAX)])
def test_a_clock_beyond_all_bounds_does_not_stop_publishing(clock: int, written: int) -> None:
    assert decode_batch(encode_batch([ATTR], OWN, clock), OWN, SEQ) == Batch(written, [ATTR])


@pytest.mark.parametrize("named", [dot(OWN, SEQ, 0), dot(OWN, SEQ, 5), dot(OWN, SEQ + 1, 0)])
def test_an_operation_names_nothing_of_its_own_chain_that_is_not_before_it(named: Dot) -> None:
    with pytest.raises(MalformedMessage):
        round_trip(Attr(NodeId(named), True))


def test_metadata_of_a_file_stays_small() -> None:
    assert len(encode_batch([PUT] * 1000, OWN)) < 150 * 1000


class TestTable:
    """One batch has one encoding: chains stand in the order of their first use."""

    ATTRS = ((4, (1, 3, 4), False), (4, (2, 3, 4), False))

    def test_the_canonical_table_is_read(self) -> None:
        read = decode_batch(encode((TIME_NS, (A, B), self.ATTRS)), OWN, SEQ).ops
        assert read == [Attr(NodeId(dot(A, 3, 4)), False), Attr(NodeId(dot(B, 3, 4)), False)]

    @pytest.mark.parametrize(
        "batch",
        [
            ((A, B), ATTRS[::-1]),
            ((A, B, ChainId(b"C" * 32)), ATTRS),
            ((A,), ATTRS),
            ((A, A), ATTRS),
            ((A, OWN), ATTRS),
            ((A, B[:31]), ATTRS),
            ((), [(4, (-1, 3, 4), False)]),
            ((A,), [(4, (1, 0, 4), False)]),
            ((A,), [(4, (1, 1 << 63, 4), False)]),
            ((A,), [(4, (1, 3, ENTRY_OPS_MAX), False)]),
            ((A,), [(4, (1, 3, -1), False)]),
            ((), [(4, bytes(44), False)]),
            ((), [(4, b"", False)]),
            ((), [(5, bytes(32), False)]),
            ((), [(4, bytes(32), False, 0)]),
            ((), [(4, bytes(32), 1)]),
        ],
    )
    def test_any_other_is_refused(self, batch: tuple[object, object]) -> None:
        with pytest.raises(MalformedMessage):
            decode_batch(encode((TIME_NS, *batch)), OWN, SEQ)

    @pytest.mark.parametrize("time_ns", [-1, 1 << 63, 0.0, None, b""])
    def test_a_time_out_of_bounds_is_refused(self, time_ns: object) -> None:
        with pytest.raises(MalformedMessage):
            decode_batch(encode((time_ns, (A, B), self.ATTRS)), OWN, SEQ)

    def test_a_batch_without_time_is_refused(self) -> None:
        with pytest.raises(MalformedMessage):
            decode_batch(encode(((A, B), self.ATTRS)), OWN, SEQ)


def put(**changes: object) -> Put:
    return replace(PUT, **changes)


LONG_PATH = tuple([b"x" * 255] * 257)
OUT_OF_BOUNDS: dict[str, Op] = {
    "empty name": put(name=b""),
    "long name": put(name=b"x" * 256),
    "name with zero byte": put(name=b"a\0b"),
    "name with slash": put(name=b"a/b"),
    "dot": put(name=b"."),
    "dot dot": put(name=b".."),
    "no path": put(path=()),
    "path that climbs": put(path=(b"..", b"f")),
    "absolute path": put(path=(b"", b"f")),
    "deep path": put(path=(b"x",) * (PATH_DEPTH_MAX + 1)),
    "long path": put(path=LONG_PATH),
    "late mtime": put(mtime_ns=1 << 63),
    "early mtime": put(mtime_ns=-(1 << 63) - 1),
    "the root as node": put(node=ROOT),
    "short node": put(node=NodeId(b"x" * 31)),
    "short parent": put(parent=NodeId(b"x")),
    "many versions": put(replaces=(DOT,) * (OP_VERSIONS_MAX + 1)),
    "many keeps": put(keeps=(KEEP,) * (OP_KEEPS_MAX + 1)),
    "keep of a bad name": put(keeps=(replace(KEEP, name=b"a/b"),)),
    "keep of the root": put(keeps=(replace(KEEP, node=ROOT),)),
    "file with target": put(content=replace(EMPTY, target=b"t")),
    "empty file with root": put(content=replace(EMPTY, root=ChunkId(b"c" * 32))),
    "file without root": put(content=replace(EMPTY, size=1)),
    "file too large for its depth": put(content=Content(Kind.FILE, 1 << 40, ChunkId(b"c" * 32), 0)),
    "deep file": put(content=Content(Kind.FILE, 5, ChunkId(b"c" * 32), 7)),
    "directory with size": put(content=Content(Kind.DIRECTORY, 1)),
    "directory with target": put(content=Content(Kind.DIRECTORY, target=b"t")),
    "link without target": put(content=Content(Kind.LINK)),
    "link with long target": put(content=Content(Kind.LINK, target=b"t" * (LINK_TARGET_BYTES_MAX + 1))),
    "link with zero byte": put(content=Content(Kind.LINK, target=b"a\0b")),
    "place of the root": replace(PLACE, node=ROOT),
    "place under a bad name": replace(PLACE, name=b".."),
    "drop of nothing": Drop(()),
    "drop of the root": Drop((Dropped(ROOT, (), None, -1),)),
    "drop that is its own parent": Drop((Dropped(NODE, (), None, 0),)),
    "drop before its parent": Drop((Dropped(NODE, (), None, 1), Dropped(NODE, (), None, -1))),
    "drop below no index": Drop((Dropped(NODE, (), None, -2),)),
    "large drop": Drop((Dropped(NODE, (), None, -1),) * (DROP_ITEMS_MAX + 1)),
    "attr of the root": Attr(ROOT, True),
    "mark without a name": Mark(b"", True),
    "mark of a path": Mark(b"a/b", True),
}


@pytest.mark.parametrize("op", OUT_OF_BOUNDS.values(), ids=OUT_OF_BOUNDS.keys())
def test_what_is_out_of_bounds_is_never_written(op: Op) -> None:
    with pytest.raises(MalformedMessage):
        encode_batch([op], OWN)


@pytest.mark.parametrize("op", OUT_OF_BOUNDS.values(), ids=OUT_OF_BOUNDS.keys())
def test_what_is_out_of_bounds_is_never_read(op: Op, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as hostile:
        hostile.setattr("meshsync.content.batch.check_op", lambda op: None)
        try:
            data = encode_batch([op], OWN)
        except OverflowError:  # not even the encoding can say it
            return
    with pytest.raises(MalformedMessage):
        decode_batch(data, OWN, SEQ)


def test_a_batch_is_bounded_in_operations_and_bytes() -> None:
    assert len(round_trip(*[ATTR] * ENTRY_OPS_MAX)) == ENTRY_OPS_MAX
    with pytest.raises(MalformedMessage):
        encode_batch([ATTR] * (ENTRY_OPS_MAX + 1), OWN)
    long = put(path=tuple([b"x" * 254] * (PATH_BYTES_MAX // 255)))
    with pytest.raises(MalformedMessage):
        encode_batch([long] * (ENTRY_BATCH_BYTES_MAX // PATH_BYTES_MAX + 1), OWN)
    with pytest.raises(MalformedMessage):
        decode_batch(bytes(ENTRY_BATCH_BYTES_MAX + 1), OWN, SEQ)


@given(st.data())
def test_damaged_bytes_are_refused_or_are_another_canonical_batch(data: st.DataObject) -> None:
    damaged = bytearray(encode_batch([PUT, PLACE, DROP, ATTR], OWN, TIME_NS))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = decode_batch(bytes(damaged), OWN, SEQ)
    except MalformedMessage:
        return
    assert encode_batch(read.ops, OWN, read.time_ns) == damaged


@given(st.binary(max_size=100))
def test_junk_never_crashes(junk: bytes) -> None:
    for data in (junk, b"\x93\x00\x90\x91" + junk):
        with contextlib.suppress(MalformedMessage):
            decode_batch(data, OWN, SEQ)
