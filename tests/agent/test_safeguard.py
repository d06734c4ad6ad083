"""The brake remembers what it weighed and holds: across restarts, for as long as the window, whatever a clock says."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshsync.agent.safeguard import Safeguard, pack_vector, unpack_vector
from meshsync.ids import ChainId
from meshsync.index.database import Database
from meshsync.limits import SAFETY_CHANGES_MIN, SAFETY_WINDOW_S
from meshsync.sync.reconcile import Frozen, Plan, reconcile
from tests.model.device_model import file
from tests.support.virtual_runtime import VirtualRuntime
from tests.sync.device_twin import DeviceTwin

COUNT = 2 * SAFETY_CHANGES_MIN
STEP = SAFETY_CHANGES_MIN // 2


class Braked:
    """A device with its safeguard over an index on disk; `restart` is a new process over the same index."""

    def __init__(self, directory: Path) -> None:
        self.device = DeviceTwin(1)
        for number in range(COUNT):
            self.device.disk.write((b"%d" % number,), file(number))
        self.device.sync()
        self.path = directory / "index.sqlite3"
        self.restart()

    def restart(self) -> None:
        self.runtime = VirtualRuntime(1)
        self.database = Database(self.path)
        self.guard = Safeguard(self.runtime, self.database, self.device.device)

    async def round(self) -> Plan:
        """Plan, publish what may go, and save what counts."""
        device, local = self.device, self.device.disk.scan()

        def plan(frozen: Frozen) -> Plan:
            return reconcile(device.synced, local, device.view, None, frozen)

        made = await self.guard.planned(plan, device.synced, local, device.view, full=True)
        device.record(made)
        self.guard.save()
        self.guard.saved()
        return made

    def delete(self, count: int, start: int) -> None:
        for number in range(start, start + count):
            self.device.disk.delete((b"%d" % number,))


@pytest.fixture
def braked(tmp_path: Path) -> Braked:
    return Braked(tmp_path)


async def test_steps_within_the_window_add_up_also_over_a_restart(braked: Braked) -> None:
    for start in (0, STEP):
        braked.delete(STEP, start)
        await braked.round()
        assert not braked.guard.holds
        braked.restart()
    braked.delete(1, 2 * STEP)
    plan = await braked.round()
    (hold,) = braked.guard.holds.values()
    assert (hold.count, hold.total, braked.guard.passed(hold)) == (1, COUNT, 2 * STEP)
    assert not plan.publish


async def test_steps_further_apart_than_the_window_do_not_add_up(braked: Braked) -> None:
    for start in range(0, 3 * STEP, STEP):
        braked.delete(STEP, start)
        await braked.round()
        await braked.runtime.advance(SAFETY_WINDOW_S + 1)
    assert not braked.guard.holds


async def test_a_hold_keeps_its_id_over_a_restart_and_nothing_slips_through(braked: Braked) -> None:
    braked.delete(COUNT - 1, 0)
    await braked.round()
    (before,) = braked.guard.holds.values()
    braked.restart()
    assert [hold.id for hold in braked.guard.holds.values()] == [before.id]
    assert not (await braked.round()).publish
    (after,) = braked.guard.holds.values()
    assert (after.id, after.since_ns, after.nodes) == (before.id, before.since_ns, before.nodes)


async def test_a_release_outlives_a_restart_and_lets_pass_exactly_what_was_held(braked: Braked) -> None:
    braked.delete(COUNT - 2, 0)
    await braked.round()
    (hold,) = braked.guard.holds.values()
    await braked.guard.release(hold)
    braked.restart()
    assert not braked.guard.holds
    plan = await braked.round()
    assert sum(len(nodes) for nodes in plan.drops.values()) == COUNT - 2
    assert not braked.guard.holds
    braked.delete(1, COUNT - 2)  # what was released does not count any more
    await braked.round()
    assert not braked.guard.holds


async def test_a_hold_ends_when_nothing_of_it_is_left(braked: Braked) -> None:
    braked.delete(COUNT - 1, 0)
    await braked.round()
    for number in range(COUNT - 1):
        braked.device.disk.write((b"%d" % number,), file(number))
    while (await braked.round()).again:  # their new times are told first
        pass
    assert not braked.guard.holds
    braked.restart()
    assert not braked.guard.holds


def test_a_baseline_comes_back_as_it_was_kept() -> None:
    vector = {ChainId(b"b" * 32): 7, ChainId(b"a" * 32): 1}
    assert unpack_vector(pack_vector(vector)) == vector
    assert unpack_vector(b"") == {}
