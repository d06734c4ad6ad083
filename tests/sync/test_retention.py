"""What a retention policy keeps (`docs/guide/versions.md`)."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from meshsync.metalog.retention_policy import FOREVER, RetentionPolicy
from meshsync.sync.retention import DAY_S, HOUR_S, WEEK_S, Life, keeps

NOW_S = 1_000 * DAY_S
POLICY = RetentionPolicy(all_s=DAY_S, hourly_s=3 * DAY_S, daily_s=30 * DAY_S, weekly_s=FOREVER)


def ago(since_s: int, until_s: int) -> Life:
    return Life(NOW_S - since_s, NOW_S - until_s)


def test_every_version_is_kept_for_a_while_after_it_was_replaced() -> None:
    assert keeps(POLICY, ago(900 * DAY_S + 1, DAY_S - 1), NOW_S)
    assert not keeps(POLICY, ago(DAY_S + 7, DAY_S + 5), NOW_S)


def test_then_what_it_was_at_the_end_of_each_hour_day_and_week() -> None:
    assert keeps(POLICY, ago(2 * DAY_S + HOUR_S + 5, 2 * DAY_S + HOUR_S - 5), NOW_S)
    assert not keeps(POLICY, ago(2 * DAY_S + HOUR_S - 5, 2 * DAY_S + 5), NOW_S)
    assert not keeps(POLICY, ago(4 * DAY_S + HOUR_S + 5, 4 * DAY_S + HOUR_S - 5), NOW_S)
    assert keeps(POLICY, ago(20 * DAY_S + 5, 20 * DAY_S - 5), NOW_S)
    monday_s = NOW_S // WEEK_S * WEEK_S - 50 * WEEK_S
    assert keeps(POLICY, Life(monday_s - 5, monday_s + 5), NOW_S)
    assert not keeps(POLICY, Life(monday_s + 5, monday_s + DAY_S), NOW_S)


def test_without_a_policy_everything_is_kept() -> None:
    assert RetentionPolicy().keeps_everything and keeps(RetentionPolicy(), ago(10**6, 10**6), NOW_S)


@given(
    st.lists(st.integers(0, 50 * DAY_S), min_size=2, max_size=40, unique=True),
    st.sampled_from([(HOUR_S, "hourly_s"), (DAY_S, "daily_s"), (WEEK_S, "weekly_s")]),
    st.integers(0, 50),
)
def test_a_file_that_was_there_all_along_has_a_version_for_each_end_that_is_to_be_kept(
    changes: list[int], tier: tuple[int, str], back: int
) -> None:
    """By brute force: whoever asks for the file as it was at such an end gets just that."""
    unit_s, name = tier
    policy = RetentionPolicy(all_s=0, **{name: 40 * DAY_S})
    times = sorted(NOW_S - change for change in changes)
    lives = [Life(since, until) for since, until in pairwise(times)]
    end_s = NOW_S // unit_s * unit_s - back * unit_s
    shown = [life for life in lives if life.since_s <= end_s < life.until_s]
    if shown and NOW_S - end_s < 40 * DAY_S:
        assert all(keeps(policy, life, NOW_S) for life in shown)
    for life in lives:
        ends = range(life.since_s, life.until_s)
        first = -(-life.since_s // unit_s) * unit_s
        wanted = [at for at in range(first, life.until_s, unit_s) if at in ends and NOW_S - at < 40 * DAY_S]
        assert keeps(policy, life, NOW_S) == (bool(wanted) or NOW_S - life.until_s < 0)
