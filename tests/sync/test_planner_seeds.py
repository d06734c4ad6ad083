"""Random users on two or three devices over the real planner (P1, P2, P4, P7, P8), and seeds that once failed."""

from __future__ import annotations

import pytest

from tests.sync.planner_seeds import run, try_seeds

REMOVED_AFTER_A_CYCLE = (2888, 7197, 10208)
"""A directory is removed after two moves that made a cycle: the one that lost shielded what is in it."""


@pytest.mark.parametrize("seed", REMOVED_AFTER_A_CYCLE)
def test_what_was_removed_after_a_cycle_of_moves_is_gone(seed: int) -> None:
    assert run(seed) == ""


def test_random_users_end_with_everything_and_the_last_word_counts() -> None:
    assert [why for seed in range(300) if (why := run(seed))] == []


@pytest.mark.slow
def test_ten_thousand_random_histories_of_users() -> None:
    assert try_seeds(range(10_000), workers=2) == []
