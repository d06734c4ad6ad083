"""What is hidden for nothing but a conflict copy does not show again when somebody acts on the copy (P6, P20).

One edited a file, another touched it, a third brought a file of its own to the same path: the third's shows, the edit
is its conflict copy, and the touch, which adds nothing to the edit, is hidden.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from meshsync.sync.node import DIRECTORY
from tests.model.device_model import file
from tests.sync.device_twin import DeviceTwin, exchange, settle
from tests.sync.disk_twin import Path

F, NEW, D = (b"f",), (b"new",), (b"D",)
Act = Callable[[DeviceTwin, Path], None]


def meshed() -> tuple[list[DeviceTwin], Path]:
    """Return three devices at rest, and the path of the conflict copy."""
    one, other, third = DeviceTwin(1), DeviceTwin(2), DeviceTwin(3)
    one.disk.write(F, file(1))
    settle(one, other)
    one.disk.write(F, file(2))
    other.disk.touch(F)
    third.disk.write(F, file(3))
    one.publish()
    other.publish()
    exchange(one, other, third)
    third.publish()
    settle(one, other, third)
    trees = {path: content for path, (content, _) in one.disk.tree().items()}
    (copy,) = trees.keys() - {F}
    assert trees == {F: file(3), copy: file(2)}
    return [one, other, third], copy


def edit_the_copy(device: DeviceTwin, copy: Path) -> None:
    device.disk.write(copy, file(4))


def delete_the_copy(device: DeviceTwin, copy: Path) -> None:
    device.disk.delete(copy)


def move_the_copy(device: DeviceTwin, copy: Path) -> None:
    device.disk.rename(copy, NEW)


def move_both_apart(device: DeviceTwin, copy: Path) -> None:
    device.disk.rename(F, NEW)
    device.disk.make_directory(D)
    device.disk.rename(copy, (*D, b"f"))


def touch_the_copy(device: DeviceTwin, copy: Path) -> None:
    device.disk.touch(copy)


def move_the_file(device: DeviceTwin, copy: Path) -> None:
    device.disk.rename(F, NEW)


def edit_the_file(device: DeviceTwin, copy: Path) -> None:
    device.disk.write(F, file(4))


def delete_the_file(device: DeviceTwin, copy: Path) -> None:
    device.disk.delete(F)


ACTS = [
    edit_the_copy,
    delete_the_copy,
    move_the_copy,
    move_both_apart,
    touch_the_copy,
    move_the_file,
    edit_the_file,
    delete_the_file,
]


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("who", [0, 1, 2])
def test_what_a_user_did_is_what_all_see(act: Act, who: int) -> None:
    devices, copy = meshed()
    act(devices[who], copy)
    done = {path: content for path, (content, _) in devices[who].disk.tree().items()}
    settle(*devices)
    for device in devices:
        assert {path: content for path, (content, _) in device.disk.tree().items()} == done
    assert not any(device.plan().publish for device in devices)
    assert all(content != file(1) for content in done.values()) and DIRECTORY not in (done.get(F), done.get(copy))
