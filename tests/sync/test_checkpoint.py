"""Rows and checkpoints: what is restored goes on as if nothing had been forgotten (docs/spec/view.md 5)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.content.record import Kind, Place, Put
from meshsync.errors import MalformedMessage
from meshsync.ids import ROOT, ChainId, DeviceId, NodeId, dot
from meshsync.sync.checkpoint import checkpoint
from meshsync.sync.delivered import DeliveredEntry
from meshsync.sync.node_rows import export_rows, node_row, pack_row, restore, unpack_row
from meshsync.sync.view import View
from tests.model.compare import check_lookups, engine_tree, shuffled, view_of
from tests.model.histories import act, run_history, settle
from tests.model.view_model import DIRECTORY


@pytest.mark.parametrize("seed", range(60))
def test_a_restored_view_goes_on_like_the_first(seed: int) -> None:
    entries = shuffled(run_history(seed, 3, 40, copies=seed % 3 == 0).entries(), random.Random(seed))
    cut = random.Random(seed).randint(0, len(entries))
    view = view_of(entries[:cut])
    restored = restore([unpack_row(pack_row(row)) for row in export_rows(view)], view.vector)
    assert engine_tree(restored) == engine_tree(view)
    for entry in entries[cut:]:
        view.apply(entry)
        restored.apply(entry)
    assert engine_tree(restored) == engine_tree(view)
    check_lookups(restored)


@pytest.mark.parametrize("seed", range(60))
def test_the_reported_nodes_are_all_whose_rows_changed(seed: int) -> None:
    view, kept = View(), {}
    for entry in run_history(seed, 3, 30).entries():
        for node in view.apply(entry):
            kept[node] = node_row(view, node)
    assert {row.node: row for row in export_rows(view)} == {n: r for n, r in kept.items() if r is not None}


@pytest.mark.parametrize("seed", range(60))
def test_checkpoint_and_later_entries_equal_full_replay(seed: int) -> None:
    history = run_history(seed, 3, 40, copies=seed % 3 == 0)
    settle(history)
    full = view_of(history.entries())
    short = restore(checkpoint(full), full.vector)
    assert engine_tree(short) == engine_tree(full)
    rng = random.Random(seed)
    for _ in range(25):
        device, roll = rng.choice(history.devices), rng.random()
        if roll < 0.25:
            device.receive(list(rng.choice(history.devices).received.values()))
        elif roll < 0.45:
            device.apply()
        else:
            act(rng, device, history, copies=seed % 3 == 0)
    for entry in history.entries():
        full.apply(entry)
        short.apply(entry)
    assert engine_tree(short) == engine_tree(full)


def test_h6_a_late_directory_move_meets_a_later_one_that_only_the_checkpoint_has() -> None:
    ours, late = (ChainId(bytes([n]) * 32) for n in (1, 2))
    one, two = (DeviceId(bytes([n]) * 32) for n in (1, 2))
    x, y = (NodeId(dot(ours, 1, index)) for index in (0, 1))
    make = tuple(Put(None, DIRECTORY, False, 0, (), ROOT, name, (name,)) for name in (b"X", b"Y"))
    full = view_of(
        [
            DeliveredEntry(one, ours, 1, 1, make),
            DeliveredEntry(one, ours, 2, 80, (Place(y, x, b"Y", (), (b"X", b"Y")),)),
        ]
    )
    short = restore(checkpoint(full), full.vector)
    move = DeliveredEntry(two, late, 1, 50, (Place(x, y, b"X", (), (b"Y", b"X")),))
    for view in (full, short):
        view.apply(move)
        assert [path for path, _ in view.walk()] == [(b"Y",), (b"Y", b"X")]


def test_a_checkpoint_forgets_what_is_gone() -> None:
    history = run_history(5, 2, 10)
    settle(history)
    device = history.devices[0]
    for path in sorted(device.disk, reverse=True):
        device.delete(path)
    view = view_of([*history.entries()])
    assert not list(view.walk())
    assert all(row.directory and row.moves for row in checkpoint(view))


@given(st.binary(max_size=200))
def test_bytes_that_are_no_row_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        unpack_row(data)


def test_the_bytes_of_a_row() -> None:
    chain, device = ChainId(b"\x0c" * 32), DeviceId(b"\x0d" * 32)
    view = view_of([DeliveredEntry(device, chain, 1, 1, (Put(None, DIRECTORY, False, 5, (), ROOT, b"D", (b"D",)),))])
    row = node_row(view, NodeId(dot(chain, 1, 0)))
    assert row is not None and row.puts[0].content.kind is Kind.DIRECTORY
    name = "0c" * 32 + "0000000000000001" + "00000000"
    stamp = "9301c420" + "0d" * 32 + "c42c" + name
    put = "9d" + stamp + "c42c" + name + "9502" + "00c40000c400" + "c205" + "90c400c40144" + "90" + "c2c3" + "90" + "90"
    want = "99c42c" + name + "c3" + "95" + stamp + "c400c40144" + "90" + "90" + "c2" + "90" + "c0c0" + "91" + put + "c0"
    assert pack_row(row).hex() == want
