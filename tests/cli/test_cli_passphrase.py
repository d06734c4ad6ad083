"""`passphrase` and what `up` does with it, with a real agent's process."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.real_mesh import BIN, Device, Mesh, clean_environment

pytestmark = pytest.mark.slow


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with Mesh(tmp_path) as mesh:
        yield mesh.add("laptop")


def file_with(tmp_path: Path, text: str) -> str:
    path = tmp_path / f"passphrase-{len(text)}"
    path.write_text(text + "\n")
    path.chmod(0o600)
    return str(path)


def test_up_needs_it_and_the_device_stays_the_same(device: Device, tmp_path: Path) -> None:
    before = device.status()["device"]
    file = file_with(tmp_path, "correct horse")
    given = {"MESHSYNC_PASSPHRASE_FILE": file}
    assert device.cli("passphrase", "set", "--new-file", file) == {"schema": 1, "sealed": True, "before": False}
    assert device.status()["device"] == before  # the agent that runs goes on
    device.down()
    device.cli("up", code=1)
    device.cli("up", environment={"MESHSYNC_PASSPHRASE_FILE": file_with(tmp_path, "wrong horse")}, code=1)
    assert not device.home.socket.exists()
    device.up(environment=given)
    assert device.status()["device"] == before
    environment = Path(f"/proc/{device.pid}/environ").read_bytes()
    command = Path(f"/proc/{device.pid}/cmdline").read_bytes()
    assert b"correct horse" not in environment + command
    device.cli("passphrase", "remove", code=1)
    assert device.cli("passphrase", "remove", environment=given)["sealed"] is False
    device.down()
    device.up()
    assert device.status()["device"] == before


def test_a_wrong_one_for_new_options_changes_nothing_and_the_agent_goes_on(device: Device, tmp_path: Path) -> None:
    right, wrong = (file_with(tmp_path, text) for text in ("correct horse", "wrong horse"))
    device.cli("passphrase", "set", "--new-file", right)
    before, options = device.pid, device.home.config.read_bytes()
    device.cli("up", "--name", "other", code=1)
    device.cli("up", "--name", "other", environment={"MESHSYNC_PASSPHRASE_FILE": wrong}, code=1)
    assert device.home.config.read_bytes() == options
    assert device.pid == before and device.status()["device"]["name"] == "laptop"
    device.cli("up", "--name", "other", environment={"MESHSYNC_PASSPHRASE_FILE": right})
    assert device.pid != before and device.status()["device"]["name"] == "other"


def test_a_supervisor_hands_it_on_by_a_descriptor(device: Device, tmp_path: Path) -> None:
    device.down()
    device.cli("passphrase", "set", "--new-file", file_with(tmp_path, "correct horse"))
    reading, writing = os.pipe()
    os.write(writing, b"correct horse\n")
    os.close(writing)
    line = [str(BIN / "meshsync"), "up", "--foreground", "--home", str(device.home.path)]
    environment = {**clean_environment(), "MESHSYNC_PASSPHRASE_FD": str(reading)}
    with subprocess.Popen(line, env=environment, pass_fds=(reading,), stdout=subprocess.PIPE) as agent:
        os.close(reading)
        assert agent.stdout is not None
        ready = json.loads(agent.stdout.readline())
        assert ready["ready"] and device.status()["device"] == ready["device"]
        agent.terminate()
        assert agent.wait(10) == 0


def test_a_key_that_others_can_read_is_refused_with_the_command_that_ends_it(device: Device) -> None:
    device.down()
    device.home.device_key.chmod(0o644)
    device.cli("up", code=2)
    device.home.device_key.chmod(0o600)
    device.up()
