"""A device whose disk came back from a backup: what it wrote since the backup, and what it writes now, is all kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.real_mesh import Device, Mesh, differences, settle, until

pytestmark = pytest.mark.slow


class Backup:
    """A copy of a device's home and tree, taken and put back while its agent is off."""

    def __init__(self, device: Device, directory: Path) -> None:
        self._places = [(device.home.path, directory / "home"), (device.tree, directory / "tree")]
        for place, copy in self._places:
            shutil.copytree(place, copy, symlinks=True)

    def restore(self) -> None:
        for place, copy in self._places:
            shutil.rmtree(place)
            shutil.copytree(copy, place, symlinks=True)


def test_edits_after_a_restore_and_edits_that_the_backup_lacks_are_all_kept(mesh: Mesh, tmp_path: Path) -> None:
    laptop, desk = mesh.pair(["laptop", "desk"], relay=False)
    (laptop.tree / "before").write_text("in the backup")
    settle([laptop, desk])
    laptop.down()
    backup = Backup(laptop, tmp_path / "backup")
    laptop.up()
    (laptop.tree / "since").write_text("not in the backup")
    (laptop.tree / "before").write_text("edited since the backup")
    settle([laptop, desk])
    laptop.down()
    desk.down()
    backup.restore()
    laptop.up()
    (laptop.tree / "offline").write_text("written before anybody told what is missing")
    laptop.rescan()
    until(lambda: laptop.folder()["versions"] >= 2, laptop.folder)
    desk.up()
    settle([laptop, desk])
    assert differences([laptop, desk]) == []
    for device in (laptop, desk):
        assert (device.tree / "since").read_text() == "not in the backup"
        assert (device.tree / "before").read_text() == "edited since the backup"
        assert (device.tree / "offline").read_text() == "written before anybody told what is missing"
        assert sorted(path.name for path in device.tree.glob("[!.]*")) == ["before", "offline", "since"]
