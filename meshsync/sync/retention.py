"""Which versions a retention policy keeps. Pure.

Invariant: what is shown is kept whatever the policy says; what it was at a time that the policy names is kept too.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshsync.metalog.retention_policy import RetentionPolicy

HOUR_S = 3600
DAY_S = 24 * HOUR_S
WEEK_S = 7 * DAY_S
MONTH_S = 2_629_746
"""A twelfth of the mean Gregorian year."""


@dataclass(frozen=True, slots=True)
class Life:
    """When something was shown: from `since_s` until it was replaced or deleted at `until_s`, by any one clock."""

    since_s: int
    until_s: int


def keeps(policy: RetentionPolicy, life: Life, now_s: int) -> bool:
    """Whether `policy` keeps, at `now_s`, what lived like that by the same clock."""
    if now_s - life.until_s < policy.all_s:
        return True
    tiers = (
        (HOUR_S, policy.hourly_s),
        (DAY_S, policy.daily_s),
        (WEEK_S, policy.weekly_s),
        (MONTH_S, policy.monthly_s),
    )
    return any(now_s - end < kept_s for unit_s, kept_s in tiers if (end := _last_end(life, unit_s)) is not None)


def _last_end(life: Life, unit_s: int) -> int | None:
    """Return the last end of a unit of time at which it was shown, None if there was none."""
    end = (life.until_s - 1) // unit_s * unit_s
    return end if end >= life.since_s else None
