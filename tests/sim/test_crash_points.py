"""A failure at every step of publish, apply, join and the relay's append (P1, P5, P8, P9): a sample, and all."""

from __future__ import annotations

import functools
import os

import pytest

from tests.sim.crash_points import SCENARIOS, Counted, How, Point, count, main, run_point
from tests.sim.disk import Disk
from tests.sim.syscalls import SimSyscalls
from tests.support.crash_files import CrashFiles

EVERY = 20
"""One of so many points is tried by default, from another first one in each scenario."""


@functools.cache
def counted(name: str) -> Counted:
    return count(name)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_failure_at_any_step_loses_and_tears_nothing(name: str) -> None:
    points = counted(name).points(name)
    every = 3 * EVERY if SCENARIOS[name].lets_go else EVERY  # these last longest, and have the most points
    for point in points[list(SCENARIOS).index(name) * 7 % min(every, len(points)) :: every]:
        problem = run_point(point, counted(name).end)
        assert not problem, f"{point}: {problem}"


@pytest.mark.long
def test_a_failure_at_every_step() -> None:
    assert main(["--workers", "2"]) == 0


@pytest.mark.parametrize("name", [name for name in SCENARIOS if " where " in name])
def test_a_crash_in_a_change_of_type_leaves_no_second_copy(name: str) -> None:
    steps = counted(name)
    at = steps.calls.index("exchange")
    for number in (at, at + 1):
        assert not run_point(Point(name, number, How.KILL), steps.end)


# --- the machinery itself --------------------------------------------------------------------------------------------


def test_the_steps_of_a_scenario_are_the_same_each_time() -> None:
    name = "apply an edit"
    assert count(name) == count(name)


def test_a_path_that_is_absent_for_a_moment_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def exchange(self: SimSyscalls, old_fd: int, old: bytes, new_fd: int, new: bytes) -> None:
        self.rename_new(new_fd, new, old_fd, b"beside")
        self.rename_new(old_fd, old, new_fd, new)
        self.rename_new(old_fd, b"beside", old_fd, old)

    expected = counted("apply an edit").end
    monkeypatch.setattr(SimSyscalls, "exchange", exchange)
    points = [point for point in count("apply an edit").points("apply an edit") if point.how is How.KILL]
    assert any("absent to a reader" in run_point(point, expected) for point in points)


def test_an_fsync_that_does_nothing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = counted("apply a new file")
    monkeypatch.setattr(Disk, "sync", lambda self, inode: None)
    points = [point for point in expected.points("apply a new file") if point.how is How.POWER_CUT]
    assert any(run_point(point, expected.end) for point in points)


def test_a_relay_that_says_durable_too_early_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "relay: entry, blobs, stored record, receipt"
    expected = counted(name)

    def sync(self: CrashFiles, fd: int) -> None:
        self._durable.setdefault(os.fstat(fd).st_ino, b"")

    monkeypatch.setattr(CrashFiles, "sync", sync)
    points = [point for point in expected.points(name) if point.how is How.POWER_CUT]
    assert any("blob" in run_point(point, expected.end) for point in points)
