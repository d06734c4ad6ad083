"""A NAS that keeps a folder it cannot read, by the commands that people type: real processes, real disks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.real_mesh import Device, Mesh, until

pytestmark = pytest.mark.slow
NAME, TEXT = "salary-negotiation.txt", b"the telling sentence that nobody else may read"


def kept(nas: Device) -> dict[str, object]:
    """Return the one folder that a device keeps."""
    (one,) = nas.status()["backups"]
    assert isinstance(one, dict)
    return one


def test_a_lost_file_comes_back_from_a_nas_that_can_read_nothing(mesh: Mesh, tmp_path: Path) -> None:
    laptop, nas = mesh.add("laptop"), mesh.add("nas")
    (laptop.tree / NAME).write_bytes(TEXT)
    (laptop.tree / "blocks.bin").write_bytes(bytes(range(256)) * 20_000)
    place = tmp_path / "volume1" / "ann"
    joined = nas.cli("join", laptop.cli("share", str(laptop.tree), "--backup")["ticket"], str(place))
    assert (joined["is_backup"], joined["path"]) == (True, str(place))
    laptop.wait(durable=True)
    until(lambda: kept(nas)["blobs"] >= 2, lambda: kept(nas))  # type: ignore[operator]

    nas.kill9()
    nas.up()
    (laptop.tree / NAME).unlink()
    (laptop.tree / "later.txt").write_bytes(b"written after the kill")
    laptop.wait(durable=True)
    laptop.cli("restore", str(laptop.tree / NAME))
    assert (laptop.tree / NAME).read_bytes() == TEXT

    told = [place, nas.home.path]
    on_disk = b"".join(path.read_bytes() for top in told for path in top.rglob("*") if path.is_file())
    assert [secret for secret in (TEXT, NAME.encode(), bytes(range(256))) if secret in on_disk] == []

    nas.cli("leave", "ann", "--yes")
    assert not place.exists()
    assert nas.status()["backups"] == []


def test_one_member_is_enough_to_bring_a_backup_what_all_wrote(mesh: Mesh, tmp_path: Path) -> None:
    laptop, desk = mesh.pair(["laptop", "desk"], relay=False)
    nas = mesh.add("nas")
    nas.cli("join", laptop.cli("share", str(laptop.tree), "--backup")["ticket"], str(tmp_path / "kept"))
    (desk.tree / "of the desk").write_bytes(b"of the desk")  # the desk does not know where the NAS is
    until((laptop.tree / "of the desk").exists, laptop.status)
    desk.down()
    laptop.wait(durable=True)
    (laptop.tree / "of the desk").write_bytes(b"overwritten")
    laptop.wait(durable=True)
    laptop.cli("restore", str(laptop.tree / "of the desk"))
    assert (laptop.tree / "of the desk").read_bytes() == b"of the desk"
