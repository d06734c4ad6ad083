"""A folder whose index the disk refuses when it is made is there as soon as that is over (P15)."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshsync.errors import ConfigError, StorageFull
from meshsync.index.database import Database
from tests.support.pairing_mesh import open_mesh


class Index:
    """Opens indexes, except while it `refuses`."""

    refuses = True

    def open(self, path: Path) -> Database:
        if self.refuses:
            raise StorageFull("no space is left on the device")
        return Database(path)


async def test_a_folder_that_was_joined_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshsync.agent.daemon.RETRY_BLOCKED_S", 0.02)
    index = Index()
    async with open_mesh(tmp_path) as mesh:
        laptop, desk = await mesh.start("laptop"), await mesh.start("desk", open_index=index.open)
        (laptop.tree / "note").write_bytes(b"from the laptop")
        ticket = (await laptop.share()).ticket
        with pytest.raises(StorageFull):
            await desk.join(ticket)
        with pytest.raises(ConfigError, match="waits for its disk"):
            await desk.join(ticket)
        assert not desk.agent.folders
        index.refuses = False
        await mesh.until(lambda: desk.files() == laptop.files())
        assert not desk.agent.unopened


async def test_a_folder_that_was_shared_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshsync.agent.daemon.RETRY_BLOCKED_S", 0.02)
    index = Index()
    async with open_mesh(tmp_path) as mesh:
        laptop, desk = await mesh.start("laptop", open_index=index.open), await mesh.start("desk")
        (laptop.tree / "note").write_bytes(b"from the laptop")
        with pytest.raises(StorageFull):
            await laptop.share()
        index.refuses = False
        await mesh.until(lambda: bool(laptop.agent.folders))
        await desk.join((await laptop.share()).ticket)
        await mesh.until(lambda: desk.files() == laptop.files())
