"""One bit damaged, in transit or at rest: noticed, and only that chunk is fetched again, from elsewhere if need be."""

from __future__ import annotations

import pytest

from tests.real.trees import MIB, compare_trees, incompressible, small_files
from tests.support.real_mesh import Device, Mesh, Relay, settle, until

pytestmark = pytest.mark.slow
BIG_BYTES = 8 * MIB
CHUNK_BYTES_MAX = 256 * 1024
LISTS_BYTES_MAX = 64 * 1024  # the lists of chunks count as fetched too


def test_in_transit_only_that_chunk_is_fetched_again(mesh: Mesh) -> None:
    laptop, desk = mesh.pair(["laptop", "desk"], relay=False)
    settle([laptop, desk])
    desk.down()
    desk.up(environment={"MESHSYNC_FAULT": "damage-chunk:1"})
    incompressible(laptop.tree / "big.bin", BIG_BYTES)
    settle([laptop, desk])
    assert desk.stats()["chunks_damaged"] == 1
    assert BIG_BYTES <= desk.fetched() <= BIG_BYTES + LISTS_BYTES_MAX
    assert desk.received("lan") <= BIG_BYTES * 1.25 + CHUNK_BYTES_MAX
    assert desk.status()["health"] == []


def stored_and_damaged(mesh: Mesh) -> tuple[Device, Device]:
    """Two devices, both off, so that nobody repairs the relay; what the first wrote is durable, one bit of `big.bin`
    at the relay is flipped."""
    laptop, desk = mesh.pair(["laptop", "desk"], relay=True)
    settle([laptop, desk], durable=True)
    desk.down()
    incompressible(laptop.tree / "big.bin", BIG_BYTES)
    laptop.rescan()
    laptop.wait(durable=True)
    small_files(laptop.tree / "small", count=50)
    laptop.rescan()
    laptop.wait(durable=True)
    laptop.down()
    mesh.relay.down()
    flip_in_largest_pack(mesh.relay)
    mesh.relay.up()
    return laptop, desk


def flip_in_largest_pack(relay: Relay) -> None:
    """Flip one bit in the middle of the largest pack file."""
    pack = max((relay.data / "chunks").glob("*.pack"), key=lambda path: path.stat().st_size)
    with pack.open("r+b") as file:
        file.seek(pack.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))


def test_at_rest_the_chunk_comes_from_another_device(mesh: Mesh) -> None:
    laptop, desk = stored_and_damaged(mesh)
    laptop.up()
    desk.up()
    settle([laptop, desk], durable=True)  # the relay has again what it lost
    assert BIG_BYTES <= desk.fetched() <= BIG_BYTES + 50 * 4 * MIB
    assert desk.status()["health"] == []


def test_lasting_damage_is_reported_while_everything_else_arrives(mesh: Mesh) -> None:
    laptop, desk = stored_and_damaged(mesh)
    desk.up()
    reported: list[dict[str, str]] = []

    def told() -> bool:
        reported[:] = [item for item in desk.status()["health"] if "big.bin" in item["what"]]
        return bool(reported)

    until(told, desk.status, timeout_s=60)
    until(lambda: compare_trees(laptop.tree / "small", desk.tree / "small") == [], desk.status, timeout_s=60)
    folder = desk.folder()
    assert folder["name"] in reported[0]["what"], "the folder is named"
    assert "relay 127.0.0.1" in reported[0]["what"] + reported[0]["why"], "the source is named"
    assert not (desk.tree / "big.bin").exists()
    assert folder["state"] != "in sync"
    laptop.up()
    settle([laptop, desk], durable=True)  # the relay has again what it lost
    assert desk.status()["health"] == [], "a device that has the chunk ends it"


def test_the_relay_itself_finds_damage_at_rest(mesh: Mesh) -> None:
    stored_and_damaged(mesh)
    mesh.relay.down()
    assert len(mesh.relay.ask("scrub")["damaged"]) == 1


def test_nothing_damaged_is_ever_written_into_the_tree(mesh: Mesh) -> None:
    laptop, desk = mesh.pair(["laptop", "desk"], relay=False)
    settle([laptop, desk])
    desk.down()
    desk.up(environment={"MESHSYNC_FAULT": "damage-chunk:40"})
    incompressible(laptop.tree / "big.bin", BIG_BYTES)
    settle([laptop, desk])
    assert desk.stats()["chunks_damaged"] == 40
    assert BIG_BYTES <= desk.fetched() <= BIG_BYTES + LISTS_BYTES_MAX
