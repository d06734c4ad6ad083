"""Two real devices, of which one shares one file of its folder with the other, at the hand of a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from meshsync.agent import api_schema as api
from meshsync.agent.api_handouts import SharedFile
from tests.support.pairing_mesh import WAIT_S, Device, Mesh, open_mesh

BODY = bytes(range(256)) * 300


def _quiet(done: int, total: int) -> None:
    """Nobody looks at the progress."""


async def hand_out(
    device: Device, path: Path, *, this_version: bool = False, expires_s: float = 600, role: api.Role = "writer"
) -> api.ShareResult:
    request = api.ShareRequest(path=str(path), this_version=this_version, expires_s=expires_s, role=role)
    async with asyncio.timeout(WAIT_S):
        return await device.service.share(request, _quiet)


async def fetch(device: Device, ticket: str, path: Path) -> api.JoinResult:
    async with asyncio.timeout(2 * WAIT_S):
        return await device.service.join(api.JoinRequest(ticket=ticket, path=str(path)), _quiet)


async def shown(device: Device) -> list[SharedFile]:
    return (await device.service.status()).shared_files


async def health(device: Device) -> list[str]:
    return [item.what for item in (await device.service.status()).health]


@asynccontextmanager
async def sharing(tmp_path: Path, *, relay: bool = False) -> AsyncIterator[tuple[Mesh, Device, Device]]:
    """A laptop with a folder of two files, and a desk that is in no folder."""
    async with open_mesh(tmp_path) as mesh:
        if relay:
            await mesh.start_relay()
        laptop, desk = await mesh.start("laptop"), await mesh.start("desk")
        (laptop.tree / "plan.txt").write_bytes(BODY)
        (laptop.tree / "secret.txt").write_bytes(b"nobody's business")
        await laptop.share()
        yield mesh, laptop, desk


@asynccontextmanager
async def handed(tmp_path: Path, *, relay: bool = False) -> AsyncIterator[tuple[Mesh, Device, Device]]:
    """The same, after the desk has taken the plan."""
    async with sharing(tmp_path, relay=relay) as (mesh, laptop, desk):
        shared = await hand_out(laptop, laptop.tree / "plan.txt")
        await fetch(desk, shared.ticket, desk.tree / "plan.txt")
        yield mesh, laptop, desk


def save(path: Path, content: bytes) -> None:
    """Save as editors do: beside it, then renamed over it."""
    beside = path.with_name(path.name + "~")
    beside.write_bytes(content)
    beside.replace(path)


def holds(path: Path, content: bytes) -> Callable[[], bool]:
    return lambda: path.is_file() and path.read_bytes() == content


async def noticed(device: Device) -> None:
    """Wait until the folder's log has what its user did."""
    await device.service.rescan("laptop")
    await device.service.wait(api.WaitRequest(folder="laptop", timeout_s=WAIT_S))


async def state(mesh: Mesh, device: Device, wanted: str) -> None:
    """Wait until the one file of `device` is shown in a state."""
    async with asyncio.timeout(WAIT_S):
        while [file.state for file in await shown(device)] != [wanted]:
            await asyncio.sleep(0.01)
