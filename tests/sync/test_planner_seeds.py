"""Random users on two or three devices over the real planner (P1, P2, P4, P7, P8)."""

from __future__ import annotations

import pytest

from tests.sync.planner_seeds import run, try_seeds


def test_random_users_end_with_everything_and_the_last_word_counts() -> None:
    assert [why for seed in range(300) if (why := run(seed))] == []


@pytest.mark.long
def test_ten_thousand_random_histories_of_users() -> None:
    assert try_seeds(range(10_000), workers=2) == []
