"""One file shared by itself, with the commands, between processes of agents and a relay (decision 0010)."""

from __future__ import annotations

import random

import pytest

from tests.support.real_mesh import Device, Mesh, until

pytestmark = pytest.mark.slow
BODY = random.Random(7).randbytes(3 << 20)
SECRET = b"written for members only " * 4000


def files_of(device: Device) -> list[dict[str, object]]:
    found: list[dict[str, object]] = device.status()["shared_files"]
    return found


def test_it_comes_through_the_relay_alone_follows_and_is_taken_back(mesh: Mesh) -> None:
    mesh.relay.up()
    laptop, desk = mesh.add("laptop"), mesh.add("desk")
    (laptop.tree / "plan.bin").write_bytes(BODY)
    (laptop.tree / "members only").write_bytes(SECRET)
    laptop.cli("share", str(laptop.tree))
    laptop.cli("wait", "--durable")
    shared = laptop.cli("share", str(laptop.tree / "plan.bin"))
    assert shared["is_file"] and shared["stored"]
    laptop.cli("down")
    joined = desk.cli("join", shared["ticket"], str(desk.tree / "mine"))
    assert (joined["name"], joined["route"], joined["path"]) == ("plan.bin", "relay", str(desk.tree / "mine"))
    assert (desk.tree / "mine").read_bytes() == BODY
    assert desk.status()["folders"] == [] and [file["state"] for file in files_of(desk)] == ["up to date"]

    laptop.up()
    edited = BODY[: 1 << 20] + b"edited" + BODY[(1 << 20) + 6 :]
    (laptop.tree / "plan.bin").write_bytes(edited)
    until(lambda: (desk.tree / "mine").read_bytes() == edited, lambda: files_of(desk))

    laptop.cli("revoke", str(laptop.tree / "plan.bin"), "--yes")
    (laptop.tree / "plan.bin").write_bytes(b"not for the desk")
    laptop.cli("wait", "--durable")
    assert (desk.tree / "mine").read_bytes() == edited
    for device in (laptop, desk):
        device.cli("down")
    mesh.relay.down()

    disk = b"".join(path.read_bytes() for path in mesh.relay.data.rglob("*") if path.is_file())
    for told in (b"plan.bin", b"members only", SECRET[:25], BODY[:64]):
        assert told not in disk
