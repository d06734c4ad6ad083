"""A snapshot is a name for the folder as it was: every member can look into it, compare it and go back to it (P10)."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshsync.agent import api_schema as api
from meshsync.errors import ConfigError, NotFound, RoleForbids
from tests.agent.test_agent_restoring import after, before, restore, synced, tree_of
from tests.support.pairing_mesh import Device, Mesh, open_mesh


async def snapshot(device: Device, name: str, **how: object) -> list[api.Snapshot]:
    return (await device.service.snapshot(api.SnapshotRequest(name=name, **how))).snapshots  # type: ignore[arg-type]


async def names(device: Device) -> list[tuple[str, str]]:
    return [(one.name, one.device) for one in (await device.service.snapshots("")).snapshots]


async def joined(mesh: Mesh) -> tuple[Device, Device]:
    """A folder in which a snapshot was taken before it changed."""
    await mesh.start_relay()
    laptop, desk = await mesh.start("laptop"), await mesh.start("desk")
    before(laptop.tree)
    ticket = (await laptop.share()).ticket
    (laptop.tree / "run.sh").write_bytes(b"#!/bin/sh -e\n")  # nobody has looked at it yet
    await snapshot(laptop, "first")
    after(laptop.tree)
    await laptop.service.rescan("")
    await desk.join(ticket)
    await synced(laptop, desk)
    return laptop, desk


async def test_what_had_a_name_comes_back_exactly_on_every_device(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        laptop, desk = await joined(mesh)
        before(wanted := tmp_path / "wanted")
        (wanted / "run.sh").write_bytes(b"#!/bin/sh -e\n")
        assert await names(desk) == [("first", "laptop")]
        done = await restore(desk, desk.tree, at="first", to=str(tmp_path / "out"))
        assert tree_of(Path(done.restored_to)) == tree_of(wanted)
        await snapshot(desk, "second")
        await restore(desk, desk.tree, at="first", exact=True)
        await synced(laptop, desk)
        assert tree_of(laptop.tree) == tree_of(wanted)
        await restore(laptop, laptop.tree, at="second", exact=True)
        after(wanted)
        assert tree_of(laptop.tree) == tree_of(wanted)


async def test_one_looks_into_it_and_compares_it_without_writing(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        _, desk = await joined(mesh)
        now = tree_of(desk.tree)
        listed = await desk.service.directory(str(desk.tree), "first", "")
        assert [(one.name, one.kind, one.size) for one in listed.entries] == [
            ("large.bin", "file", 300_000),
            ("link", "link", 0),
            ("moved.txt", "file", 5),
            ("photos", "directory", 0),
            ("run.sh", "file", 13),
        ]
        later = await desk.service.directory(str(desk.tree), "first", "moved.txt")
        assert [one.name for one in later.entries] == ["photos", "run.sh"]
        inside = await desk.service.directory(str(desk.tree / "photos"), "first", "")
        assert [one.name for one in inside.entries] == ["2024", "empty"]
        present = await desk.service.directory(str(desk.tree), "", "")
        assert "new.txt" in [one.name for one in present.entries]
        read = b"".join([piece async for piece in desk.service.cat(str(desk.tree / "moved.txt"), "", "first")])
        assert read == b"moves"
        found = await desk.service.compare(str(desk.tree), "first", "")
        assert (found.created, found.changed, found.removed, found.counts) == (
            ["2024", "2024/a.jpg", "elsewhere.txt", "new.txt"],
            ["link", "run.sh"],
            ["large.bin", "moved.txt", "photos/2024", "photos/2024/a.jpg", "photos/empty"],
            [4, 2, 5],
        )
        with pytest.raises(NotFound, match="nothing lay there then"):
            await desk.service.directory(str(desk.tree / "2024"), "first", "")
        with pytest.raises(NotFound, match="not a directory"):
            await desk.service.directory(str(desk.tree / "run.sh"), "first", "")
        with pytest.raises(NotFound, match="not a file"):
            await anext(desk.service.cat(str(desk.tree / "photos"), "", "first"))
        assert tree_of(desk.tree) == now


async def test_a_name_is_used_once_and_can_be_given_up(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        laptop, desk = await joined(mesh)
        with pytest.raises(ConfigError, match="there is a snapshot of this name"):
            await snapshot(desk, "first")
        for bad in ("", "a/b", "x" * 300, "a\nb"):
            with pytest.raises(ConfigError, match="not a name"):
                await snapshot(desk, bad)
        assert await snapshot(desk, "first", remove=True) == []
        await synced(laptop, desk)
        assert await names(laptop) == []
        with pytest.raises(NotFound, match="neither a time nor a snapshot"):
            await restore(laptop, laptop.tree, at="first")
        with pytest.raises(NotFound, match="no such snapshot"):
            await snapshot(laptop, "first", remove=True)
        await snapshot(laptop, "first")
        restarted = await mesh.restart(laptop)
        assert await names(restarted) == [("first", "laptop")]


async def test_who_may_only_read_takes_none_and_sees_all(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        laptop, desk = await joined(mesh)
        request = api.RoleRequest(folder="laptop", device=desk.agent.keys.device.hex(), role="reader")
        await laptop.service.change_role(request)
        (folder,) = desk.agent.folders.values()
        await mesh.until(lambda: not folder.replica.membership.may_write(desk.agent.keys.device))
        for named in ("", "laptop"):
            with pytest.raises(RoleForbids):
                await snapshot(desk, "mine", folder=named)
        assert await names(desk) == [("first", "laptop")]
