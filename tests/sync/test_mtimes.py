"""The mtimes of files converge, and never make a conflict (P6, P16, P20; docs/spec/view.md 7). One file, one value."""

from __future__ import annotations

import pytest

from meshsync.content.record import Attr, Content, Place, Put
from meshsync.sync.actions import Move, SetAttr, WriteFile
from meshsync.sync.node import DIRECTORY
from meshsync.sync.safety import Before, Policy, suspects, weigh
from tests.model.compare import view_of
from tests.model.device_model import file, link
from tests.sync.device_twin import DeviceTwin, exchange, settle
from tests.sync.disk_twin import Path

D, F, G = (b"D",), (b"f",), (b"g",)
THEN_NS = 1_600_000_000_123_456_789


def pair(*files: tuple[Path, Content]) -> tuple[DeviceTwin, DeviceTwin]:
    """Two devices that have the same files."""
    one, other = DeviceTwin(1), DeviceTwin(2)
    for path, content in files:
        one.disk.write(path, content)
    settle(one, other)
    return one, other


def ops(device: DeviceTwin) -> list[object]:
    return [change.op for change in device.plan().publish.changes]


def contents(device: DeviceTwin) -> dict[Path, Content]:
    return {path: content for path, (content, _) in device.disk.tree().items()}


def is_at_rest(*devices: DeviceTwin) -> bool:
    plans = [device.plan() for device in devices]
    return not any(plan.publish or plan.apply or plan.settled or plan.forgotten for plan in plans)


# --- a touch -----------------------------------------------------------------------------------------------------


def test_a_touch_is_a_put_of_the_same_content_that_replaces_the_old_version() -> None:
    one, _ = pair((F, file(1)))
    base = one.synced.at(F)[0]
    one.disk.touch(F, THEN_NS)
    (op,) = ops(one)
    assert isinstance(op, Put) and (op.node, op.content, op.mtime_ns) == (base.node, file(1), THEN_NS)
    assert op.replaces == base.versions


def test_a_touch_travels_and_writes_no_content() -> None:
    one, other = pair((F, file(1)))
    inode = other.disk.scan().at(F).stat.inode  # type: ignore[union-attr]
    one.disk.touch(F, THEN_NS)
    one.publish()
    exchange(one, other)
    (action,) = other.publish().apply
    assert isinstance(action, SetAttr) and action.mtime_ns == THEN_NS
    other.do(action)
    found = other.disk.scan().at(F)
    assert found is not None and (found.stat.inode, found.stat.mtime_ns) == (inode, THEN_NS)
    assert is_at_rest(one, other)


def test_a_touched_file_that_moved_is_moved_and_touched() -> None:
    one, other = pair((F, file(1)))
    one.disk.rename(F, G)
    one.disk.touch(G, THEN_NS)
    assert [type(op) for op in ops(one)] == [Place, Put]
    one.publish()
    exchange(one, other)
    assert [type(action) for action in other.publish().apply] == [Move, SetAttr]
    settle(one, other)
    assert other.disk.mtimes() == {G: THEN_NS} and is_at_rest(one, other)


def test_a_touch_and_the_exec_bit_travel_together() -> None:
    one, other = pair((F, file(1)))
    one.disk.touch(F, THEN_NS)
    one.disk.set_executable(F, True)
    settle(one, other)
    assert other.disk.tree() == {F: (file(1), True)} and other.disk.mtimes() == {F: THEN_NS}
    assert is_at_rest(one, other)


def test_an_exec_bit_change_alone_moves_no_mtime() -> None:
    one, other = pair((F, file(1)))
    before = one.disk.mtimes()
    one.disk.set_executable(F, True)
    one.publish()
    exchange(one, other)
    (action,) = other.publish().apply
    assert isinstance(action, SetAttr) and action.mtime_ns is None
    settle(one, other)
    assert one.disk.mtimes() == other.disk.mtimes() == before


def test_many_touched_files_are_no_mass_rewrite() -> None:
    one, _ = pair(*(((b"%d" % number,), file(number)) for number in range(20)))
    for path in contents(one):
        one.disk.touch(path)
    assert len(ops(one)) == 20
    found = suspects(one.plan(), one.synced, one.view, one.device, {})
    policy = Policy(changes_min=5, deleted_share_max=0.5, rewritten_share_max=0.5)
    assert not weigh(found, one.synced, one.disk.scan(), one.view, Before(), policy).held


# --- both sides --------------------------------------------------------------------------------------------------


def test_equal_edits_with_different_mtimes_end_with_one_mtime_and_no_copy() -> None:
    one, other = pair((F, file(1)))
    one.disk.write(F, file(2))
    other.disk.write(F, file(2))
    assert one.disk.mtimes() != other.disk.mtimes()
    settle(one, other)
    assert contents(one) == contents(other) == {F: file(2)}
    assert one.disk.mtimes() == other.disk.mtimes() and is_at_rest(one, other)


def test_two_touches_end_with_the_mtime_of_the_later_stamp() -> None:
    one, other = pair((F, file(1)))
    one.disk.touch(F, THEN_NS + 1)
    other.disk.touch(F, THEN_NS)
    settle(one, other)
    assert contents(one) == contents(other) == {F: file(1)}
    assert one.disk.mtimes() == other.disk.mtimes() == {F: THEN_NS}, "device 2 comes after device 1 at one Lamport time"
    assert is_at_rest(one, other)


@pytest.mark.parametrize("touches", [1, 3])
def test_a_touch_against_an_edit_leaves_the_edit_and_no_copy(touches: int) -> None:
    one, other = pair((F, file(1)))
    for number in range(touches):
        one.disk.touch(F, THEN_NS + number)
        one.publish()
    other.disk.write(F, file(2))
    edited = other.disk.mtimes()
    settle(one, other)
    assert contents(one) == contents(other) == {F: file(2)}
    assert one.disk.mtimes() == other.disk.mtimes() == edited and is_at_rest(one, other)
    one.disk.delete(F)
    settle(one, other)
    assert not contents(other), "the touched version went with the edited one"


def test_a_touch_of_what_is_known_to_be_edited_is_told_to_nobody_and_cannot_come_back_without_its_content() -> None:
    one, other = pair((F, file(1)))
    other.disk.write(F, file(2))
    other.publish()
    one.disk.touch(F, THEN_NS)
    exchange(one, other)
    assert not ops(one)
    (action,) = one.publish().apply
    assert isinstance(action, WriteFile) and action.content == file(2)
    assert action.expected == one.disk.scan().at(F).stat, "the touched file is what is replaced"  # type: ignore[union-attr]
    other.disk.delete(F)
    one.sync()
    settle(one, other)
    assert contents(one) == contents(other) == {} and is_at_rest(one, other)


def test_a_touch_of_what_is_known_to_be_deleted_or_copied_still_counts() -> None:
    one, other = pair((F, file(1)))
    other.disk.delete(F)
    other.publish()
    one.disk.touch(F, THEN_NS)
    exchange(one, other)
    assert [type(op) for op in ops(one)] == [Put]
    settle(one, other)
    assert contents(one) == contents(other) == {F: file(1)} and is_at_rest(one, other)


def test_an_exec_bit_set_with_a_touch_of_what_is_known_to_be_edited_is_told_alone() -> None:
    one, other = pair((F, file(1)))
    other.disk.write(F, file(2))
    other.publish()
    one.disk.touch(F, THEN_NS)
    one.disk.set_executable(F, True)
    exchange(one, other)
    assert [type(op) for op in ops(one)] == [Attr]
    settle(one, other)
    assert contents(one) == contents(other) == {F: file(2)} and is_at_rest(one, other)


def test_a_touch_of_an_edit_is_as_good_as_the_edit() -> None:
    one, other = pair((F, file(1)))
    one.disk.write(F, file(2))
    one.publish()
    one.disk.touch(F, THEN_NS)
    other.disk.write(F, file(3))
    settle(one, other)
    assert set(contents(one).values()) == {file(2), file(3)} and contents(one) == contents(other)


def test_an_edit_back_to_an_older_content_is_no_touch() -> None:
    one, other = pair((F, file(1)))
    one.disk.write(F, file(2))
    settle(one, other)
    one.disk.write(F, file(1))
    other.disk.write(F, file(3))
    settle(one, other)
    assert set(contents(one).values()) == {file(1), file(3)} and contents(one) == contents(other)


def test_a_touch_counts_against_a_delete() -> None:
    one, other = pair((F, file(1)))
    one.disk.touch(F, THEN_NS)
    other.disk.delete(F)
    settle(one, other)
    assert contents(one) == contents(other) == {F: file(1)} and is_at_rest(one, other)


def test_files_shown_as_one_have_one_mtime() -> None:
    one, other = DeviceTwin(1), DeviceTwin(2)
    one.disk.write(F, file(1))
    other.disk.write(F, file(1))
    settle(one, other)
    assert one.disk.mtimes() == other.disk.mtimes() and is_at_rest(one, other)
    other.disk.touch(F, THEN_NS)
    settle(one, other)
    assert one.disk.mtimes() == other.disk.mtimes() == {F: THEN_NS} and is_at_rest(one, other)


# --- what is nobody's doing --------------------------------------------------------------------------------------


def test_a_stat_that_differs_in_anything_else_publishes_nothing() -> None:
    one, _ = pair((F, file(1)))
    one.disk.touch(F, one.disk.mtimes()[F])
    plan = one.plan()
    assert not plan.publish and [row.stat for row in plan.settled] == [one.disk.at(F).stat]  # type: ignore[union-attr]


def test_a_restart_publishes_nothing() -> None:
    one, other = pair((F, file(1)))
    one.disk.touch(F, THEN_NS)
    settle(one, other)
    for device in (one, other):
        device.view = view_of(device.log)
    assert is_at_rest(one, other)


def test_a_crash_before_an_mtime_is_recorded_publishes_nothing() -> None:
    one, other = pair((F, file(1)))
    one.disk.touch(F, THEN_NS)
    one.disk.set_executable(F, True)
    one.publish()
    exchange(one, other)
    (action,) = other.publish().apply
    other.do_and_crash(action)
    assert not other.publish().apply, "it is done already"
    settle(one, other)
    assert other.chain not in one.view.vector and is_at_rest(one, other)


def test_a_touch_between_a_crash_and_the_next_scan_converges() -> None:
    one, other = pair((F, file(1)))
    one.disk.write(F, file(2))
    one.publish()
    exchange(one, other)
    (action,) = other.publish().apply
    other.do_and_crash(action)
    other.disk.touch(F, THEN_NS)
    settle(one, other)
    assert one.disk.mtimes() == other.disk.mtimes() and is_at_rest(one, other)


def test_a_crash_between_a_move_and_its_attributes_undoes_neither() -> None:
    one, other = pair((F, file(1)))
    one.disk.rename(F, G)
    one.disk.touch(G, THEN_NS)
    one.disk.set_executable(G, True)
    one.publish()
    exchange(one, other)
    move, _ = other.publish().apply
    other.do_and_crash(move)
    settle(one, other)
    assert other.chain not in one.view.vector and is_at_rest(one, other)
    assert other.disk.tree() == {G: (file(1), True)} and other.disk.mtimes() == {G: THEN_NS}


def test_a_crash_before_written_content_is_recorded_publishes_nothing() -> None:
    one, other = pair((F, file(1)))
    one.disk.write(F, file(2))
    one.publish()
    exchange(one, other)
    (action,) = other.publish().apply
    other.do_and_crash(action)
    one.disk.write(F, file(3))
    one.publish()
    exchange(one, other)
    settle(one, other)
    assert other.chain not in one.view.vector and contents(other) == {F: file(3)}


def test_a_file_system_with_coarse_times_sends_no_mtime_back() -> None:
    one, other = DeviceTwin(1), DeviceTwin(2)
    other.disk.mtime_step_ns = 2_000_000_000
    one.disk.write(F, file(1))
    settle(one, other)
    one.disk.touch(F, THEN_NS)
    settle(one, other)
    assert one.disk.mtimes() == {F: THEN_NS} and other.disk.mtimes() == {F: THEN_NS - THEN_NS % 2_000_000_000}
    assert is_at_rest(one, other) and other.chain not in one.view.vector


def test_the_times_of_directories_and_links_stay_here() -> None:
    one, other = pair((F, link(1)))
    one.disk.make_directory(D)
    settle(one, other)
    before = other.disk.scan().at(D)
    for path in (D, F):
        one.disk.touch(path, THEN_NS)
    settle(one, other)
    assert not ops(one) and other.disk.scan().at(D) == before
    assert contents(other) == {D: DIRECTORY, F: link(1)} and is_at_rest(one, other)


# --- joining -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1, 2], ids=["an older version", "the newest version"])
def test_a_joiner_takes_the_shown_mtime_and_publishes_nothing(value: int) -> None:
    one, _ = pair((F, file(1)))
    one.disk.write(F, file(2))
    one.sync()
    late = DeviceTwin(3)
    late.disk.write(F, file(value))
    exchange(one, late)
    late.sync()
    assert late.chain not in late.view.vector
    assert contents(late) == {F: file(2)} and late.disk.mtimes() == one.disk.mtimes() and is_at_rest(late)


def test_a_touch_of_what_another_device_replaced_shows_nowhere() -> None:
    one, other = pair((F, file(1)))
    one.disk.write(F, file(2))
    other.disk.touch(F, THEN_NS)
    settle(one, other)
    assert one.disk.tree() == {F: (file(2), False)}
    versions = one.view.live_versions(one.synced.at(F)[0].node)
    assert [version.content for version in versions if one.view.is_shown(version.dot)] == [file(2)]
    assert [version.content for version in versions if not one.view.is_shown(version.dot)] == [file(1)]
