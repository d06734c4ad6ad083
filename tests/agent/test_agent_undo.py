"""What one device did is undone in one command, bit for bit; what everybody else did meanwhile stays (P14)."""

from __future__ import annotations

import contextlib
import random
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from meshsync.agent import api_schema as api
from meshsync.errors import NotFound, RoleForbids
from tests.agent.test_agent_any_instant import act
from tests.agent.test_agent_restoring import after, before, changed, restore, synced, tree_of
from tests.support.pairing_mesh import Device, Mesh, open_mesh

FILES = 120  # more are a mass change


def now(mesh: Mesh) -> str:
    return datetime.fromtimestamp(mesh.runtime.wall_time_ns() / 1e9, UTC).isoformat()


async def undo(device: Device, since: str, whose: str = "", **how: object) -> api.Undone:
    request = api.UndoRequest(since=since, device=whose, **how)  # type: ignore[arg-type]
    (done,) = (await device.service.undo(request, lambda done, total: None)).folders
    return done


async def two(mesh: Mesh) -> tuple[Device, Device]:
    """Two devices and a relay with some files."""
    await mesh.start_relay()
    laptop, desk = await mesh.start("laptop"), await mesh.start("desk")
    before(laptop.tree)
    for number in range(FILES):
        (laptop.tree / f"{number}.doc").write_bytes(random.Random(number).randbytes(2000))
    await desk.join((await laptop.share()).ticket)
    await synced(laptop, desk)
    return laptop, desk


def ransom(tree: Path) -> None:
    """Rewrite every document, under another name, and remove the rest."""
    for path in tree.glob("*.doc"):
        path.write_bytes(bytes(255 - byte for byte in path.read_bytes()))
        path.rename(path.with_suffix(".locked"))
    shutil.rmtree(tree / "photos")
    for name in ("large.bin", "link", "run.sh", "moved.txt"):
        (tree / name).unlink()
    (tree / "PAY").write_bytes(b"pay")


async def let_all_pass(mesh: Mesh, *devices: Device) -> None:
    """Be the user who lets everything pass, until all devices have done the same and nothing more is held."""
    folders = [folder for device in devices for folder in device.agent.folders.values()]

    def at_rest() -> bool:
        known = {tuple(sorted(folder.replica.view.vector.items())) for folder in folders}
        return len(known) == 1 and all(folder.loop is not None and folder.loop.idle for folder in folders)

    while not at_rest():
        await mesh.until(lambda: at_rest() or any(folder.guard.holds for folder in folders))
        for device in devices:
            for one in (await device.service.held_changes("")).held:
                with contextlib.suppress(NotFound):  # it has come to nothing since
                    await device.service.release(api.HoldRequest(id=one.id))


async def test_ransomware_that_was_let_pass_is_undone_bit_for_bit_and_later_edits_stay(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        laptop, desk = await two(mesh)
        good, since = tree_of(laptop.tree), now(mesh)
        ransom(desk.tree)
        (laptop.tree / "mine").write_bytes(b"written in the same hour")
        for device in (desk, laptop):
            await device.service.rescan("")
        await let_all_pass(mesh, laptop, desk)
        await synced(laptop, desk)
        assert "PAY" in tree_of(laptop.tree) and "large.bin" not in tree_of(laptop.tree)
        (laptop.tree / "PAY").write_bytes(b"no")
        await laptop.service.rescan("")
        await synced(laptop, desk)
        locked = tree_of(laptop.tree)

        told = await undo(laptop, since, "desk", dry_run=True)
        assert tree_of(laptop.tree) == locked
        done = await undo(laptop, since, "desk")
        assert (done.failed, done.skipped) == (0, [])
        assert (done.restored, done.removals) == (told.restored, told.removals)
        assert (await laptop.service.held_changes("")).held == [], "a wish of the user is held"
        assert tree_of(laptop.tree) == good | {"mine": b"written in the same hour", "PAY": b"no"}
        assert [(one.path, one.why) for one in done.built_on] == [
            ("PAY", "changed by laptop afterwards: it stays as it is")
        ]
        await let_all_pass(mesh, laptop, desk)
        await synced(laptop, desk)
        again = await undo(desk, since, "desk")
        assert (again.restored, again.removals) == (0, 0)


async def test_what_is_held_here_is_overruled_without_a_byte_written(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        laptop, desk = await two(mesh)
        good, since = tree_of(laptop.tree), now(mesh)
        ransom(desk.tree)
        await desk.service.rescan("")
        await let_all_pass(mesh, desk)
        await mesh.until(lambda: all(folder.guard.holds for folder in laptop.agent.folders.values()))
        inodes = {path.name: path.stat().st_ino for path in laptop.tree.glob("*.doc")}
        (folder,) = laptop.agent.folders.values()
        await mesh.until(lambda: folder.loop is not None and folder.loop.settled)
        done = await undo(laptop, since, "desk")
        assert done.failed == 0
        assert (await laptop.service.held_changes("")).held == []
        assert {path.name: path.stat().st_ino for path in laptop.tree.glob("*.doc")}.items() >= inodes.items()
        await let_all_pass(mesh, laptop, desk)
        await synced(laptop, desk)
        assert tree_of(laptop.tree) == good


async def test_ones_own_mistake_is_undone_and_an_edit_nobody_saw_yet_is_part_of_it(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        laptop, desk = await two(mesh)
        good, since = tree_of(laptop.tree), now(mesh)
        after(laptop.tree)
        await laptop.service.rescan("")
        (laptop.tree / "just now").write_bytes(b"just now")
        done = await undo(laptop, since)
        assert done.failed == 0
        await synced(laptop, desk)
        assert tree_of(laptop.tree) == good
        kept = [path.read_bytes() for path in (laptop.tree / ".meshsync" / "kept").rglob("just now")]
        assert kept == [b"just now"]


async def test_exactly_restored_a_directory_has_nothing_that_came_since_and_others_stay(tmp_path: Path) -> None:
    async with changed(tmp_path) as (_, laptop, desk, between):
        (laptop.tree / "photos" / "new").mkdir()
        (laptop.tree / "photos" / "new" / "x").write_bytes(b"x")
        told = await restore(laptop, laptop.tree / "photos", at=between, exact=True, dry_run=True)
        assert (told.removed, told.removals) == (["photos/new/x", "photos/new"], 2)
        done = await restore(laptop, laptop.tree / "photos", at=between, exact=True)
        assert (done.removed, done.not_restored) == (told.removed, 0)
        before(wanted := tmp_path / "wanted")
        assert tree_of(laptop.tree / "photos") == tree_of(wanted / "photos")
        assert (laptop.tree / "new.txt").exists()
        await restore(laptop, laptop.tree, at=between, exact=True)
        assert tree_of(laptop.tree) == tree_of(wanted)
        await synced(laptop, desk)
        with pytest.raises(NotFound):
            await restore(laptop, laptop.tree / "2024", at=between, exact=True)


async def test_a_directory_where_a_file_was_goes_but_for_what_is_not_synced(tmp_path: Path) -> None:
    async with changed(tmp_path) as (_, laptop, _, between):
        (laptop.tree / ".meshignore").write_bytes(b"*.tmp\n")
        for name in ("large.bin", "moved.txt"):
            (laptop.tree / name).mkdir()
            (laptop.tree / name / "inside").write_bytes(b"x")
        (laptop.tree / "moved.txt" / "own.tmp").write_bytes(b"mine alone")
        done = await restore(laptop, laptop.tree, at=between, exact=True)
        assert (laptop.tree / "large.bin").is_file()
        assert (laptop.tree / "moved.txt" / "own.tmp").read_bytes() == b"mine alone"
        assert [item.path for item in done.skipped] == ["moved.txt", "moved.txt"]
        await synced(laptop)


async def test_who_cannot_undo_is_told(tmp_path: Path) -> None:
    async with changed(tmp_path) as (mesh, laptop, desk, between):
        with pytest.raises(NotFound, match="no such device"):
            await undo(laptop, between, "phone")
        request = api.RoleRequest(folder="laptop", device=desk.agent.keys.device.hex(), role="reader")
        await laptop.service.change_role(request)
        (folder,) = desk.agent.folders.values()
        await mesh.until(lambda: not folder.replica.membership.may_write(desk.agent.keys.device))
        with pytest.raises(RoleForbids):
            await undo(desk, between)


@pytest.mark.parametrize("seed", range(2))
async def test_whatever_one_device_did_is_as_if_it_had_not(tmp_path: Path, seed: int) -> None:
    """Two users work, each in a directory of its own; what both had before is the one's to spoil."""
    chance = random.Random(seed)
    async with open_mesh(tmp_path) as mesh:
        await mesh.start_relay()
        laptop, desk = await mesh.start("laptop"), await mesh.start("desk")
        for name in ("ours", "its"):
            (laptop.tree / name).mkdir()
        for number in range(60):
            (laptop.tree / f"stays {number}").write_bytes(b"%d" % number)
        await desk.join((await laptop.share()).ticket)
        for number in range(8):
            act(chance, laptop.tree / ("ours", "its")[number % 2], number)
        await laptop.service.rescan("")
        await synced(laptop, desk)
        shadow, since = tmp_path / "shadow", now(mesh)
        shutil.copytree(laptop.tree / "ours", shadow, symlinks=True)
        its = tree_of(laptop.tree / "its")
        for step in range(6):
            number = 100 + step
            state = chance.getstate()
            act(chance, shadow, number)
            chance.setstate(state)
            act(chance, laptop.tree / "ours", number)
            for extra in range(3):
                act(chance, desk.tree / "its", 1000 + 10 * step + extra)
            for device in (laptop, desk):
                await device.service.rescan("")
            await synced(laptop, desk)
        done = await undo(chance.choice([laptop, desk]), since, "desk")
        assert (done.failed, done.built_on) == (0, [])
        await synced(laptop, desk)
        assert tree_of(laptop.tree / "ours") == tree_of(shadow)
        assert tree_of(laptop.tree / "its") == its
