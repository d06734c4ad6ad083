"""Who brings the content of a conflict copy to the path itself means it to be there (P1)."""

from __future__ import annotations

import pytest

from meshsync.sync.actions import WriteFile
from tests.model.device_model import file
from tests.sync.device_twin import DeviceTwin, exchange, settle
from tests.sync.disk_twin import Path

F = (b"f",)
CONTENTS = [file(3), file(2)]


def edited_twice() -> tuple[list[DeviceTwin], Path]:
    """Return three devices: two edited a file, the third knows of it and has nothing of it on disk but the copy."""
    one, other, third = (DeviceTwin(number) for number in (1, 2, 3))
    one.disk.write(F, file(1))
    settle(one, other, third)
    other.disk.write(F, file(2))
    third.disk.write(F, file(3))
    other.publish()
    third.publish()
    exchange(one, other, third)
    plan = one.publish()
    (write,) = (each for each in plan.apply if isinstance(each, WriteFile) and each.target != F)
    one.do(write)
    assert isinstance(write.target, tuple) and write.content in CONTENTS
    return [one, other, third], write.target


def contents(device: DeviceTwin) -> set[object]:
    return {content for content, _ in device.disk.tree().values()}


@pytest.mark.parametrize("removed_first", [False, True], ids=["over the file", "where the file was removed"])
def test_what_was_copied_from_the_copy_stays_when_the_copy_is_edited(removed_first: bool) -> None:
    devices, copy = edited_twice()
    one = devices[0]
    there = one.disk.at(copy)
    assert there is not None
    if removed_first:
        one.disk.delete(F)
        one.publish()
    one.disk.write(F, there.content)
    one.publish()
    one.disk.write(copy, file(6))
    settle(*devices)
    settle(*devices)
    for device in devices:
        assert contents(device) == {file(2), file(3), file(6)}


def test_what_was_swapped_with_the_copy_stays() -> None:
    devices, copy = edited_twice()
    one = devices[0]
    one.disk.rename(F, (b"aside",))
    one.disk.rename(copy, F)
    one.disk.rename((b"aside",), copy)
    settle(*devices)
    settle(*devices)
    for device in devices:
        assert {file(2), file(3)} <= contents(device)
