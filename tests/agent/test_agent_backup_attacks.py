"""Attacks on a device that keeps a folder for others: by what its user does to its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshsync.agent import api_schema as api
from meshsync.errors import ConfigError
from tests.agent.test_agent_backup import backed_up
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
            )
            for question in asked:
                with pytest.raises(ConfigError, match="keeps the folder as a backup") as told:
                    await question
                assert (told.value.folder, told.value.path) == ("nas", str(nas.tree))
                assert "on a member" in told.value.next_step and "meshsync leave nas" in told.value.next_step


def _quiet(done: int, total: int) -> None:
    """Nobody looks at the progress."""
