"""Clocks that are wrong by years take nothing away that a policy keeps, on whichever device they are (P10, B23)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from meshsync.agent.members_keys import make_role
from meshsync.metalog.record_log import RecordKind
from meshsync.metalog.retention_policy import FOREVER
from meshsync.roles import Role
from tests.agent.test_agent_letting_go import Scene, _quick, scene  # noqa: F401
from tests.support.pairing_mesh import Device, open_mesh

DAY_S = 86_400
YEAR_S = 365 * DAY_S


class Clock:
    """The runtime of a device, with its wall clock and its monotonic clock set ahead."""

    def __init__(self, runtime: Any) -> None:
        self._runtime, self.wall_s, self.ran_s = runtime, 0, 0

    def wall_time_ns(self) -> int:
        return int(self._runtime.wall_time_ns()) + self.wall_s * 1_000_000_000

    def monotonic(self) -> float:
        return float(self._runtime.monotonic()) + self.ran_s

    def run(self, seconds: int) -> None:
        self.ran_s += seconds
        self.wall_s += seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)


def clock_of(at: Scene, device: Device) -> Clock:
    """Return the clock by which a device lets go of versions."""
    collecting = at.folder(device).collecting
    collecting._runtime = clock = Clock(collecting._runtime)  # type: ignore[assignment]
    return clock


async def written(at: Scene, device: Device, *versions: tuple[int, bytes]) -> None:
    """Write versions of `plan`, each so many days ago by its author's clock."""
    replica = at.folder(device).replica
    runtime, author = replica._runtime, Clock(replica._runtime)
    replica._runtime = author  # type: ignore[assignment]
    for days, data in versions:
        author.wall_s = -days * DAY_S
        await at.write(device, "plan", data)
    replica._runtime = runtime


@pytest.mark.parametrize("off_s", [0, -5 * YEAR_S, 10 * YEAR_S], ids=["right", "behind", "ahead"])
async def test_on_the_device_that_lets_go(tmp_path: Path, off_s: int) -> None:
    async with open_mesh(tmp_path) as mesh:
        at = await scene(mesh, "laptop")
        (laptop,) = at.devices
        await written(at, laptop, (700, b"first"), (400, b"second"), (10, b"third"))
        clock = clock_of(at, laptop)
        clock.wall_s = off_s
        monthly_s = 5 * YEAR_S if off_s > 0 else FOREVER
        await at.keep(laptop, all_s=DAY_S, daily_s=3 * YEAR_S, monthly_s=monthly_s)
        assert await at.let_go(laptop) == 0
        clock.run(2 * DAY_S)
        assert await at.let_go(laptop) == 0
        await at.pass_time()
        assert await at.contents(laptop, "plan") == [b"first", b"second", b"third"]


@pytest.mark.parametrize("ahead_days", [0, 700])
async def test_on_the_device_of_who_replaced_it(tmp_path: Path, ahead_days: int) -> None:
    async with open_mesh(tmp_path) as mesh:
        at = await scene(mesh, "laptop")
        (laptop,) = at.devices
        await written(at, laptop, (700, b"first"), (-ahead_days, b"second"))
        clock = clock_of(at, laptop)
        await at.keep(laptop, all_s=DAY_S, daily_s=3 * YEAR_S, monthly_s=FOREVER)
        assert await at.let_go(laptop) == 0
        clock.run(2 * DAY_S)
        assert await at.let_go(laptop) == 0
        await at.pass_time()
        assert await at.contents(laptop, "plan") == [b"first", b"second"]


async def test_over_a_restart(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        at = await scene(mesh, "laptop")
        (laptop,) = at.devices
        await at.write_versions(laptop, 3)
        await at.keep(laptop, all_s=6 * DAY_S, daily_s=YEAR_S)
        assert await at.let_go(laptop) == 0
        laptop = await mesh.restart(laptop)
        at.devices = (laptop,)
        clock_of(at, laptop).wall_s = 10 * YEAR_S
        await at.settled()
        assert await at.let_go(laptop) == 0


async def test_an_owner_that_is_new_takes_back_nothing_that_another_lets_go_of(tmp_path: Path) -> None:
    """Here it has not been over for long; that says nothing about how long it is over."""
    async with open_mesh(tmp_path) as mesh:
        at = await scene(mesh, "laptop", "desk")
        laptop, desk = at.devices
        folder = at.folder(laptop)
        await folder.replica.propose(lambda: make_role(folder.replica, desk.agent.keys.device, Role.OWNER))
        await at.write_versions(laptop, 3)
        await at.settled()
        clocks = [clock_of(at, device) for device in at.devices]
        await at.keep(laptop, all_s=90 * DAY_S)
        assert await at.let_go(laptop) == 0
        clocks[0].ran_s = clocks[0].wall_s = clocks[1].wall_s = 100 * DAY_S
        assert await at.let_go(laptop) == 2
        freed = 0
        for _ in range(9):
            assert await at.let_go(desk) == 0
            freed += await at.pass_time(DAY_S)
            for clock in clocks:
                clock.run(DAY_S)
        assert freed == 2
        assert len(await at.core.log.read(folder.id, 1, 1 << 30, 1 << 20, [RecordKind.RETIRE])) == 1
