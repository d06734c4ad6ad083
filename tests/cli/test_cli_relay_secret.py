"""A relay's invitation is in no list of processes: command line and environment of a real agent, however it is told."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshsync.wire.relay_address import parse_relay_address
from tests.support.real_mesh import BIN, Device, Mesh, clean_environment, running, until

pytestmark = pytest.mark.slow


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    with Mesh(tmp_path) as mesh:
        mesh.relay.up()
        yield mesh


def typed(device: Device, url: str) -> None:
    device.cli("up", "--relay", url)


def in_the_environment(device: Device, url: str) -> None:
    device.cli("up", environment={"MESHSYNC_UP_RELAY": url})


def kept_from_before(device: Device, url: str) -> None:
    device.cli("up", "--relay", url)
    device.down()
    device.cli("up")


@pytest.mark.parametrize("told", [typed, in_the_environment, kept_from_before])
def test_the_agent_knows_the_invitation_and_no_other_user_reads_it(
    mesh: Mesh, told: Callable[[Device, str], None]
) -> None:
    url = mesh.relay.url
    device = without_relay(mesh)
    told(device, url)
    until(lambda: connected(device), device.status)
    nowhere(device.pid, url)


def test_nor_from_an_agent_in_the_foreground(mesh: Mesh) -> None:
    url = mesh.relay.url
    device = without_relay(mesh)
    device.down()
    line = [str(BIN / "meshsync"), "up", "--foreground", "--home", str(device.home.path), "--relay", url]
    environment = {**clean_environment(), "MESHSYNC_UP_RELAY": url}
    with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE) as agent:
        try:
            assert agent.stdout is not None
            assert json.loads(agent.stdout.readline())["ready"]
            until(lambda: connected(device), device.status)
            nowhere(agent.pid, url)
        finally:
            agent.terminate()
        assert agent.wait(10) == 0


def test_a_setting_that_no_agent_can_take_is_told_and_starts_none(mesh: Mesh) -> None:
    device = without_relay(mesh)
    device.down()
    device.home.config.write_text("relays = 'not a list'\n")
    device.cli("up", code=2)
    agent = [str(BIN / "python"), "-m", "meshsync.agent", "--home", str(device.home.path)]
    done = subprocess.run(agent, env=clean_environment(), capture_output=True, timeout=30, check=False)
    assert done.returncode == 2 and b"relays is not a list" in done.stderr
    assert not running(device)


def without_relay(mesh: Mesh) -> Device:
    """Start an agent that knows no relay."""
    mesh.relay.url = ""
    device = mesh.add("laptop")
    assert device.status()["relays"] == []
    return device


def connected(device: Device) -> bool:
    relays = device.status()["relays"]
    return bool(relays) and all(relay["connected"] for relay in relays)


def nowhere(pid: int, url: str) -> None:
    """Check: no piece of the invitation's secret is in the command line or environment of a process."""
    assert parse_relay_address(url).secret is not None
    secret = url[-30:]  # the secret and its checksum, in base32
    seen = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
    assert b"meshsync" in seen
    for at in range(len(secret) - 12):
        assert secret[at : at + 12].encode() not in seen
