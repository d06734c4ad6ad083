"""A directory that somebody removed goes in the end, however the plans for it and for what is in it fall apart (P2)."""

from __future__ import annotations

from meshsync.sync.reconcile import NOTHING_FROZEN, Frozen, Scope
from tests.model.device_model import file
from tests.sync.device_twin import DeviceTwin, exchange, settle

D, F = (b"D",), (b"D", b"f")
NOTHING = Scope(frozenset(), frozenset())


def removed_elsewhere() -> tuple[DeviceTwin, DeviceTwin]:
    """Two devices; one has removed a directory with a file in it, and the other knows of it."""
    one, other = DeviceTwin(1), DeviceTwin(2)
    one.disk.make_directory(D)
    one.disk.write(F, file(1))
    settle(one, other)
    one.disk.delete(D)
    one.publish()
    exchange(one, other)
    return one, other


def test_a_plan_for_the_directory_alone_removes_what_is_in_it_too() -> None:
    _, other = removed_elsewhere()
    directory = other.synced.at(D)[0].node
    plan = other.plan(Scope(frozenset(), frozenset([directory])))
    assert [action.target for action in plan.apply] == [F, D]


def test_a_directory_that_waits_for_what_is_held_in_it_is_named_as_waiting() -> None:
    _, other = removed_elsewhere()
    directory, inside = other.synced.at(D)[0].node, other.synced.at(F)[0].node
    other.frozen = Frozen(nodes=frozenset([inside]))
    plan = other.plan()
    assert plan.apply == [] and plan.waiting >= {directory} and not plan.undone


def test_a_directory_that_holds_something_new_is_planned_again() -> None:
    one, other = removed_elsewhere()
    directory = other.synced.at(D)[0].node
    other.disk.write((b"D", b"new"), file(2))
    plan = other.plan(Scope(frozenset(), frozenset([directory])))
    assert directory in plan.undone | plan.waiting
    other.frozen = NOTHING_FROZEN
    settle(one, other)
    assert set(one.disk.tree()) == set(other.disk.tree()) == {D, (b"D", b"new")}
