"""Histories in which random users of the planner (`planner_seeds`) once broke a promise, each in its shortest form."""

from __future__ import annotations

import pytest

from meshsync.agent.work import group_actions
from meshsync.content.record import Drop
from meshsync.sync.actions import Move, Remove, WriteFile, nodes_of
from meshsync.sync.reconcile import NOTHING_FROZEN, Frozen
from tests.model.device_model import file
from tests.sync.device_twin import DeviceTwin, exchange, settle
from tests.sync.disk_twin import Path

A, B, C = (b"a",), (b"b",), (b"c",)


def two(*files: Path) -> tuple[DeviceTwin, DeviceTwin]:
    """Two devices with the same files, each in its directory."""
    one, other = DeviceTwin(1), DeviceTwin(2)
    for value, path in enumerate(files, 1):
        if len(path) > 1 and one.disk.at(path[:-1]) is None:
            one.disk.make_directory(path[:-1])
        one.disk.write(path, file(value))
    settle(one, other)
    return one, other


@pytest.mark.parametrize("by_the_first", [True, False])
def test_what_is_removed_after_two_moves_into_each_other_is_gone(by_the_first: bool) -> None:
    one, other = two((b"a", b"x"), (b"b", b"y"))
    one.disk.rename(A, (b"b", b"a"))
    other.disk.rename(B, (b"a", b"b"))
    settle(one, other)
    (top,) = [path for path in one.disk.tree() if len(path) == 1]
    remover = one if by_the_first else other
    remover.disk.delete(top)
    settle(one, other)
    assert one.disk.tree() == other.disk.tree() == {}


def test_what_a_planned_exchange_displaces_is_planned_again_when_its_partner_is_gone() -> None:
    one, other = two((b"b", b"x"), (b"c", b"x"))
    one.scoped = True
    other.disk.rename(B, (b"~",))
    other.disk.rename((b"c", b"x"), B)
    other.disk.rename((b"~",), (b"c", b"x"))
    other.publish()
    exchange(one, other)
    plan = one.publish()
    assert [type(action) for action in plan.apply] == [Move]
    displaced = one.synced.at(B)[0].node
    assert displaced in nodes_of(plan.apply[0]) and plan.apply[0].node != displaced
    other.disk.delete(B)  # the file that was to take the directory's place
    settle(one, other)
    assert one.disk.tree() == other.disk.tree()
    assert not one.plan().apply


def test_a_directory_that_went_to_the_place_of_a_held_removal_is_not_removed_elsewhere() -> None:
    one, other = two((b"b", b"y"), (b"c", b"x"))
    at = (b"c", b"x")
    held = frozenset(row.node for row in one.synced.at(at))
    one.disk.delete(at)
    one.disk.rename(B, at)
    one.frozen = Frozen(frozenset([at]), held)
    plan = one.publish()
    assert not any(isinstance(op, Drop) for entry in one.log for op in entry.ops) and not plan.apply
    exchange(one, other)
    other.sync()
    assert (b"b", b"y") in other.disk.tree()
    one.frozen = NOTHING_FROZEN
    settle(one, other)
    assert one.disk.tree() == other.disk.tree() and set(other.disk.tree()) == {C, at, (*at, b"y")}


def test_what_lies_in_the_place_of_something_held_is_published_once_and_only_after_it() -> None:
    one, other = two((b"c", b"x"), (b"d", b"y"))
    at, held = (b"d", b"y"), frozenset(row.node for row in one.synced.at((b"d", b"y")))
    one.disk.delete(at)
    one.disk.make_directory(at)
    one.frozen = Frozen(frozenset([at]), held)
    one.disk.rename((b"c",), (*at, b"c"))
    one.disk.write(C, file(3))
    one.publish()
    entries = len(one.log)
    one.publish()
    assert len(one.log) == entries
    one.frozen = NOTHING_FROZEN
    settle(one, other)
    assert one.disk.tree() == other.disk.tree() and one.disk.tree()[C] == (file(3), False)


def test_a_directory_stays_while_the_removal_of_what_is_in_it_is_held() -> None:
    one, other = two((b"c", b"x"), (b"c", b"y"))
    at = (b"c", b"x")
    one.disk.delete(at)
    one.frozen = Frozen(frozenset([at]), frozenset(row.node for row in one.synced.at(at)))
    one.publish()
    one.disk.delete(C)
    one.disk.write(C, file(3))
    one.publish()
    assert all(one.synced.path_of(node) is not None for node in one.synced.rows)
    exchange(one, other)
    other.sync()
    one.frozen = NOTHING_FROZEN
    settle(one, other)
    assert one.disk.tree() == other.disk.tree() == {C: (file(3), False)}


def test_what_lies_in_a_conflict_copy_only_is_there_until_it_is_the_file_again() -> None:
    one, other = two(C)
    other.disk.write(C, file(5))
    other.publish()
    one.disk.write(C, file(6))
    one.publish()
    one.disk.write(C, file(7))  # later than the other's: this one has the name
    one.publish()
    exchange(one, other)
    other.sync()
    (copy,) = other.disk.tree().keys() - {C}
    one.disk.delete(C)  # before the copy came: only the own version is dropped
    one.publish()
    exchange(one, other)
    actions = other.publish().apply
    (written,) = (action for action in actions if isinstance(action, WriteFile))
    (removed,) = (action for action in actions if isinstance(action, Remove))
    assert (written.target, written.content, removed.target) == (C, file(5), copy)
    (group,) = group_actions(actions)
    assert group.waiting == {written.node}, "nothing of it begins before the content is staged"
    settle(one, other)
    assert one.disk.tree() == other.disk.tree() == {C: (file(5), False)}
