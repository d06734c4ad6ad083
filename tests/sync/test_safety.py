"""The brake: what looks like an accident is held (P14, `semantics.md` 4.8)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from meshsync.sync.safety import Held, Policy, Side, Why, check
from tests.model.device_model import file
from tests.sync.device_twin import DeviceTwin, exchange, settle

COUNT = 20
POLICY = Policy(changes_min=5, share_max=0.5)


def filled() -> DeviceTwin:
    device = DeviceTwin(1)
    for number in range(COUNT):
        device.disk.write((b"%d" % number,), file(number))
    device.sync()
    return device


def delete(device: DeviceTwin, count: int) -> None:
    for number in range(count):
        device.disk.delete((b"%d" % number,))


def rewrite(device: DeviceTwin, count: int) -> None:
    for number in range(count):
        device.disk.write((b"%d" % number,), file(1000 + number))


CASES: dict[str, tuple[Callable[[DeviceTwin, int], None], int, Held | None]] = {
    "few deletions pass": (delete, 5, None),
    "more than the share are held": (delete, 11, Held(Side.PUBLISH, Why.MASS_DELETION, 11, COUNT)),
    "an emptied folder is held": (delete, COUNT, Held(Side.PUBLISH, Why.EMPTIED, COUNT, COUNT)),
    "few edits pass": (rewrite, 10, None),
    "most files rewritten is held": (rewrite, 11, Held(Side.PUBLISH, Why.MASS_REWRITE, 11, COUNT)),
}


@pytest.mark.parametrize("rule", CASES)
def test_publishing(rule: str) -> None:
    act, count, want = CASES[rule]
    device = filled()
    act(device, count)
    assert check(device.plan(), device.synced, device.disk.scan(), POLICY) == want


def test_a_small_emptied_folder_is_held_too() -> None:
    device = DeviceTwin(1)
    device.disk.write((b"f",), file(1))
    device.sync()
    device.disk.delete((b"f",))
    held = check(device.plan(), device.synced, device.disk.scan(), Policy())
    assert held == Held(Side.PUBLISH, Why.EMPTIED, 1, 1)


def test_a_mass_deletion_by_another_device_is_held_before_it_is_applied() -> None:
    one, other = filled(), DeviceTwin(2)
    settle(one, other)
    delete(one, 15)
    one.publish()
    exchange(one, other)
    held = check(other.plan(), other.synced, other.disk.scan(), POLICY)
    assert held == Held(Side.APPLY, Why.MASS_DELETION, 15, COUNT)


def test_what_was_released_passes() -> None:
    device = filled()
    delete(device, COUNT)
    policy = Policy(5, 0.5, frozenset({Side.PUBLISH}))
    assert check(device.plan(), device.synced, device.disk.scan(), policy) is None
