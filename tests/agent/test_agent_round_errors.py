"""A round that ends in an error delays what it had taken up and forgets none of it (P15, P18)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from meshsync.agent.machine import SYSTEM
from meshsync.codec.canonical import encode
from meshsync.errors import StorageFull
from meshsync.ids import DeviceId
from meshsync.index.database import Database
from meshsync.metalog.membership_entry import SetRelay
from tests.support.member_scene import open_scene


class FullForAMoment(Database):
    """An index on a disk that takes `admitted` transactions, then refuses `refusals`."""

    admitted = refusals = 0

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        if self.admitted:
            self.admitted -= 1
        elif self.refusals:
            self.refusals -= 1
            raise StorageFull("no space is left on the device")
        with super().transaction():
            yield


async def test_a_save_that_the_index_could_not_take_is_published_when_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshsync.agent.folder_loop.RETRY_BLOCKED_S", 0.05)
    async with open_scene(tmp_path, replace(SYSTEM, open_index=FullForAMoment)) as scene:
        loop, index = scene.folder.loop, scene.folder.database
        assert loop is not None and isinstance(index, FullForAMoment)
        index.refusals = 1
        (scene.root / "note").write_text("saved while the disk was full")
        await scene.until(lambda: index.refusals == 0)
        await scene.until(lambda: loop.idle and scene.folder.replica.view.resolve((b"note",)) is not None)
        assert loop.problem == ""
        held = {link[3] for link in scene.folder.replica.log_rows.entry_links()}
        assert {head.entry for head in scene.folder.replica.chains.heads()} <= held


async def test_entries_that_the_index_could_not_take_are_taken_when_they_come_again(tmp_path: Path) -> None:
    async with open_scene(tmp_path, replace(SYSTEM, open_index=FullForAMoment)) as scene:
        replica, index = scene.folder.replica, scene.folder.database
        assert isinstance(index, FullForAMoment)
        member = await scene.member(b"m")
        member.membership = (replica.membership_count(), replica.membership.head)
        data = encode(member.write(member.put(b"theirs", member.hold([b"content"]))).signed)
        index.refusals = 1
        with pytest.raises(StorageFull):
            await replica.receive_entries((data,))
        assert len(replica.chains) == 0 and replica.view.resolve((b"theirs",)) is None
        assert await replica.receive_entries((data,))
        assert len(replica.chains) == 1 and replica.view.resolve((b"theirs",)) is not None


async def test_a_membership_change_that_the_index_could_not_take_is_held_nowhere(tmp_path: Path) -> None:
    async with open_scene(tmp_path, replace(SYSTEM, open_index=FullForAMoment)) as scene:
        replica, index = scene.folder.replica, scene.folder.database
        assert isinstance(index, FullForAMoment)
        before = replica.membership.head
        change = SetRelay(DeviceId(b"r" * 32), ("quic://relay.example:1",))
        index.refusals = 1
        with pytest.raises(StorageFull):
            await replica.change_membership(change)
        assert replica.membership.head == before and replica.membership_chain[-1].id == before
        await replica.change_membership(change)
        assert [entry.data for entry in replica.membership_chain] == replica.log_rows.membership()


async def test_versions_that_could_not_be_listed_are_listed_without_another_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshsync.agent.replica.RETRY_BLOCKED_S", 0.05)
    async with open_scene(tmp_path, replace(SYSTEM, open_index=FullForAMoment)) as scene:
        replica, index = scene.folder.replica, scene.folder.database
        assert isinstance(index, FullForAMoment)
        member = await scene.member(b"m")
        member.membership = (replica.membership_count(), replica.membership.head)
        data = encode(member.write(member.put(b"theirs", member.hold([b"content"]))).signed)
        listed = index.execute("SELECT count(*) FROM version")
        index.admitted, index.refusals = 1, 1
        assert await replica.receive_entries((data,))
        assert index.execute("SELECT count(*) FROM version") == listed
        await scene.until(lambda: index.execute("SELECT count(*) FROM version") != listed)
