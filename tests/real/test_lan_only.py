"""Devices without a relay: changes in each direction, edits while apart, returns."""

from __future__ import annotations

import pytest

from tests.real.trees import small_files
from tests.support.real_mesh import Device, Mesh, settle

pytestmark = pytest.mark.slow


def change(device: Device, others_name: str) -> None:
    """Create, edit, rename and delete on one device, each touching what only it touches."""
    tree, name = device.tree, device.name
    small_files(tree / f"of {name}", count=30, seed=len(name))
    (tree / f"edited by {name}").write_text(f"edited by {name}")
    (tree / f"renamed by {name}").rename(tree / f"new name by {name}")
    (tree / f"deleted by {name}").unlink()
    (tree / others_name).mkdir(exist_ok=True)


def prepare(device: Device, names: list[str]) -> None:
    for name in names:
        for what in ("edited", "renamed", "deleted"):
            (device.tree / f"{what} by {name}").write_text(f"to be {what} by {name}")


def check(device: Device, names: list[str]) -> None:
    for name in names:
        assert (device.tree / f"edited by {name}").read_text() == f"edited by {name}"
        assert (device.tree / f"new name by {name}").read_text() == f"to be renamed by {name}"
        assert not (device.tree / f"deleted by {name}").exists()
        assert not (device.tree / f"renamed by {name}").exists()


@pytest.mark.parametrize("names", [["laptop", "desk"], ["laptop", "desk", "phone"]], ids=["two", "three"])
def test_changes_of_each_device_reach_the_others(mesh: Mesh, names: list[str]) -> None:
    devices = mesh.pair(names, relay=False)
    prepare(devices[0], names)
    settle(devices)
    for device in devices:
        change(device, "made by all")
    settle(devices)
    check(devices[-1], names)
    assert all(device.folder()["conflicts"] == 0 for device in devices)


@pytest.mark.parametrize("names", [["laptop", "desk"], ["laptop", "desk", "phone"]], ids=["two", "three"])
def test_edits_while_all_are_off_meet_when_they_return(mesh: Mesh, names: list[str]) -> None:
    devices = mesh.pair(names, relay=False)
    prepare(devices[0], names)
    settle(devices)
    for device in devices:
        device.down()
    for device in devices:
        change(device, "made by all")
    for device in devices:
        device.up()
    settle(devices)
    check(devices[0], names)
    assert all(device.folder()["conflicts"] == 0 for device in devices)


def test_a_device_that_comes_back_catches_up_through_one_that_was_there_all_along(mesh: Mesh) -> None:
    laptop, desk, phone = mesh.pair(["laptop", "desk", "phone"], relay=False)
    settle([laptop, desk, phone])
    phone.down()
    (desk.tree / "of the desk").write_text("made while the phone was off")
    settle([laptop, desk])
    desk.down()
    phone.up()
    settle([laptop, phone])
    assert (phone.tree / "of the desk").read_text() == "made while the phone was off"
