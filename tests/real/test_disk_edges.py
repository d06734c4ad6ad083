"""What a disk can hold: odd names and types arrive or are skipped with a reason; the rest goes on."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.support.real_mesh import Device, Mesh, differences, settle, until

pytestmark = pytest.mark.slow
SPARSE_BYTES = 64 << 20


@pytest.fixture
def devices(mesh: Mesh) -> list[Device]:
    return mesh.pair(["laptop", "desk"], relay=False)


def at(tree: Path, name: bytes) -> Path:
    return tree / os.fsdecode(name)


def test_every_name_and_type_that_the_disk_holds_arrives(devices: list[Device]) -> None:
    tree = devices[0].tree
    names = [b"new\nline", b"not utf-8 \xff\xfe", b"n" * 255, "ä".encode() * 127, b" space ", b"-rf", b"semi;colon"]
    for name in names:
        at(tree, name).write_bytes(b"in " + name)
    (tree / "empty file").touch()
    (tree / "empty directory/inside").mkdir(parents=True)
    (tree / "run").write_text("#!/bin/sh\n")
    (tree / "run").chmod(0o755)
    with (tree / "sparse").open("wb") as file:
        file.seek(SPARSE_BYTES - 1)
        file.write(b"!")
    (tree / "loop").symlink_to("loop")
    (tree / "a").symlink_to("b")
    (tree / "b").symlink_to("a")
    (tree / "up").symlink_to("..")
    (tree / "nowhere").symlink_to("/does/not/exist")
    os.symlink(b"bytes \xff", os.fsencode(tree / "link to bytes"))
    settle(devices)
    assert at(devices[1].tree, b"n" * 255).read_bytes() == b"in " + b"n" * 255


def test_what_is_no_file_is_skipped_and_never_opened(devices: list[Device]) -> None:
    laptop, desk = devices
    os.mkfifo(laptop.tree / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        place = os.open(laptop.tree, os.O_PATH)
        listener.bind(f"/proc/self/fd/{place}/socket")
        os.close(place)
        (laptop.tree / "file").write_text("arrives")
        laptop.rescan()
        until((desk.tree / "file").exists, desk.status)
        laptop.wait(timeout_s=20)
        assert {path.name for path in desk.tree.iterdir()} == {".meshsync", "file"}
        assert laptop.cli("why", str(laptop.tree / "fifo"))["waits_for"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_waits_with_a_reason(devices: list[Device]) -> None:
    laptop, desk = devices
    (laptop.tree / "secret").write_text("mine")
    (laptop.tree / "secret").chmod(0)
    (laptop.tree / "file").write_text("arrives")
    laptop.rescan()
    until((desk.tree / "file").exists, desk.status)
    assert not (desk.tree / "secret").exists()
    assert laptop.cli("why", str(laptop.tree / "secret"))["waits_for"]
    (laptop.tree / "secret").chmod(0o600)
    settle(devices)


def test_what_is_ignored_stays_where_it_is(devices: list[Device]) -> None:
    laptop, desk = devices
    (laptop.tree / ".meshignore").write_text("*.tmp\nbuild/\n")
    (laptop.tree / "build").mkdir()
    (laptop.tree / "build/product").write_text("not synced")
    (laptop.tree / "x.tmp").write_text("not synced")
    (laptop.tree / "source").write_text("synced")
    laptop.rescan()
    until((desk.tree / "source").exists, desk.status)
    desk.wait()
    assert not (desk.tree / "build").exists()
    assert not (desk.tree / "x.tmp").exists()


def test_ignoring_a_synced_file_deletes_it_nowhere(devices: list[Device]) -> None:
    laptop, desk = devices
    (laptop.tree / "notes.tmp").write_text("kept")
    settle(devices)
    (laptop.tree / ".meshignore").write_text("*.tmp\n")
    settle(devices)
    (laptop.tree / "notes.tmp").unlink()
    (laptop.tree / "other").write_text("goes on")
    laptop.rescan()
    until((desk.tree / "other").exists, desk.status)
    assert (desk.tree / "notes.tmp").read_text() == "kept"
    assert differences(devices) == [f"only in {desk.tree}: b'notes.tmp'"]


def test_a_missing_folder_deletes_nothing_elsewhere(devices: list[Device]) -> None:
    laptop, desk = devices
    (laptop.tree / "precious").write_text("kept")
    settle(devices)
    laptop.tree.rename(laptop.tree.with_name("unmounted"))
    laptop.rescan()
    until(lambda: laptop.folder()["state"] == "error", laptop.status)
    assert (desk.tree / "precious").read_text() == "kept"
    laptop.tree.with_name("unmounted").rename(laptop.tree)
    settle(devices)
