"""The rules of the view on the model, and the engine held to the model on the same histories (`semantics.md` 2-6)."""

from __future__ import annotations

import random

import pytest

from meshsync.content.record import Content
from meshsync.ids import dot
from meshsync.sync.view import View
from tests.model.compare import (
    check_changed,
    check_lookups,
    engine_tree,
    model_detail,
    names_by_node,
    shuffled,
    view_of,
)
from tests.model.device_model import DeviceModel, Path, file, link
from tests.model.histories import History, check_values, run_history, settle
from tests.model.view_model import DIRECTORY

A, B, D, E, F, G = (b"a",), (b"b",), (b"D",), (b"E",), (b"f",), (b"g",)


def devices(count: int = 2) -> list[DeviceModel]:
    return [DeviceModel(number) for number in range(1, count + 1)]


def meet(*some: DeviceModel) -> dict[Path, Content]:
    """Everyone gets everything; return the one tree that all show, held equal between model and engine."""
    history = History(list(some))
    tree = settle(history)
    assert engine_tree(view_of(history.entries())) == model_detail(history.entries())
    return {path: content for path, (content, _) in tree.items()}


def shared(*created: tuple[Path, Content], count: int = 2) -> list[DeviceModel]:
    """Devices that have the same files."""
    some = devices(count)
    for path, content in created:
        some[0].create(path, content)
    meet(*some)
    return some


def contents(tree: dict[Path, Content]) -> set[Content]:
    return {content for content in tree.values() if content != DIRECTORY}


@pytest.mark.parametrize("seed", range(150))
def test_no_value_is_lost_no_deletion_undone_and_all_trees_are_equal(seed: int) -> None:
    history = run_history(seed, 2 + seed % 2, 24, copies=seed % 4 == 3)
    check_values(history, settle(history))


@pytest.mark.parametrize("seed", range(12))
def test_six_devices(seed: int) -> None:
    history = run_history(seed, 6, 50)
    check_values(history, settle(history))


@pytest.mark.parametrize("seed", range(80))
def test_the_engine_equals_the_model_in_any_order_of_arrival(seed: int) -> None:
    history = run_history(seed, 3, 30, copies=seed % 3 == 0)
    entries = history.entries()
    want = model_detail(entries)
    for run in range(2):
        view = view_of(shuffled(entries, random.Random(seed * 2 + run)))
        assert engine_tree(view) == want
        check_lookups(view)


@pytest.mark.parametrize("seed", range(40))
def test_every_node_that_shows_otherwise_is_reported(seed: int) -> None:
    history = run_history(seed, 3, 30, copies=seed % 3 == 0)
    view, before = View(), {}
    for entry in shuffled(history.entries(), random.Random(seed)):
        changed = view.apply(entry)
        after = names_by_node(view)
        check_changed(before, after, changed)
        before = after


# --- the histories of semantics.md 6 that concern the view -----------------------------------------------------


def test_h1_a_save_does_not_replace_what_was_only_received() -> None:
    a, b = shared((F, file(1)))
    b.edit(F, file(2))
    a.edit(F, file(3))
    a.receive(list(b.received.values()))  # received, still fetching
    a.edit(F, file(4))
    assert contents(meet(a, b)) == {file(2), file(4)}


def test_h2_an_edit_of_the_copy_swaps_no_names() -> None:
    a, b = shared((F, file(1)))
    a.edit(F, file(2))
    b.edit(F, file(3))
    before = meet(a, b)
    copy = next(path for path in before if path != F)
    a.edit(copy, file(4))
    assert meet(a, b) == {**before, copy: file(4)}


def test_h3_deleting_the_path_leaves_the_copy_where_it_is() -> None:
    a, b = shared((F, file(1)))
    a.edit(F, file(2))
    b.edit(F, file(3))
    before = meet(a, b)
    a.delete(F)
    assert meet(a, b) == {path: content for path, content in before.items() if path != F}


def test_h4_a_renamed_directory_keeps_its_files_when_another_deletes_it() -> None:
    a, b = shared((D, DIRECTORY), ((*D, b"x"), file(1)))
    a.rename(D, E)
    b.delete(D)
    assert meet(a, b) == {E: DIRECTORY, (*E, b"x"): file(1)}


def test_h6_a_late_move_that_would_make_a_cycle_is_skipped_alike_everywhere() -> None:
    a, b = shared((A, DIRECTORY), (B, DIRECTORY))
    a.rename(A, (*B, b"a"))
    b.time += 30
    b.rename(B, (*A, b"b"))
    assert meet(a, b) == {B: DIRECTORY, (*B, b"a"): DIRECTORY}


# --- P3, P4, P7 ------------------------------------------------------------------------------------------------


def test_n_edits_end_as_n_versions() -> None:
    some = shared((F, file(1)), count=4)
    for number, device in enumerate(some):
        device.edit(F, file(10 + number))
    assert contents(meet(*some)) == {file(10 + number) for number in range(4)}


def test_a_conflict_on_a_conflict_copy_keeps_both() -> None:
    a, b = shared((F, file(1)))
    a.edit(F, file(2))
    b.edit(F, file(3))
    copy = next(path for path in meet(a, b) if path != F)
    a.edit(copy, file(4))
    b.edit(copy, file(5))
    tree = meet(a, b)
    assert len(tree) == 3 and {file(4), file(5)} <= contents(tree) and tree[copy] in (file(4), file(5))


def test_a_directory_keeps_the_name_against_a_file_and_a_file_against_a_link() -> None:
    a, b, c = devices(3)
    a.create(F, link(1))
    b.create(F, file(2))
    c.create(F, DIRECTORY)
    tree = meet(a, b, c)
    assert tree[F] == DIRECTORY and contents(tree) == {link(1), file(2)}


def test_edit_beats_delete() -> None:
    a, b = shared((F, file(1)))
    a.edit(F, file(2))
    b.delete(F)
    assert meet(a, b) == {F: file(2)}


def test_a_rename_counts_as_an_edit() -> None:
    a, b = shared((F, file(1)))
    a.rename(F, G)
    b.delete(F)
    assert meet(a, b) == {G: file(1)}


def test_an_edit_follows_a_rename_made_elsewhere() -> None:
    a, b = shared((D, DIRECTORY), ((*D, b"x"), file(1)))
    a.edit((*D, b"x"), file(2))
    b.rename(D, E)
    assert meet(a, b) == {E: DIRECTORY, (*E, b"x"): file(2)}


def test_a_directory_delete_removes_only_what_the_deleter_had() -> None:
    a, b = shared((D, DIRECTORY), ((*D, b"x"), file(1)))
    a.create((*D, b"y"), file(2))
    b.delete(D)
    assert meet(a, b) == {D: DIRECTORY, (*D, b"y"): file(2)}


def test_a_directory_that_is_shown_for_what_is_in_it_stays_when_that_is_deleted() -> None:
    a, b = shared((D, DIRECTORY), ((*D, b"x"), file(1)))
    a.create((*D, b"y"), file(2))
    b.delete(D)
    meet(a, b)
    a.delete((*D, b"y"))
    assert meet(a, b) == {D: DIRECTORY}


def test_a_rename_that_lost_to_one_that_the_deleter_had_does_not_count() -> None:
    a, b, c = shared((F, file(1)), count=3)
    a.rename(F, A)
    b.time += 10
    b.rename(F, B)
    c.receive(list(b.received.values()))
    c.apply()
    c.delete(B)
    assert meet(a, b, c) == {}


def test_equal_content_is_no_conflict_and_is_acted_on_as_one_file() -> None:
    a, b = devices()
    a.create(F, file(1))
    b.create(F, file(1))
    assert meet(a, b) == {F: file(1)}
    a.rename(F, G)
    assert meet(a, b) == {G: file(1)}
    b.delete(G)
    assert meet(a, b) == {}


def test_directories_of_one_name_merge() -> None:
    a, b = devices()
    for device, name in ((a, b"x"), (b, b"y")):
        device.create(D, DIRECTORY)
        device.create((*D, name), file(device.device[0]))
    assert meet(a, b) == {D: DIRECTORY, (*D, b"x"): file(1), (*D, b"y"): file(2)}


def test_the_exec_bit_and_the_content_merge() -> None:
    a, b = shared((F, file(1)))
    a.set_executable(F, True)
    b.edit(F, file(2))
    history = History([a, b])
    assert settle(history) == {F: (file(2), True)}


def test_a_touch_gives_the_shown_file_its_mtime() -> None:
    a, b = shared((F, file(1)))
    a.edit(F, file(1))
    want = a.mtimes()
    assert meet(a, b) == {F: file(1)} and b.mtimes() == want


def test_equal_edits_end_with_one_mtime_and_no_copy() -> None:
    a, b = shared((F, file(1)))
    a.edit(F, file(2))
    b.edit(F, file(2))
    assert a.mtimes() != b.mtimes()
    later = max(a, b, key=lambda device: (device.time, device.device)).mtimes()
    assert meet(a, b) == {F: file(2)} and a.mtimes() == b.mtimes() == later


def test_a_touch_against_an_edit_leaves_the_edit() -> None:
    a, b = shared((F, file(1)))
    a.edit(F, file(1))
    a.edit(F, file(1))
    b.edit(F, file(2))
    want = b.mtimes()
    assert meet(a, b) == {F: file(2)} and a.mtimes() == want
    a.delete(F)
    assert meet(a, b) == {}


def test_a_touch_of_one_of_two_edits_keeps_both() -> None:
    a, b = shared((F, file(1)))
    a.edit(F, file(2))
    a.edit(F, file(2))
    b.edit(F, file(3))
    assert contents(meet(a, b)) == {file(2), file(3)}


def test_a_touch_of_a_joiners_older_copy_is_stale_as_the_copy_is() -> None:
    a, b = devices()
    a.create(F, file(1))
    node = a.disk[F].rows[0].node
    a.edit(F, file(2))
    b.receive(list(a.received.values()))
    b.put_unseen(F, node, file(1))
    b.edit(F, file(1))
    assert meet(a, b) == {F: file(2)}


def test_an_edit_back_to_an_older_content_is_no_touch() -> None:
    a, b = shared((F, file(1)))
    a.edit(F, file(2))
    meet(a, b)
    a.edit(F, file(1))
    b.edit(F, file(3))
    assert contents(meet(a, b)) == {file(1), file(3)}


def test_the_exec_bit_does_not_revive() -> None:
    a, b = shared((F, file(1)))
    a.set_executable(F, True)
    b.delete(F)
    assert meet(a, b) == {}


def test_an_old_content_moved_to_another_name_is_no_stale_copy() -> None:
    a, b = shared((F, file(1)))
    a.edit(F, file(2))
    a.create(G, file(1))  # the user kept the old content under another name
    b.rename(F, G)
    assert contents(meet(a, b)) == {file(1), file(2)}


def test_an_older_copy_created_at_the_same_place_is_stale() -> None:
    a, b = devices()
    a.create(F, file(1))
    a.edit(F, file(2))
    b.create(F, file(1))
    assert meet(a, b) == {F: file(2)}


@pytest.mark.parametrize("seed", range(60))
def test_h5_entries_beyond_a_pin_count_as_delivered_and_change_nothing(seed: int) -> None:
    """Quarantined entries leave the model; the engine is told of them in their place, in any order of arrival."""
    entries = run_history(seed, 3, 30).entries()
    rng = random.Random(seed)
    removed = rng.choice(sorted({entry.chain for entry in entries}))
    last = max(entry.seq for entry in entries if entry.chain == removed)
    pin = rng.randrange(last)
    shown = [entry for entry in entries if entry.chain != removed or entry.seq <= pin]
    view = View()
    for entry in shuffled(entries, rng):
        if entry.chain == removed and entry.seq > pin:
            view.void(entry.chain, entry.seq)
        else:
            view.apply(entry)
    assert engine_tree(view) == model_detail(shown)
    assert not any(view.covers(dot(entry.chain, entry.seq, 0)) for entry in entries if entry not in shown)
