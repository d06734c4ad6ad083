"""The note of a recovery sheet, and what a device enrols, removes and never repeats; on real folders, without a net."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from meshsync.agent.home import Home
from meshsync.agent.members_keys import make_removal
from meshsync.agent.sheet_note import SheetNote, load_note, save_note
from meshsync.agent.sheets import Sheets
from meshsync.content.recovery_sheet import parse_sheet, sheet_keys
from meshsync.errors import ConfigError
from meshsync.ids import DeviceId
from tests.support.member_scene import Scene, open_scene

NOTE = SheetNote(1, b"d" * 32, b"x" * 32, b"c" * 64, 7, (b"o" * 32,))


def made_at(tmp_path: Path) -> Home:
    home = Home(tmp_path / "of-the-sheet")
    home.create()
    return home


async def sheets_of(scene: Scene, home: Home) -> Sheets:
    return await asyncio.to_thread(Sheets, scene.runtime, home, scene.own, "laptop", "Anna")


class TestNote:
    def test_comes_back_as_it_was_kept_for_this_user_only(self, tmp_path: Path) -> None:
        home = made_at(tmp_path)
        assert load_note(home) is None
        save_note(home, NOTE)
        assert load_note(home) == NOTE and home.recovery_sheet.stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("data", [b"", b"junk", b"\x96\x02"])
    def test_a_damaged_one_is_told_and_not_taken_for_none(self, tmp_path: Path, data: bytes) -> None:
        home = made_at(tmp_path)
        home.recovery_sheet.write_bytes(data)
        with pytest.raises(ConfigError):
            load_note(home)


class TestSheets:
    async def test_what_is_enrolled_opens_with_the_words_and_with_nothing_that_is_kept(self, tmp_path: Path) -> None:
        async with open_scene(tmp_path) as scene:
            home = made_at(tmp_path)
            sheets = await sheets_of(scene, home)
            secret = parse_sheet(" ".join(await sheets.make(False)))
            await sheets.keep(scene.folder)
            sheet = sheet_keys(secret)
            member = scene.folder.replica.membership.members[sheet.device]
            assert member.enrolled_by == scene.own.device and member.box_public == sheet.box_public
            data = home.recovery_sheet.read_bytes()
            assert secret not in data and sheet.seed[:32] not in data and sheet.seed[32:] not in data

    async def test_keeping_twice_changes_nothing(self, tmp_path: Path) -> None:
        async with open_scene(tmp_path) as scene:
            sheets = await sheets_of(scene, made_at(tmp_path))
            await sheets.make(False)
            await sheets.keep(scene.folder)
            count = scene.folder.replica.membership_count()
            await sheets.keep(scene.folder)
            assert scene.folder.replica.membership_count() == count

    async def test_after_a_crash_the_note_alone_is_enough(self, tmp_path: Path) -> None:
        async with open_scene(tmp_path) as scene:
            home = made_at(tmp_path)
            await (await sheets_of(scene, home)).make(False)
            again = await sheets_of(scene, home)
            assert again.note is not None and again.state(scene.folder) == "waiting"
            await again.keep(scene.folder)
            assert scene.folder.replica.membership.is_member(DeviceId(again.note.device))
            assert again.state(scene.folder) == "no relay"

    async def test_a_second_is_refused_and_a_new_one_ends_the_first(self, tmp_path: Path) -> None:
        async with open_scene(tmp_path) as scene:
            sheets = await sheets_of(scene, made_at(tmp_path))
            old = sheet_keys(parse_sheet(" ".join(await sheets.make(False)))).device
            await sheets.keep(scene.folder)
            with pytest.raises(ConfigError):
                await sheets.make(False)
            epoch = scene.folder.replica.membership.epoch
            new = sheet_keys(parse_sheet(" ".join(await sheets.make(True)))).device
            await sheets.keep(scene.folder)
            membership = scene.folder.replica.membership
            assert membership.is_member(new) and not membership.is_member(old) and membership.epoch != epoch

    async def test_one_that_an_owner_removed_stays_removed(self, tmp_path: Path) -> None:
        async with open_scene(tmp_path) as scene:
            sheets = await sheets_of(scene, made_at(tmp_path))
            await sheets.make(False)
            await sheets.keep(scene.folder)
            assert sheets.note is not None
            device, replica = DeviceId(sheets.note.device), scene.folder.replica
            await replica.propose(lambda: make_removal(replica, scene.runtime, device))
            await sheets.keep(scene.folder)
            assert not replica.membership.is_member(device) and sheets.state(scene.folder) == "removed"
