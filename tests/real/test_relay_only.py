"""Devices that are never on together: everything goes through the relay, bit for bit."""

from __future__ import annotations

import pytest

from meshsync.limits import CHUNK_SIZE_BYTES_MAX, KIB
from tests.real.trees import MIB, incompressible, small_files
from tests.support.real_mesh import Mesh, differences, settle

pytestmark = pytest.mark.slow
BIG_BYTES = 64 * MIB


def test_what_was_written_while_the_other_was_off_comes_from_the_relay(mesh: Mesh) -> None:
    laptop, desk = mesh.pair(["laptop", "desk"], relay=True)
    settle([laptop, desk], durable=True)
    desk.down()
    total = small_files(laptop.tree / "small", count=300) + BIG_BYTES
    incompressible(laptop.tree / "big.bin", BIG_BYTES)
    laptop.rescan()
    laptop.wait(durable=True)
    laptop.down()
    desk.up()
    settle([desk], timeout_s=60)
    assert differences([laptop, desk]) == []
    assert desk.received("lan", "direct") == 0
    assert total <= desk.fetched() <= total * 1.01


def test_a_newcomer_joins_and_gets_everything_through_the_relay_alone(mesh: Mesh) -> None:
    mesh.relay.up()
    laptop = mesh.add("laptop")
    small_files(laptop.tree / "small", count=300)
    incompressible(laptop.tree / "big.bin", BIG_BYTES)
    ticket = laptop.share()
    laptop.wait(durable=True)
    laptop.down()
    desk = mesh.add("desk")
    desk.join(ticket)
    settle([desk])
    assert differences([laptop, desk]) == []


def test_edits_of_both_sides_that_never_meet_are_exchanged_through_the_relay(mesh: Mesh) -> None:
    laptop, desk = mesh.pair(["laptop", "desk"], relay=True)
    (laptop.tree / "note").write_text("first")
    settle([laptop, desk], durable=True)
    desk.down()
    (laptop.tree / "note").write_text("second, of the laptop")
    (laptop.tree / "gone soon").write_text("x")
    laptop.rescan()
    laptop.wait(durable=True)
    laptop.down()
    desk.up(same_port=False)
    settle([desk])
    assert (desk.tree / "note").read_text() == "second, of the laptop"
    (desk.tree / "note").write_text("third, of the desk")
    (desk.tree / "gone soon").unlink()
    desk.rescan()
    desk.wait(durable=True)
    desk.down()
    laptop.up(same_port=False)
    settle([laptop])
    assert (laptop.tree / "note").read_text() == "third, of the desk"
    assert not (laptop.tree / "gone soon").exists()


def test_a_version_of_a_device_that_left_before_it_uploaded_is_made_durable_by_one_that_holds_it(mesh: Mesh) -> None:
    laptop, desk = mesh.pair(["laptop", "desk"], relay=True)
    settle([laptop, desk], durable=True)
    mesh.relay.down()
    (desk.tree / "note").write_text("of the desk")
    settle([laptop, desk])
    desk.down()
    mesh.relay.up()
    laptop.wait(durable=True)
    laptop.down()
    mesh.relay.down()
    assert mesh.relay.ask("check")["problems"] == []


def test_a_small_edit_of_a_large_file_costs_the_relay_what_changed(mesh: Mesh) -> None:
    """Its stored record names what the last one had in common with it, instead of every blob of the file."""
    mesh.relay.up()
    laptop = mesh.add("laptop")
    big = laptop.tree / "big.bin"
    incompressible(big, 4 * BIG_BYTES)
    laptop.share()
    laptop.wait(durable=True)
    before = laptop.wire()
    with big.open("r+b") as file:
        file.seek(BIG_BYTES // 2)
        file.write(b"twelve bytes")
    laptop.rescan()
    laptop.wait(durable=True)
    assert laptop.wire() - before <= CHUNK_SIZE_BYTES_MAX + 128 * KIB  # a list of all blobs would be 440 KB more
