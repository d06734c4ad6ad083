"""Promise B21: a relay that collects while devices upload loses nothing acknowledged, and gets the rest again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from meshsync.agent import api_schema as api
from meshsync.ids import BlobId, FolderId, RecordId
from meshsync.limits import RELAY_LEASE_S
from meshsync.metalog.record_log import RecordKind
from meshsync.metalog.stored import open_stored
from meshsync.runtime import Runtime
from relay.core import RelayCore
from relay.drivers.base import LetGo, Moved, NotHeld, OverQuota, Row
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


class Collector:
    """The relay's log; while `armed`, every lease ends and a collection runs between an upload and its first record."""

    def __init__(self, core: RelayCore, clock: HastyClock) -> None:
        self._core, self._log, self._clock = core, core.log, clock
        self.armed = False
        self.removed = 0

    async def collect(self) -> None:
        """Remove all that nothing names, as if its lease had ended."""
        self._clock.ahead_s += RELAY_LEASE_S + 1
        self.removed += await collect(self._core) + (await sweep(self._core))[0]

    async def append(
        self,
        folder: FolderId,
        after: int,
        rows: Sequence[Row],
        pins: Sequence[BlobId],
        let_go: LetGo,
        revived: Sequence[RecordId],
    ) -> Moved | NotHeld | OverQuota | None:
        if self.armed and pins:
            self.armed = False
            await self.collect()
        return await self._log.append(folder, after, rows, pins, let_go, revived)

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)


async def acknowledged(core: RelayCore, device: Device) -> set[BlobId]:
    """Return the blobs that the relay's receipts promise."""
    (folder,) = device.agent.folders
    rows = await core.log.read(folder, 1, 1 << 30, 1 << 20, [RecordKind.STORED])
    return {BlobId(blob) for row in rows for blob in open_stored(row.data, folder).blobs}


@pytest.mark.parametrize("seed", range(3))
async def test_uploads_that_find_doomed_blobs_lose_nothing_and_bring_just_those_again(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshsync.agent.joining.JOIN_LAN_S", 0.2)  # the inviter is off then
    chance = random.Random(seed)
    async with open_mesh(tmp_path) as mesh:
        core = (await mesh.start_relay())._core
        laptop = await mesh.start("laptop")
        await laptop.share()
        clock = HastyClock(core.runtime)
        core.runtime = clock  # type: ignore[assignment]
        core.log = log = Collector(core, clock)  # type: ignore[assignment]
        for turn in range(COLLECTIONS):
            (laptop.tree / f"file {turn % 12}").write_bytes(chance.choice(CONTENTS) + bytes([turn // 12]))
            (laptop.tree / "again").write_bytes(chance.choice(CONTENTS))
            if turn % 4 == 0:  # right after blobs came that nothing names yet
                log.armed = True
                (laptop.tree / "new").write_bytes(chance.randbytes(40_000))
                await mesh.until(lambda: not log.armed)
            else:  # at any moment
                for _ in range(chance.randrange(200)):
                    await asyncio.sleep(0)
                await log.collect()
            promised = await acknowledged(core, laptop)
            assert promised <= await core.chunks.has(sorted(promised))
        assert log.removed >= COLLECTIONS // 4, "a collection met no upload"
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
