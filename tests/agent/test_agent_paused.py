"""A paused folder exchanges nothing, with those that are linked already neither."""

from __future__ import annotations

from pathlib import Path

from meshsync.agent import api_schema as api
from meshsync.agent.folder import Folder
from tests.support.pairing_mesh import Device, open_mesh


def folder_at(device: Device, path: Path) -> Folder:
    return next(folder for folder in device.agent.folders.values() if folder.root_path == path)


def heads(folder: Folder) -> list[bytes]:
    return sorted(head.entry for head in folder.replica.chains.heads())


async def test_what_is_written_meanwhile_is_told_to_nobody_until_it_is_resumed(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        laptop, desk = await mesh.start("laptop"), await mesh.start("desk")
        (laptop.tree / "note").write_bytes(b"before")
        await desk.join((await laptop.share()).ticket)
        other = (tmp_path / "other of laptop", tmp_path / "other of desk")
        for path in other:
            path.mkdir()
        invited = await laptop.service.share(
            api.ShareRequest(path=str(other[0]), role="writer", expires_s=3600.0), lambda done, total: None
        )
        await desk.service.join(api.JoinRequest(ticket=invited.ticket, path=str(other[1])), lambda done, total: None)
        mine, theirs = folder_at(laptop, laptop.tree), folder_at(desk, desk.tree)
        await mesh.until(lambda: desk.files() == laptop.files() and heads(mine) == heads(theirs))
        before = heads(mine)

        await laptop.service.pause(str(laptop.tree))
        (laptop.tree / "note").write_bytes(b"while it was paused")
        await mesh.until(lambda: heads(mine) != before)
        (other[0] / "later").write_bytes(b"")  # what is told later, by the same link, is there
        await mesh.until((other[1] / "later").exists)
        assert heads(theirs) == before

        await laptop.service.resume(str(laptop.tree))
        await mesh.until(lambda: desk.files() == laptop.files() and heads(mine) == heads(theirs))
        (laptop.tree / "note").write_bytes(b"and after it")
        await mesh.until(lambda: desk.files() == {"note": b"and after it"})
