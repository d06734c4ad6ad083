"""Promise B21: a relay that collects while devices upload loses nothing acknowledged, and gets the rest again."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from meshsync.agent import api_schema as api
from meshsync.ids import BlobId
from meshsync.limits import RELAY_LEASE_S
from meshsync.metalog.record_log import RecordKind
from meshsync.metalog.stored import open_stored
from meshsync.runtime import Runtime
from relay.core import RelayCore
from relay.upkeep import collect, sweep
from tests.support.pairing_mesh import WAIT_S, Device, Mesh, open_mesh

COLLECTIONS = 60
CONTENTS = [random.Random(number).randbytes(40_000) for number in range(6)]  # few: most uploads find their blobs there


class HastyClock:
    """The relay's runtime, whose wall clock is set ahead by the test: every lease ends when the test wants it to."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.ahead_s = 0

    def wall_time_ns(self) -> int:
        return self._runtime.wall_time_ns() + self.ahead_s * 1_000_000_000

    def __getattr__(self, name: str) -> object:
        return getattr(self._runtime, name)


async def acknowledged(core: RelayCore, device: Device) -> set[BlobId]:
    """Return the blobs that the relay's receipts promise."""
    (folder,) = device.agent.folders
    rows = await core.log.read(folder, 1, 1 << 30, 1 << 20, [RecordKind.STORED])
    return {BlobId(blob) for row in rows for blob in open_stored(row.data, folder).blobs}


def held(mesh: Mesh) -> set[BlobId]:
    """Return the blobs that the relay has, named or not."""
    return set(mesh.relay_blobs.ids())


@pytest.mark.parametrize("seed", range(3))
async def test_uploads_that_find_doomed_blobs_lose_nothing_and_bring_just_those_again(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    async with open_mesh(tmp_path) as mesh:
        core = (await mesh.start_relay())._core
        laptop = await mesh.start("laptop")
        await laptop.share()
        clock = HastyClock(core.runtime)
        core.runtime = clock  # type: ignore[assignment]
        removed = 0
        for turn in range(COLLECTIONS):
            (laptop.tree / f"file {turn % 12}").write_bytes(chance.choice(CONTENTS) + bytes([turn // 12]))
            (laptop.tree / "again").write_bytes(chance.choice(CONTENTS))
            if turn % 4 == 0:  # right after a blob came that nothing names yet
                (laptop.tree / "new").write_bytes(chance.randbytes(40_000))
                there = held(mesh)
                await mesh.until(lambda there=there: not held(mesh) <= there)  # type: ignore[misc]
            else:  # at any moment
                for _ in range(chance.randrange(200)):
                    await asyncio.sleep(0)
            clock.ahead_s += RELAY_LEASE_S + 1
            promised = await acknowledged(core, laptop)
            removed += await collect(core) + (await sweep(core))[0]
            assert promised <= await core.chunks.has(sorted(promised))
        assert removed > 0, "no collection met an upload"
        await laptop.service.wait(api.WaitRequest(durable=True, timeout_s=WAIT_S))
        promised = await acknowledged(core, laptop)
        assert promised <= await core.chunks.has(sorted(promised))
        clock.ahead_s = 0  # by a clock that is weeks ahead the ticket has expired
        await comes_back(mesh, laptop)


async def comes_back(mesh: Mesh, laptop: Device) -> None:
    """The laptop goes; a newcomer gets all of it from the relay."""
    files = laptop.files()
    ticket = (await laptop.share()).ticket
    await mesh.stop(laptop)
    desk = await mesh.start("desk")
    await desk.join(ticket)
    assert desk.files() == files
