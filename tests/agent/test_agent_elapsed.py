"""How long ago things came, whatever the clocks say."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshsync.agent.elapsed import Elapsed
from meshsync.index.database import Database
from meshsync.index.meta import Meta
from meshsync.limits import ELAPSED_MARK_S, ELAPSED_PAUSE_S
from meshsync.runtime import SystemRuntime

YEARS_S = 10 * 365 * 86400


class Clocks(SystemRuntime):
    """A machine whose clocks a test sets."""

    wall_s = 1_700_000_000
    running_s = 0.0

    def wall_time_ns(self) -> int:
        return self.wall_s * 1_000_000_000

    def monotonic(self) -> float:
        return self.running_s

    def run(self, seconds: int, *, wall_s: int | None = None) -> None:
        """Let `seconds` pass; the wall clock shows what a wrong one shows."""
        self.running_s += seconds
        self.wall_s += seconds if wall_s is None else wall_s


@pytest.fixture
def clocks() -> Clocks:
    return Clocks(threads=1)


@pytest.fixture
def meta(tmp_path: Path) -> Meta:
    return Meta(Database(tmp_path / "index"))


def test_time_adds_up_over_pauses(clocks: Clocks, meta: Meta) -> None:
    first = Elapsed(clocks, meta)
    clocks.run(100)
    first.mark(1)
    clocks.wall_s += 50
    again = Elapsed(clocks, meta)
    assert again.passed_s() == 150


@pytest.mark.parametrize("jump_s", [YEARS_S, -YEARS_S])
def test_a_clock_that_is_off_by_years_ages_nothing_by_years(clocks: Clocks, meta: Meta, jump_s: int) -> None:
    first = Elapsed(clocks, meta)
    clocks.run(100, wall_s=jump_s)
    assert first.passed_s() == 100
    first.mark(1)
    clocks.wall_s += jump_s
    again = Elapsed(clocks, meta)
    assert again.passed_s() == 100
    clocks.wall_s -= jump_s
    assert again.passed_s() == 100


def test_a_pause_of_a_week_counts_and_a_longer_one_does_not(clocks: Clocks, meta: Meta) -> None:
    Elapsed(clocks, meta).mark(1)
    clocks.wall_s += ELAPSED_PAUSE_S
    again = Elapsed(clocks, meta)
    assert again.passed_s() == ELAPSED_PAUSE_S
    again.mark(2)
    clocks.wall_s += ELAPSED_PAUSE_S + 1
    assert Elapsed(clocks, meta).passed_s() == ELAPSED_PAUSE_S


def test_what_came_between_two_marks_counts_as_come_at_the_later(clocks: Clocks, meta: Meta) -> None:
    elapsed = Elapsed(clocks, meta)
    elapsed.mark(10)
    clocks.run(ELAPSED_MARK_S)
    elapsed.mark(20)
    clocks.run(ELAPSED_MARK_S)
    assert [elapsed.seen_s(number) for number in (1, 10, 11, 20)] == [0, 0, ELAPSED_MARK_S, ELAPSED_MARK_S]
    assert elapsed.seen_s(21) == elapsed.passed_s() == 2 * ELAPSED_MARK_S
    assert Elapsed(clocks, meta).seen_s(11) == ELAPSED_MARK_S


def test_a_device_that_joins_takes_all_that_is_there_for_new(clocks: Clocks, meta: Meta) -> None:
    elapsed = Elapsed(clocks, meta)
    clocks.run(1000)
    assert elapsed.seen_s(1) == 1000
    elapsed.mark(500)
    clocks.run(1000)
    assert elapsed.seen_s(500) == 1000


def test_marks_are_bounded_and_what_they_forget_counts_as_younger(
    clocks: Clocks, meta: Meta, monkeypatch: pytest.MonkeyPatch
) -> None:
    elapsed = Elapsed(clocks, meta)
    monkeypatch.setattr("meshsync.agent.elapsed.ELAPSED_MARKS_MAX", 8)
    exact = []
    for number in range(1, 50):
        clocks.run(ELAPSED_MARK_S)
        elapsed.mark(number)
        exact.append(elapsed.passed_s())
    assert len(elapsed._marks) <= 8
    assert all(elapsed.seen_s(number) >= at for number, at in enumerate(exact, 1))
    assert [elapsed.seen_s(number) for number in range(46, 50)] == exact[45:]
