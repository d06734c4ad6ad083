"""One file shared by itself (decision 0010): real agents over links in memory; what users see, where files lie."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from meshsync.agent import api_schema as api
from meshsync.agent.api_handouts import SharedFile
from tests.support.pairing_mesh import WAIT_S, Device, Mesh, open_mesh

BODY = bytes(range(256)) * 300


def _quiet(done: int, total: int) -> None:
    """Nobody looks at the progress."""


async def hand_out(
    device: Device, path: Path, *, this_version: bool = False, expires_s: float = 600
) -> api.ShareResult:
    request = api.ShareRequest(path=str(path), this_version=this_version, expires_s=expires_s)
    async with asyncio.timeout(WAIT_S):
        return await device.service.share(request, _quiet)


async def fetch(device: Device, ticket: str, path: Path) -> api.JoinResult:
    async with asyncio.timeout(2 * WAIT_S):
        return await device.service.join(api.JoinRequest(ticket=ticket, path=str(path)), _quiet)


async def shown(device: Device) -> list[SharedFile]:
    return (await device.service.status()).shared_files


@asynccontextmanager
async def sharing(tmp_path: Path) -> AsyncIterator[tuple[Mesh, Device, Device]]:
    """A laptop with a folder of two files, and a desk that is in no folder."""
    async with open_mesh(tmp_path) as mesh:
        laptop, desk = await mesh.start("laptop"), await mesh.start("desk")
        (laptop.tree / "plan.txt").write_bytes(BODY)
        (laptop.tree / "secret.txt").write_bytes(b"nobody's business")
        await laptop.share()
        yield mesh, laptop, desk


async def until_holds(mesh: Mesh, path: Path, content: bytes) -> None:
    await mesh.until(lambda: path.is_file() and path.read_bytes() == content)


class TestAFileIsHandedOver:
    async def test_it_is_put_where_its_user_wants_it_and_nothing_else_comes(self, tmp_path: Path) -> None:
        async with sharing(tmp_path) as (_, laptop, desk):
            shared = await hand_out(laptop, laptop.tree / "plan.txt")
            joined = await fetch(desk, shared.ticket, desk.tree / "mine.txt")
            assert (joined.is_file, joined.name, joined.path) == (True, "plan.txt", str(desk.tree / "mine.txt"))
            assert desk.files() == {"mine.txt": BODY}
            status = await desk.service.status()
            assert status.folders == [], "it is no folder to its user"
            (taken,) = status.shared_files
            assert (taken.name, taken.path, taken.given) == ("plan.txt", str(desk.tree / "mine.txt"), False)
            assert (taken.state, taken.device) == ("up to date", "laptop")
            (given,) = await shown(laptop)
            assert (given.name, given.path, given.given) == ("plan.txt", str(laptop.tree / "plan.txt"), True)
            assert (given.state, given.device, given.follows) == ("up to date", "desk", True)
            assert [folder.name for folder in (await laptop.service.status()).folders] == ["laptop"]
