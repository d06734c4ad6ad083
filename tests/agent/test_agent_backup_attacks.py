"""Attacks on a device that keeps a folder for others: by what its user does to its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshsync.agent import api_schema as api
from meshsync.errors import ConfigError
from tests.agent.test_agent_backup import backed_up


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


def _quiet(done: int, total: int) -> None:
    """Nobody looks at the progress."""
