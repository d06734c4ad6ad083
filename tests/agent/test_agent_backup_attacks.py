"""Attacks on a device that keeps a folder for others: by what its user does to its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshsync.agent import api_schema as api
from meshsync.errors import ConfigError, ResourceError, SourceUnavailable, TicketInvalid
from tests.agent.test_agent_backup import BODY, backed_up, durable, only
from tests.support.pairing_mesh import open_mesh


class TestItsPlace:
    @pytest.mark.parametrize("inside", ["", "chunks", ".."])
    async def test_no_folder_is_begun_where_it_keeps_what_is_sealed(self, tmp_path: Path, inside: str) -> None:
        async with backed_up(tmp_path) as (mesh, _, nas):
            place = (nas.tree / inside).resolve()
            with pytest.raises(ConfigError, match="one inside the other"):
                await nas.service.share(api.ShareRequest(path=str(place), role="writer", expires_s=60.0), _quiet)
            other = await mesh.start("other")
            ticket = (await other.share()).ticket
            with pytest.raises(ConfigError, match="one inside the other"):
                await nas.service.join(api.JoinRequest(ticket=ticket, path=str(place)), _quiet)
            assert list(nas.agent.folders) == []


class TestItsName:
    async def test_of_two_kept_folders_with_one_name_none_is_left_by_it(self, tmp_path: Path) -> None:
        async with open_mesh(tmp_path) as mesh:
            nas = await mesh.start("nas")
            places = [tmp_path / "first disk" / "ann", tmp_path / "second disk" / "ann"]
            for name, place in zip(("one", "two"), places, strict=True):
                ticket = (await (await mesh.start(name)).share(role="backup")).ticket
                await nas.service.join(api.JoinRequest(ticket=ticket, path=str(place)), _quiet)
            with pytest.raises(ConfigError, match="several folders") as told:
                await nas.service.leave("ann")
            assert all(str(place) in told.value.path for place in places)
            assert len(nas.agent.backups.folders) == 2
            await nas.service.leave(str(places[1]))
            assert [place.exists() for place in places] == [True, False]
            await nas.service.leave("ann")

    async def test_what_only_a_reader_can_do_is_refused_with_what_to_do(self, tmp_path: Path) -> None:
        async with backed_up(tmp_path) as (_, _, nas):
            asked = (
                nas.service.pause("nas"),
                nas.service.members("nas"),
                nas.service.versions("nas", False),
                nas.service.log("nas", "some file"),
                nas.service.log("", str(nas.tree / "some file")),
                nas.service.why(str(nas.tree / "some file")),
            )
            for question in asked:
                with pytest.raises(ConfigError, match="keeps the folder as a backup") as told:
                    await question
                assert (told.value.folder, told.value.path) == ("nas", str(nas.tree))
                assert "on a member" in told.value.next_step and "meshsync leave nas" in told.value.next_step


def _quiet(done: int, total: int) -> None:
    """Nobody looks at the progress."""


class TestItComesBack:
    async def test_one_that_was_removed_is_refused_under_its_old_key_and_welcome_under_another(
        self, tmp_path: Path
    ) -> None:
        # Members hold what the old key signed: a new log under it would be one that was set back.
        async with backed_up(tmp_path) as (mesh, laptop, nas):
            await laptop.service.remove(api.RemovalRequest(folder="laptop", who=nas.agent.keys.device.hex()))
            await mesh.until(lambda: nas.agent.backups.folders[only(nas)].parted)
            await nas.service.leave("nas")
            shared = await laptop.share(role="backup")
            with pytest.raises(TicketInvalid) as told:
                await nas.join(shared.ticket)
            assert "was a backup of the folder before" in told.value.what and "--home" in told.value.next_step
            assert (nas.agent.backups.folders, nas.tree.exists()) == ({}, False)
            second = await mesh.start("second home")
            await second.join(shared.ticket)  # it was not used
            (laptop.tree / "later.txt").write_bytes(b"later")
            await durable(mesh, laptop)
            folder = next(iter(laptop.agent.folders.values()))
            assert folder.watch.convicted == {}

    async def test_one_that_left_unasked_is_told_what_to_do(self, tmp_path: Path) -> None:
        async with backed_up(tmp_path) as (_, laptop, nas):
            await nas.service.leave("nas")
            with pytest.raises(TicketInvalid) as told:
                await nas.join((await laptop.share(role="backup")).ticket)
            assert "--home" in told.value.next_step

    async def test_a_join_that_fails_admits_nobody_and_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_mesh(tmp_path) as mesh:
            laptop, nas = await mesh.start("laptop"), await mesh.start("nas")
            shared = await laptop.share(role="backup")
            nas.tree.rmdir()
            (tmp_path / "blocked").write_bytes(b"a file, where a directory must be")
            request = api.JoinRequest(ticket=shared.ticket, path=str(tmp_path / "blocked" / "nas"))
            with pytest.raises(ConfigError):
                await nas.service.join(request, lambda done, total: None)
            await laptop.service.revoke(api.RevokeRequest(folder="laptop", id=shared.id))
            with monkeypatch.context() as short, pytest.raises(SourceUnavailable):
                short.setattr("meshsync.agent.joining.JOIN_TIMEOUT_S", 0.3)  # nobody answers to this ticket any more
                await nas.join(shared.ticket)
            assert (nas.agent.backups.folders, nas.tree.exists()) == ({}, False)
            assert not any((nas.agent.home.path / "backups").iterdir())
            (folder,) = laptop.agent.folders.values()
            assert folder.replica.membership.backups() == []
            await nas.join((await laptop.share(role="backup")).ticket)
            assert folder.replica.membership.backups() == [nas.agent.keys.device]

    async def test_more_than_an_entry_can_speak_of_are_members_and_hold_up_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("meshsync.limits.FOLDER_RELAYS_MAX", 1)
        async with backed_up(tmp_path) as (mesh, laptop, nas):
            second = await mesh.start("second")
            await second.join((await laptop.share(role="backup")).ticket)
            (laptop.tree / "later.bin").write_bytes(BODY[::-1])
            await durable(mesh, laptop)
            (folder,) = laptop.agent.folders.values()
            assert folder.replica.keepers == (nas.agent.keys.device,)
            assert [item.what for item in (await laptop.service.status()).health] == []
            held = second.agent.backups.folders[folder.id]
            await mesh.until(lambda: held.membership == folder.replica.membership)


class TestItsDiskIsAway:
    async def test_its_user_is_told_when_it_fails_while_nobody_brings_anything(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("meshsync.agent.backup_folder.BACKUP_CHECK_S", 0.05)
        monkeypatch.setattr("meshsync.agent.backup_folder.RETRY_BLOCKED_S", 0.05)
        async with backed_up(tmp_path) as (mesh, laptop, nas):
            held = nas.agent.backups.folders[only(nas)]
            assert held.problem is None
            away = nas.tree.rename(tmp_path / "unplugged")
            await mesh.until(lambda: isinstance(held.problem, ResourceError))
            (item,) = (await nas.service.status()).health
            assert "not there" in item.what
            away.rename(nas.tree)
            await mesh.until(lambda: held.problem is None)
            (laptop.tree / "later.bin").write_bytes(BODY[::-1])
            await durable(mesh, laptop)

    async def test_leaving_says_where_what_was_kept_still_lies(self, tmp_path: Path) -> None:
        async with backed_up(tmp_path) as (mesh, _, nas):
            await mesh.stop(nas)
            away = nas.tree.rename(tmp_path / "unmounted")
            again = await mesh.restart(nas)
            left = await again.service.leave("nas")
            assert (left.was_backup, left.left) == (True, str(nas.tree))
            assert (away / "log.sqlite").exists()
            assert again.agent.backups.folders == {}
