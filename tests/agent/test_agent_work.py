"""Groups of actions may be carried out as their contents arrive: every permitted order ends like the plan itself."""

from __future__ import annotations

import random

import pytest

from meshsync.agent.work import group_actions, may_begin, with_later
from meshsync.content.record import Content, Kind
from meshsync.ids import Dot, NodeId
from meshsync.sync.actions import Action, MakeDirectory, Move, Remove, WriteFile
from meshsync.sync.disk_rows import Path, Stat
from tests.sync.device_twin import DeviceTwin, exchange
from tests.sync.test_sync_histories import run_history, view_tree

STAT = Stat(1, 1, 1, 1, 1)


def write(path: bytes) -> WriteFile:
    place = tuple(path.split(b"/"))
    return WriteFile(NodeId(path), place, Content(Kind.FILE, 1), Dot(path), False, 1, None, (), ())


def make(path: bytes) -> MakeDirectory:
    return MakeDirectory(NodeId(path), tuple(path.split(b"/")), ())


def move(source: bytes, target: bytes, *, both: bool = False) -> Move:
    places: tuple[Path, Path] = (tuple(source.split(b"/")), tuple(target.split(b"/")))
    return Move(NodeId(source), *places, both, STAT, STAT if both else None, ())


def remove(path: bytes) -> Remove:
    return Remove(NodeId(path), tuple(path.split(b"/")), Kind.DIRECTORY, STAT, (), ())


def begun(*actions: Action, staged: tuple[bytes, ...] = ()) -> list[list[Action]]:
    """Return the groups that may begin at once, while only some contents are there."""
    groups = group_actions(actions, [NodeId(node) for node in staged])
    return [group.actions for group in may_begin(groups, lambda group: not group.waiting)]


def test_files_in_a_new_directory_do_not_wait_for_each_other() -> None:
    actions = make(b"d"), write(b"d/one"), write(b"d/two")
    assert begun(*actions, staged=(b"d/two",)) == [[actions[0]], [actions[2]]]


def test_what_goes_into_a_directory_that_moves_waits_until_it_moved() -> None:
    actions = move(b"d", b"e"), write(b"e/f")
    assert begun(*actions, staged=(b"e/f",)) == [[actions[0]]]


def test_a_directory_that_waits_for_content_holds_up_what_goes_into_it() -> None:
    """Else the new file would be written into the directory that leaves its place."""
    actions = move(b"d", b"e", both=True), write(b"e"), write(b"d/f")
    assert begun(*actions, staged=(b"d/f",)) == []


def test_a_directory_moves_when_what_was_to_leave_it_left() -> None:
    actions = move(b"d/f", b"f"), write(b"f"), move(b"d", b"e")
    assert begun(*actions) == []


def test_a_directory_is_removed_after_what_was_in_it() -> None:
    actions = move(b"d/f", b"f"), remove(b"d")
    assert begun(*actions) == [[actions[0]], [actions[1]]]


def test_actions_that_wait_for_each_other_are_one_group() -> None:
    actions = move(b"d/f", b"p"), move(b"d", b"e"), move(b"p", b"e/f")
    (group,) = group_actions(actions)
    assert group.actions == list(actions)


def test_with_a_group_goes_what_was_to_come_after_it() -> None:
    groups = group_actions([move(b"d", b"e"), write(b"e/f"), write(b"g")])
    assert with_later(groups, {groups[0]}) == set(groups[:2])


def carry_out(rng: random.Random, device: DeviceTwin) -> None:
    """Apply a plan group by group in any permitted order; no expectation of an action may fail."""
    groups = group_actions(device.publish().apply)
    while groups:
        group = rng.choice(may_begin(groups, lambda _: True, together=False))
        for action in group.actions:
            device.do(action)
        groups.remove(group)


@pytest.mark.parametrize("seed", range(80))
def test_every_permitted_order_brings_about_the_view(seed: int) -> None:
    rng = random.Random(seed)
    devices = run_history(seed, 3, 40, False).devices
    for _ in range(2):
        for device in devices:
            device.publish()
        exchange(*devices)
        for device in devices:
            carry_out(rng, device)
            plan = device.publish()
            assert not plan.apply, "carried out, and not done"
            assert device.disk.tree() == view_tree(device.view)
            assert not device.disk.parked
