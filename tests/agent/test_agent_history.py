"""The history that users read (P10): one row for each version, removal and rename, alike on every device."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.agent.history import unpack_content, version_rows
from meshsync.content.record import Drop, Place, Put
from meshsync.index.version_rows import VersionRow
from meshsync.sync.delivered import DeliveredEntry
from meshsync.sync.view import View
from tests.model.compare import shuffled
from tests.model.device_model import DeviceModel, file
from tests.model.histories import run_history


def rows_of(entries: Sequence[DeliveredEntry]) -> list[VersionRow]:
    """Deliver the entries in this order, as a device does."""
    view, rows = View(), []
    for entry in entries:
        rows += version_rows(view, entry.chain, entry.seq, entry.time, 0, entry.ops)
        view.apply(entry)
    return rows


@given(st.integers(0, 1 << 32))
def test_every_device_lists_the_same_versions_whatever_arrived_first(seed: int) -> None:
    entries = run_history(seed, devices=3, steps=25).entries()
    first, other = (
        {row.dot: (row.node, row.position, row.change, row.content, row.mtime_ns) for row in rows_of(order)}
        for order in (entries, shuffled(entries, random.Random(seed)))
    )
    assert first == other


@given(st.integers(0, 1 << 32))
def test_no_save_removal_or_rename_is_missing(seed: int) -> None:
    entries = run_history(seed, devices=3, steps=25).entries()
    wanted = sum(isinstance(op, Put | Place | Drop) for entry in entries for op in entry.ops)
    assert len(rows_of(entries)) == wanted


@pytest.mark.parametrize("edit_first", [True, False])
def test_a_removal_tells_what_was_removed_and_not_what_came_meanwhile(edit_first: bool) -> None:
    one, other = DeviceModel(1), DeviceModel(2)
    one.create((b"plan",), file(1))
    for device in (other, one):
        device.receive(list(one.received.values()))
        device.apply()
    one.edit((b"plan",), file(2))
    other.delete((b"plan",))
    (created,) = set(one.received) & set(other.received)
    begun = [one.received[created]]
    edits = [entry for key, entry in one.received.items() if key != created]
    removals = [entry for key, entry in other.received.items() if key != created]
    rows = rows_of(begun + (edits + removals if edit_first else removals + edits))
    found = {row.change: (row.path, unpack_content(row.content)) for row in rows}
    assert found == {"created": (b"plan", file(1)), "edited": (b"plan", file(2)), "deleted": (b"plan", file(1))}
