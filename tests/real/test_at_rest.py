"""At rest: a restart of everything transfers and publishes nothing; idle means idle."""

from __future__ import annotations

import select
from pathlib import Path

import pytest

from tests.real.trees import observe, small_files
from tests.support.real_mesh import Device, Mesh, settle

pytestmark = pytest.mark.slow
QUIET_S = 5.0
KEEP_ALIVE_BYTES_MAX = 8 * 1024  # of one agent in QUIET_S, over two links
HANDSHAKE_BYTES_MAX = 128 * 1024  # of one agent that starts: two links, heads


def published(device: Device) -> tuple[int, int]:
    return int(device.folder()["versions"]), int(device.stats()["entries_published"])


def times(tree: Path) -> dict[bytes, int]:
    """Return the change times of everything below a tree, its control directory included."""
    found = {bytes(path): path.lstat().st_ctime_ns for path in tree.rglob("*")}
    return {bytes(tree): tree.lstat().st_ctime_ns, **found}


@pytest.fixture
def devices(mesh: Mesh) -> list[Device]:
    made = mesh.pair(["laptop", "desk"], relay=True)
    small_files(made[0].tree, count=300)
    (made[0].tree / "link").symlink_to("00")
    (made[0].tree / "empty").mkdir()
    settle(made, durable=True)
    return made


def test_a_restart_of_everything_transfers_and_publishes_nothing(mesh: Mesh, devices: list[Device]) -> None:
    before = [observe(device.tree) for device in devices]
    versions = [device.folder()["versions"] for device in devices]
    for device in devices:
        device.down()
    mesh.relay.down()
    mesh.relay.up()
    for device in devices:
        device.up()
    settle(devices, durable=True)
    assert [device.fetched() for device in devices] == [0, 0]
    assert [published(device) for device in devices] == [(count, 0) for count in versions]
    assert [device.folder()["conflicts"] for device in devices] == [0, 0]
    assert [observe(device.tree) for device in devices] == before
    assert max(device.wire() for device in devices) <= HANDSHAKE_BYTES_MAX


def test_idle_means_idle(mesh: Mesh, devices: list[Device]) -> None:
    select.select([], [], [], QUIET_S)  # the last acknowledgements and second looks at fresh files
    wire, seen = [device.wire() for device in devices], [times(device.tree) for device in devices]
    select.select([], [], [], QUIET_S)
    after = [device.wire() for device in devices]
    assert max(now - then for now, then in zip(after, wire, strict=True)) <= KEEP_ALIVE_BYTES_MAX
    assert [times(device.tree) for device in devices] == seen
    assert [device.status()["idle"] for device in devices] == [True, True]


def test_a_touched_file_is_no_new_content(devices: list[Device]) -> None:
    laptop, desk = devices
    fetched = desk.fetched()
    for path in laptop.tree.glob("00/*"):
        path.touch()
    settle(devices, durable=True)
    assert desk.fetched() == fetched
    assert laptop.folder()["conflicts"] == 0
