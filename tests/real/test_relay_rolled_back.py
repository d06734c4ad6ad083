"""A relay whose operator put an older copy of its data back: proven, told, left alone; the devices go on (B11)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.real_mesh import Device, Mesh, Relay, settle, until

pytestmark = pytest.mark.slow

FIND_S = 150.0  # pauses between two dials grow to a minute and more


def told_of_a_relay(device: Device) -> list[dict[str, str]]:
    return [item for item in device.status()["health"] if "serves an older log" in item["what"]]


def evidence_of(device: Device) -> Path:
    (found,) = device.home.path.glob("folders/*/evidence/*.evidence")
    return found


def test_an_older_copy_of_its_data_convicts_it_and_another_relay_takes_its_place(mesh: Mesh, tmp_path: Path) -> None:
    laptop, desk = mesh.pair(["laptop", "desk"], relay=True)
    (laptop.tree / "kept").write_text("in the older copy too")
    settle([laptop, desk], durable=True)
    mesh.relay.down()
    shutil.copytree(mesh.relay.data, tmp_path / "copy")
    mesh.relay.up()
    (laptop.tree / "plan").write_text("stored after the copy was made")
    settle([laptop, desk], durable=True, timeout_s=FIND_S)
    mesh.relay.down()
    shutil.rmtree(mesh.relay.data)
    shutil.copytree(tmp_path / "copy", mesh.relay.data)
    mesh.relay.up()
    until(lambda: bool(told_of_a_relay(laptop) and told_of_a_relay(desk)), laptop.status, FIND_S)
    for device in (laptop, desk):
        (item,) = told_of_a_relay(device)
        evidence = evidence_of(device)
        assert str(evidence) in item["why"] and item["code"] == "IntegrityError"
        assert evidence.stat().st_mode & 0o777 == 0o600
        alone = tmp_path / f"sent by {device.name}"
        shutil.copy(evidence, alone)
        line = [sys.executable, "-m", "meshsync.evidence", str(alone)]
        checked = subprocess.run(line, capture_output=True, text=True, check=False)
        assert checked.returncode == 0 and "went back behind what it had acknowledged" in checked.stdout
        assert device.folder()["not_durable"] == device.folder()["versions"] > 0
        checks = device.cli("doctor", code=1)["checks"]
        assert [one["ok"] for one in checks if "serves an older log" in one["what"]] == [False]
    (desk.tree / "answer").write_text("written while no relay is believed")
    settle([laptop, desk])
    laptop.down()
    laptop.up()
    assert len(told_of_a_relay(laptop)) == 1, "a start makes nobody trust it again"

    other = Relay(tmp_path / "other operator")
    (tmp_path / "other operator").mkdir()
    try:
        other.up()
        laptop.down()
        listen = f"127.0.0.1:{laptop.port}"
        laptop.cli("up", "--name", "laptop", "--no-discovery", "--listen", listen, "--relay", other.url)
        settle([laptop, desk], durable=True, timeout_s=FIND_S)
        assert laptop.folder()["not_durable"] == desk.folder()["not_durable"] == 0
        assert len(told_of_a_relay(laptop)) == 1
    finally:
        other.down()
