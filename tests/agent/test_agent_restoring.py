"""A tree as it was at any time comes back, in place or elsewhere, and nothing that is there now is lost (P10)."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from meshsync.agent import api_schema as api
from meshsync.errors import ConfigError, NotFound, RoleForbids
from tests.support.pairing_mesh import WAIT_S, Device, Mesh, open_mesh

Tree = dict[str, bytes | str]
DIRECTORY = "directory"
LARGE = random.Random(5).randbytes(300_000)


def tree_of(top: Path) -> Tree:
    """Return what a user sees below `top`: files by their bytes, links by their targets, with `*` if executable."""
    found: Tree = {}
    for path in sorted(top.rglob("*")):
        name = str(path.relative_to(top))
        if name.split("/", maxsplit=1)[0] == ".meshsync":
            continue
        if path.is_symlink():
            found[name] = f"link to {os.readlink(path)}"
        elif path.is_dir():
            found[name] = DIRECTORY
        else:
            found[name + "*" * os.access(path, os.X_OK)] = path.read_bytes()
    return found


def before(tree: Path) -> None:
    (tree / "photos" / "2024").mkdir(parents=True)
    (tree / "photos" / "2024" / "a.jpg").write_bytes(b"first")
    (tree / "photos" / "empty").mkdir()
    (tree / "large.bin").write_bytes(LARGE)
    (tree / "run.sh").write_bytes(b"#!/bin/sh\n")
    (tree / "run.sh").chmod(0o755)
    (tree / "link").symlink_to("large.bin")
    (tree / "moved.txt").write_bytes(b"moves")


def after(tree: Path) -> None:
    (tree / "photos" / "2024" / "a.jpg").write_bytes(b"second")
    (tree / "photos" / "empty").rmdir()
    (tree / "photos" / "2024").rename(tree / "2024")
    (tree / "large.bin").unlink()
    (tree / "run.sh").chmod(0o644)
    (tree / "link").unlink()
    (tree / "link").write_bytes(b"a file now")
    (tree / "moved.txt").rename(tree / "elsewhere.txt")
    (tree / "new.txt").write_bytes(b"came since")


@asynccontextmanager
async def changed(tmp_path: Path) -> AsyncIterator[tuple[Mesh, Device, Device, str]]:
    """Two devices and a relay; `after` happened to what `before` made, at a time that lies between the two."""
    async with open_mesh(tmp_path) as mesh:
        await mesh.start_relay()
        laptop, desk = await mesh.start("laptop"), await mesh.start("desk")
        before(laptop.tree)
        await desk.join((await laptop.share()).ticket)
        await synced(laptop, desk)
        between = datetime.fromtimestamp(mesh.runtime.wall_time_ns() / 1e9, UTC).isoformat()
        after(desk.tree)
        await desk.service.rescan("")
        await synced(laptop, desk)
        yield mesh, laptop, desk, between


async def synced(*devices: Device) -> None:
    for device in devices:
        await device.service.wait(api.WaitRequest(durable=True, timeout_s=WAIT_S))
    assert len({repr(tree_of(device.tree)) for device in devices}) == 1


async def restore(device: Device, path: Path, **how: object) -> api.RestoreResult:
    return await device.service.restore(api.RestoreRequest(path=str(path), **how), lambda done, total: None)  # type: ignore[arg-type]


async def test_a_whole_folder_comes_back_elsewhere_exactly_as_it_was(tmp_path: Path) -> None:
    async with changed(tmp_path) as (_, laptop, desk, between):
        before(wanted := tmp_path / "wanted")
        for device in (laptop, desk):
            out = tmp_path / f"out of {device.tree.name}"
            done = await restore(device, device.tree, at=between, to=str(out))
            assert tree_of(Path(done.restored_to)) == tree_of(wanted)
            assert done.restored_to == str(out / device.tree.name)
            with pytest.raises(ConfigError, match="something lies there already"):
                await restore(device, device.tree, at=between, to=str(out))
        assert [path.name for path in out.iterdir()] == [desk.tree.name]


async def test_in_place_what_was_comes_back_what_came_since_stays_and_all_devices_get_it(tmp_path: Path) -> None:
    async with changed(tmp_path) as (_, laptop, desk, between):
        now = tree_of(laptop.tree)
        told = await restore(laptop, laptop.tree, at=between, dry_run=True)
        assert tree_of(laptop.tree) == now
        assert "large.bin" in told.changed and told.restored_to == ""
        done = await restore(laptop, laptop.tree, at=between)
        assert (done.skipped, done.not_restored) == ([], 0)
        assert sorted(done.changed) == sorted(told.changed) and done.unchanged == told.unchanged
        await synced(laptop, desk)
        before(wanted := tmp_path / "wanted")
        found = tree_of(laptop.tree)
        assert {name: found.get(name) for name in tree_of(wanted)} == tree_of(wanted)
        assert found["new.txt"] == b"came since" and found["2024/a.jpg"] == b"second"
        versions = (await desk.service.log("", str(desk.tree / "link"))).versions
        assert [version.change for version in versions] == ["restored", "edited", "created"]
        again = await restore(laptop, laptop.tree, at=between)
        assert (again.changed, again.unchanged) == ([], again.files)


async def test_a_removed_directory_comes_back_with_all_that_was_in_it(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        await mesh.start_relay()
        laptop = await mesh.start("laptop")
        before(laptop.tree)
        await laptop.share()
        await synced(laptop)
        photos = tree_of(laptop.tree / "photos")
        for path in sorted((laptop.tree / "photos").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (laptop.tree / "photos").rmdir()
        await laptop.service.rescan("laptop")
        await synced(laptop)
        await restore(laptop, laptop.tree / "photos")
        assert tree_of(laptop.tree / "photos") == photos


async def test_what_is_restored_into_the_folder_itself_is_put_there_whole_file_by_whole_file(tmp_path: Path) -> None:
    async with changed(tmp_path) as (_, laptop, desk, between):
        before(wanted := tmp_path / "wanted")
        (laptop.tree / "old").mkdir()
        (tmp_path / "shortcut").symlink_to(laptop.tree / "old")
        for to in (laptop.tree / "old", tmp_path / "shortcut"):
            done = await restore(laptop, laptop.tree / "photos", at=between, to=str(to))
            assert tree_of(Path(done.restored_to)) == tree_of(wanted / "photos")
            await synced(laptop, desk)
            (laptop.tree / "old" / "photos").rename(laptop.tree / f"as {to.name}")
        whole = await restore(laptop, laptop.tree, at=between, to=str(laptop.tree / "old"))
        assert tree_of(Path(whole.restored_to)) == tree_of(wanted)
        assert not [name for name in os.listdir(laptop.tree / "old") if name.startswith(".")]
        with pytest.raises(ConfigError, match="something lies there already"):
            await restore(laptop, laptop.tree, at=between, to=str(laptop.tree / "old"))
        await synced(laptop, desk)


async def given_up(device: Device, request: api.RestoreRequest, reports: int) -> None:
    """Ask for a restore and give it up when it tells how far it is for the `reports`-th time."""
    told = count(1)

    def progress(done: int, total: int) -> None:
        if next(told) == reports:
            asked.cancel()

    asked = asyncio.ensure_future(device.service.restore(request, progress))
    await asyncio.gather(asked, return_exceptions=True)


async def test_a_restore_that_is_given_up_leaves_whole_files_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshsync.agent.restoring.RESTORE_BATCH_FILES", 4)
    async with open_mesh(tmp_path) as mesh:
        await mesh.start_relay()
        laptop = await mesh.start("laptop")
        for name, size in (("many", 20), ("others", 80)):  # so few of all are removed that no safeguard minds
            (laptop.tree / name).mkdir()
            for number in range(size):
                (laptop.tree / name / f"{number}").write_bytes(b"%d " % number * 5000)
        await laptop.share()
        await synced(laptop)
        wanted = tree_of(laptop.tree / "many")
        shutil.rmtree(laptop.tree / "many")
        await laptop.service.rescan("")
        await synced(laptop)
        partly = 0
        for reports in range(1, 42, 3):
            for to in ("", str(tmp_path / "out")):
                await given_up(laptop, api.RestoreRequest(path=str(laptop.tree / "many"), to=to), reports)
                found = tree_of(laptop.tree / "many")
                assert {name: wanted[name] for name in found} == found
                partly += 0 < len(found) < len(wanted)
                for place in (laptop.tree / ".meshsync" / "staging", tmp_path / "out"):
                    await mesh.until(lambda place=place: not place.exists() or not [*place.iterdir()])  # type: ignore[misc]
            for path in (laptop.tree / "many").glob("*"):
                path.unlink()
            await laptop.service.rescan("")
        assert partly, "no restore was given up half-way"
        await synced(laptop)


async def test_a_file_is_found_by_a_name_that_it_has_or_had(tmp_path: Path) -> None:
    async with changed(tmp_path) as (_, laptop, _, _):
        (laptop.tree / "photos").rmdir()
        (laptop.tree / "Run.bat").write_bytes(b"other")
        await laptop.service.rescan("")

        async def found(name: str, deleted: bool = False) -> set[tuple[str, str]]:
            answer = await laptop.service.find(name, "", deleted)
            return {(version.path, version.change) for version in answer.versions}

        assert await found("RUN") == {("run.sh", "created"), ("Run.bat", "created")}
        assert await found("*.bin") == {("large.bin", "deleted")}
        assert await found("*.bi") == set()
        assert await found("moved") == {("elsewhere.txt", "renamed")}
        assert await found("*", deleted=True) == {
            ("large.bin", "deleted"),
            ("photos", "deleted"),
            ("photos/empty", "deleted"),
        }
        assert await found("%") == set()


async def test_what_an_edit_wrote_that_nobody_was_told_of_is_not_lost(tmp_path: Path) -> None:
    async with changed(tmp_path) as (_, laptop, desk, between):
        (laptop.tree / "link").write_bytes(b"just now")
        await restore(laptop, laptop.tree / "link", at=between)
        await synced(laptop, desk)
        assert tree_of(laptop.tree)["link"] == "link to large.bin"
        aside = [path for path in (laptop.tree / ".meshsync" / "kept").rglob("link") if path.is_file()]
        assert [path.read_bytes() for path in aside] == [b"just now"]
        versions = (await laptop.service.log("", str(laptop.tree / "link"))).versions
        assert len(b"just now") in {version.size for version in versions}


async def test_a_directory_in_the_way_is_named_and_left(tmp_path: Path) -> None:
    async with changed(tmp_path) as (_, laptop, _, between):
        (laptop.tree / "large.bin").mkdir()
        (laptop.tree / "large.bin" / "inside").write_bytes(b"mine")
        done = await restore(laptop, laptop.tree, at=between)
        assert [(item.path, item.why) for item in done.skipped] == [("large.bin", "a directory lies there now")]
        assert tree_of(laptop.tree)["large.bin/inside"] == b"mine"
        assert tree_of(laptop.tree)["moved.txt"] == b"moves"


async def test_what_cannot_be_is_refused_with_what_to_do(tmp_path: Path) -> None:
    async with changed(tmp_path) as (mesh, laptop, desk, between):
        long_ago = (datetime.now(UTC) - timedelta(days=1)).isoformat()
        with pytest.raises(NotFound, match="nothing lay there then"):
            await restore(laptop, laptop.tree / "large.bin", at=long_ago)
        with pytest.raises(ConfigError, match="the time is needed"):
            await restore(laptop, laptop.tree)
        with pytest.raises(NotFound, match="neither a time nor a snapshot"):
            await restore(laptop, laptop.tree, at="soon")
        with pytest.raises(ConfigError, match="without its zone"):
            await restore(laptop, laptop.tree, at="2026-01-01T00:00:00")
        request = api.RoleRequest(folder="laptop", device=desk.agent.keys.device.hex(), role="reader")
        await laptop.service.change_role(request)
        (folder,) = desk.agent.folders.values()
        await mesh.until(lambda: not folder.replica.membership.may_write(desk.agent.keys.device))
        with pytest.raises(RoleForbids):
            await restore(desk, desk.tree, at=between)
        done = await restore(desk, desk.tree / "large.bin", at=between, to=str(tmp_path / "out"))
        assert Path(done.restored_to).read_bytes() == LARGE


async def test_what_was_set_aside_is_looked_through_once_for_many_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each restore sets aside what it replaces: looking through all of it for each file would take ever longer."""
    async with open_mesh(tmp_path) as mesh:
        await mesh.start_relay()
        laptop = await mesh.start("laptop")
        for number in range(40):
            (laptop.tree / f"file {number}").write_bytes(b"first %d" % number)
        await laptop.share()
        await synced(laptop)
        await laptop.service.snapshot(api.SnapshotRequest(name="first"))
        for number in range(40):
            (laptop.tree / f"file {number}").write_bytes(b"other %d" % number)
        await laptop.service.rescan("")
        await synced(laptop)
        walked: list[Path] = []
        walk = os.walk
        monkeypatch.setattr("meshsync.agent.kept.os.walk", lambda top: walked.append(top) or walk(top))
        done = await restore(laptop, laptop.tree, at="first")
        assert done.files == 40 and (laptop.tree / "file 7").read_bytes() == b"first 7"
        assert len(walked) == 1
