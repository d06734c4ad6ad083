"""Ransomware on one device: the brake holds it; where it was let pass, one command undoes it bit for bit (P10, P14)."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime

import pytest

from meshsync.errors import NotFound
from tests.real.test_safeguards import encrypt, files, fill, held, until_held
from tests.real.trees import observe
from tests.support.real_mesh import Device, Mesh, in_sync, settle, until

pytestmark = pytest.mark.slow
FILES = 1000
DELETED = FILES * 2 // 5
LEFT_MIN = FILES // 5  # at least what the brake keeps, of what was done all at once: half of all it may take for work


def let_pass(devices: list[Device]) -> None:
    """Be users who let everything pass, until all devices have the same and nothing is held."""

    def is_done() -> bool:
        for device in devices:
            for hold in held(device):
                with contextlib.suppress(NotFound):  # it has come to nothing since
                    device.client.job("/releases", None, id=hold["id"])
        trees = [observe(device.tree) for device in devices]
        same = all(tree == trees[0] for tree in trees)
        return same and all(in_sync(device.status(), False) and not held(device) for device in devices)

    until(is_done, lambda: [(device.folder(), held(device)) for device in devices])


def spoil(desk: Device) -> None:
    """Remove a part of the files, encrypt all others, some under another name, and leave a note."""
    for path in files(desk.tree)[:DELETED]:
        path.unlink()
    encrypt(desk.tree, FILES)
    for path in files(desk.tree)[:50]:
        path.rename(path.with_suffix(".locked"))
    (desk.tree / "empty").rmdir()
    (desk.tree / "PAY.txt").write_bytes(b"pay")


def test_the_brake_holds_it_and_what_was_let_pass_is_undone_in_one_command(mesh: Mesh) -> None:
    laptop, desk, phone = devices = mesh.pair(["laptop", "desk", "phone"], relay=True)
    fill(laptop.tree, FILES)
    settle(devices, durable=True)
    good = observe(laptop.tree)

    since = datetime.fromtimestamp(time.time(), UTC).isoformat()
    spoil(desk)
    assert {hold["side"] for hold in until_held(desk, 2)} == {"publish"}
    for hold in held(desk):  # whoever wrote it has the keyboard as well
        desk.cli("release", hold["id"], "--yes")
    until(lambda: all(held(device) for device in (laptop, phone)), lambda: (held(laptop), held(phone)))
    left = [len(good.items() & observe(device.tree).items()) for device in (laptop, phone)]
    assert min(left) > LEFT_MIN, "the brake let most of it pass"

    (phone.tree / "kept.txt").write_bytes(b"phone's work of the same hour")
    (laptop.tree / "0" / "mine.bin").write_bytes(b"laptop's work of the same hour")
    for device in (phone, laptop):
        device.rescan()
    let_pass(devices)
    assert not good.items() & {item for item in observe(laptop.tree).items() if item[0].endswith(b".bin")}
    note = laptop.tree / "PAY.txt"
    note.write_bytes(b"no")
    laptop.rescan()
    let_pass(devices)
    mine = {
        path: found for path, found in observe(laptop.tree).items() if path in (b"0/mine.bin", b"kept.txt", b"PAY.txt")
    }
    assert len(mine) == 3

    done = laptop.cli("undo", "--device", "desk", "--since", since, "--yes")
    (folder,) = done["folders"]
    assert folder["failed"] == 0 and [item["path"] for item in folder["built_on"]] == ["PAY.txt"]
    assert observe(laptop.tree) == good | mine
    assert held(laptop) == []
    let_pass(devices)
    assert observe(desk.tree) == good | mine
