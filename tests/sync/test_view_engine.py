"""The engine beside the model: bounds of work, order of delivery, operations that no honest device makes."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from meshsync.content.record import Attr, Drop, Dropped, Keep, Op, Place, Put
from meshsync.errors import MalformedMessage
from meshsync.ids import ROOT, ChainId, DeviceId, Dot, NodeId, dot
from meshsync.sync.delivered import DeliveredEntry
from meshsync.sync.view import View
from tests.model.compare import engine_tree, model_detail, shuffled, view_of
from tests.model.device_model import file
from tests.model.view_model import DIRECTORY
from tests.support.work import calls_of

DEVICE, CHAIN = DeviceId(b"\1" * 32), ChainId(b"\x81" * 32)


def put(name: bytes, number: int, parent: NodeId = ROOT, path: tuple[bytes, ...] | None = None) -> Put:
    return Put(None, file(number), False, 0, (), parent, name, path or (name,))


def test_an_entry_that_names_what_is_not_in_the_view_is_refused_and_changes_nothing() -> None:
    view = View()
    other = ChainId(b"\x99" * 32)
    op = Put(None, file(1), False, 0, (dot(other, 3, 0),), ROOT, b"f", (b"f",))
    entry = DeliveredEntry(DEVICE, CHAIN, 1, 1, (op,))
    assert view.missing(entry) == {(other, 3)}
    with pytest.raises(MalformedMessage):
        view.apply(entry)
    assert not view.vector and not list(view.walk())


def test_an_entry_enters_once() -> None:
    view = View()
    entry = DeliveredEntry(DEVICE, CHAIN, 1, 1, (put(b"f", 1),))
    assert view.apply(entry) == {NodeId(dot(CHAIN, 1, 0))}
    assert view.apply(entry) == set()


def test_what_lies_in_an_unknown_directory_is_shown_at_its_path() -> None:
    gone = NodeId(dot(CHAIN, 1, 7))
    view = view_of([DeliveredEntry(DEVICE, CHAIN, 1, 1, (put(b"x", 1),))])
    view.apply(DeliveredEntry(DEVICE, CHAIN, 2, 2, (put(b"f", 2, gone, (b"D", b"E", b"f")),)))
    assert [path for path, _ in view.walk()] == [(b"D",), (b"x",), (b"D", b"E"), (b"D", b"E", b"f")]


@pytest.mark.slow
def test_directories_nest_deeper_than_the_stack() -> None:
    view, parent = View(), ROOT
    for seq in range(1, 1501):
        view.apply(
            DeliveredEntry(DEVICE, CHAIN, seq, seq, (Put(None, DIRECTORY, False, 0, (), parent, b"d", (b"d",)),))
        )
        parent = NodeId(dot(CHAIN, seq, 0))
    path = view.path_of(parent)
    assert path is not None and len(path) == 1500 and view.resolve(path) is not None


def strange_op(rng: random.Random, dots: list[Dot]) -> Op:
    """An operation that names anything known, whether or not it makes sense."""
    nodes = [NodeId(name) for name in dots]
    some = tuple(rng.sample(dots, rng.randint(0, min(3, len(dots)))))
    parent = rng.choice([ROOT, *nodes])
    name = rng.choice([b"a", b"b"])
    path = tuple(rng.choice([b"a", b"b"]) for _ in range(rng.randint(1, 3)))
    content = DIRECTORY if rng.random() < 0.4 else file(rng.randint(1, 6))
    mtime_ns = 0 if content == DIRECTORY else len(dots)
    roll = rng.random()
    if roll < 0.3 or not nodes:
        return Put(None, content, False, mtime_ns, some, parent, name, path)
    node = rng.choice(nodes)
    if roll < 0.5:
        return Put(node, content, True, mtime_ns, some, parent, name, path)
    if roll < 0.75:
        keeps = (Keep(rng.choice(nodes), rng.choice([None, rng.choice(dots)]), rng.choice(dots), parent, b"k"),)
        return Place(node, parent, name, some, path, keeps if rng.random() < 0.5 else ())
    if roll < 0.95:
        placement = rng.choice([None, rng.choice(dots)])
        return Drop((Dropped(node, some, placement, -1), Dropped(rng.choice(nodes), some, None, 0)))
    return Attr(node, True)


@pytest.mark.parametrize("seed", range(120))
def test_operations_of_a_hostile_writer_depend_on_no_order(seed: int) -> None:
    rng, entries, dots = random.Random(seed), [], []
    for number in range(14):
        author = rng.randint(1, 3)
        chain = ChainId(bytes([0x80 + author]) * 32)
        seq = 1 + sum(entry.chain == chain for entry in entries)
        op = strange_op(rng, dots)
        entries.append(DeliveredEntry(DeviceId(bytes([author]) * 32), chain, seq, number + 1, (op,)))
        dots.append(dot(chain, seq, 0))
    want = engine_tree(view_of(entries))
    for run in range(3):
        assert engine_tree(view_of(shuffled(entries, random.Random(run)))) == want
    assert model_detail(entries) == want


def bulk(count: int) -> tuple[View, list[DeliveredEntry], NodeId]:
    view, directory = View(), NodeId(dot(CHAIN, 1, 0))
    view.apply(DeliveredEntry(DEVICE, CHAIN, 1, 1, (Put(None, DIRECTORY, False, 0, (), ROOT, b"D", (b"D",)),)))
    entries = [
        DeliveredEntry(
            DEVICE, CHAIN, seq, seq, tuple(put(b"%d-%d" % (seq, i), seq * 1000 + i, directory) for i in range(1000))
        )
        for seq in range(2, 2 + count // 1000)
    ]
    return view, entries, directory


def test_puts_cost_in_proportion_and_the_rename_of_a_directory_costs_the_same_whatever_it_holds() -> None:
    puts, renames = [], []
    for count in (1_000, 4_000):
        view, entries, directory = bulk(count)
        puts.append(sum(calls_of(view.apply, entry) for entry in entries))
        seq = len(entries) + 2
        move = Place(directory, ROOT, b"E", (dot(CHAIN, 1, 0),), (b"E",))
        renames.append(calls_of(view.apply, DeliveredEntry(DEVICE, CHAIN, seq, seq, (move,))))
        assert view.path_of(directory) == (b"E",) and view.path_of(NodeId(dot(CHAIN, 2, 7))) == (b"E", b"2-7")
    assert puts[1] < 4.4 * puts[0]
    assert renames[1] == renames[0]


def test_what_lies_deep_is_found_in_proportion_to_the_directories_above_it() -> None:
    found = []
    for depth in (100, 400):
        view = View()
        puts = [Put(None, DIRECTORY, False, 0, (), ROOT, b"d", (b"d",))]
        nodes = [NodeId(dot(CHAIN, 1, index)) for index in range(depth)]
        for parent in nodes[:-1]:
            puts.append(replace(puts[0], parent=parent))
        view.apply(DeliveredEntry(DEVICE, CHAIN, 1, 1, tuple(puts)))
        found.append(calls_of(lambda view=view, nodes=nodes: [view.merged(node) for node in nodes]))
        assert view.merged(nodes[-1]) == (nodes[-1],)
        view.apply(DeliveredEntry(DEVICE, CHAIN, 2, 2, (puts[0],)))
        assert set(view.merged(nodes[0])) == {nodes[0], NodeId(dot(CHAIN, 2, 0))}
    assert found[1] < 4.4 * found[0]
