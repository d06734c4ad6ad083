"""kill -9 in the middle of a large transfer: it goes on by itself, fetches little twice, loses and leaves nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.real.trees import MIB, incompressible
from tests.support.real_mesh import Device, Mesh, settle, until

pytestmark = pytest.mark.slow
BIG_BYTES = int(os.environ.get("MESHSYNC_TEST_BIG_MIB", "256")) * MIB  # 1024 for the full size
TWICE_SHARE_MAX = 0.05


def part(device: Device) -> Callable[[], bool]:
    """Return a condition: the device has fetched a fifth of the large file."""
    return lambda: device.fetched() >= BIG_BYTES // 5


def check_nothing_left(devices: list[Device]) -> None:
    assert [stray for device in devices for stray in device.strays()] == []


def begin(mesh: Mesh, *, relay: bool) -> tuple[Device, Device]:
    """Pair two devices, start to send the large file, and return when a part of it arrived."""
    laptop, desk = mesh.pair(["laptop", "desk"], relay=relay)
    (laptop.tree / "before").write_text("durable before")
    settle([laptop, desk], durable=relay)
    incompressible(mesh.directory / "big.bin", BIG_BYTES)
    (mesh.directory / "big.bin").rename(laptop.tree / "big.bin")
    until(part(desk), lambda: (desk.fetched(), laptop.folder(), desk.folder()))
    return laptop, desk


def test_the_sender_is_killed(mesh: Mesh) -> None:
    laptop, desk = begin(mesh, relay=False)
    laptop.kill9()
    assert not (desk.tree / "big.bin").exists(), "the kill came too late to prove anything"
    laptop.up()
    settle([laptop, desk])
    assert desk.fetched() <= BIG_BYTES * (1 + TWICE_SHARE_MAX)
    check_nothing_left([laptop, desk])


def test_the_receiver_is_killed(mesh: Mesh) -> None:
    laptop, desk = begin(mesh, relay=False)
    before = desk.fetched()
    desk.kill9()
    assert not (desk.tree / "big.bin").exists(), "the kill came too late to prove anything"
    desk.up()
    settle([laptop, desk])
    assert before + desk.fetched() <= BIG_BYTES * (1 + TWICE_SHARE_MAX)
    check_nothing_left([laptop, desk])


def test_the_relay_is_killed_during_an_upload(mesh: Mesh, tmp_path: Path) -> None:
    laptop, desk = mesh.pair(["laptop", "desk"], relay=True)
    (laptop.tree / "before").write_text("durable before")
    settle([laptop, desk], durable=True)
    desk.down()
    incompressible(tmp_path / "big.bin", BIG_BYTES)
    (tmp_path / "big.bin").rename(laptop.tree / "big.bin")

    def sent() -> int:
        return int(laptop.stats()["links"]["relay"]["sent"])

    until(lambda: sent() >= BIG_BYTES // 5, lambda: (sent(), laptop.folder()))
    mesh.relay.kill9()
    assert laptop.folder()["not_durable"] == 1
    assert mesh.relay.ask("check")["problems"] == []
    mesh.relay.up()
    laptop.wait(durable=True, timeout_s=100)
    assert sent() <= BIG_BYTES * 1.1 + BIG_BYTES * TWICE_SHARE_MAX, "little is sent twice"
    laptop.down()
    desk.up()
    settle([desk])
    assert (desk.tree / "before").read_text() == "durable before"
    assert (desk.tree / "big.bin").stat().st_size == BIG_BYTES
    check_nothing_left([laptop, desk])
    mesh.relay.down()
    assert mesh.relay.ask("check")["problems"] == []


def test_relay_and_receiver_are_killed_during_a_download(mesh: Mesh, tmp_path: Path) -> None:
    laptop, desk = mesh.pair(["laptop", "desk"], relay=True)
    settle([laptop, desk], durable=True)
    desk.down()
    incompressible(tmp_path / "big.bin", BIG_BYTES)
    (tmp_path / "big.bin").rename(laptop.tree / "big.bin")
    laptop.rescan()
    laptop.wait(durable=True)
    laptop.down()
    desk.up()
    until(part(desk), desk.fetched)
    mesh.relay.kill9()
    mesh.relay.up()
    until(lambda: desk.fetched() >= BIG_BYTES // 2, desk.status)
    before = desk.fetched()
    desk.kill9()
    assert not (desk.tree / "big.bin").exists(), "the kill came too late to prove anything"
    desk.up()
    settle([desk])
    assert (desk.tree / "big.bin").read_bytes() == (laptop.tree / "big.bin").read_bytes()
    assert before + desk.fetched() <= BIG_BYTES * (1 + TWICE_SHARE_MAX)
    check_nothing_left([desk])
    mesh.relay.down()
    assert mesh.relay.ask("check")["problems"] == []
