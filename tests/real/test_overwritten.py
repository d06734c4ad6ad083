"""H7 of semantics.md 6: a version that was overwritten before it was stored holds up no receipt."""

from __future__ import annotations

import os

import pytest

from tests.support.real_mesh import Mesh, settle

pytestmark = pytest.mark.slow


def test_a_version_overwritten_before_its_upload_is_closed_and_the_next_one_is_durable(mesh: Mesh) -> None:
    laptop, desk = mesh.pair(["laptop", "desk"], relay=True)
    (laptop.tree / "note").write_text("before")
    settle([laptop, desk], durable=True)
    desk.down()
    mesh.relay.down()
    for text in ("first, never stored", "second, never stored either", "third, which lies on the disk"):
        (laptop.tree / "note").write_text(text)
        laptop.rescan()
    assert laptop.folder()["not_durable"] == 3
    mesh.relay.up()
    laptop.wait(durable=True)
    kept = [version["kept"] for version in laptop.cli("log", str(laptop.tree / "note"))["versions"]]
    assert kept[0] == "here", "the newest first"
    laptop.down()
    desk.up()
    settle([desk], durable=True)
    assert (desk.tree / "note").read_text() == "third, which lies on the disk"


def test_a_touch_of_what_another_device_replaced_is_closed_when_its_content_is_nowhere(mesh: Mesh) -> None:
    laptop, desk = mesh.pair(["laptop", "desk"], relay=True)
    settle([laptop, desk], durable=True)
    mesh.relay.down()
    (laptop.tree / "note").write_text("first, never stored")
    laptop.rescan()
    settle([laptop, desk])
    desk.cli("pause")
    (laptop.tree / "note").write_text("second")
    laptop.rescan()
    os.utime(desk.tree / "note", (1_700_000_000, 1_700_000_000))
    desk.rescan()
    desk.cli("resume")
    settle([laptop, desk])
    assert (desk.tree / "note").read_text() == "second"
    mesh.relay.up()
    settle([laptop, desk], durable=True)
