"""Times for people. Invariant: an unknown or malformed time is shown, never an error."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

from meshsync.cli.escape import printable
from meshsync.cli.render import duration
from meshsync.runtime import SystemRuntime

RECENT_S = 10.0
_UNITS = {"s": 1, "second": 1, "min": 60, "minute": 60, "h": 3600, "hour": 3600, "d": 86400, "day": 86400}
_UNITS |= {"w": 604800, "week": 604800, "month": 30 * 86400, "year": 365 * 86400}
_PAST = re.compile(r"([0-9]{1,6})\s*([a-z]+?)s?(?:\s+ago)?")


def ago(time: str | None) -> str:
    """Return how long ago an RFC 3339 time was: `now`, `2 h ago`, `never`."""
    if time is None:
        return "never"
    try:
        then = datetime.fromisoformat(time).timestamp()
    except (ValueError, OverflowError):
        return printable(time)
    passed = SystemRuntime(threads=1).wall_time_ns() / 1e9 - then
    return "now" if passed < RECENT_S else f"{duration(passed)} ago"


def local(time: str) -> str:
    """Return an RFC 3339 time in the user's time zone, to the second."""
    try:
        return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError):
        return printable(time)


def point(text: str) -> str:
    """Return the RFC 3339 time that a user means, or the text as it is: then it names a snapshot."""
    try:
        return moment(text)
    except click.BadParameter:
        return text


def moment(text: str) -> str:
    """Return the RFC 3339 time that a user means: `2 hours ago`, `yesterday`, `2026-01-31 12:00` in local time.

    Raises click.BadParameter.
    """
    said = text.strip().lower()
    now = datetime.fromtimestamp(SystemRuntime(threads=1).wall_time_ns() / 1e9, UTC)
    if said in ("now", "yesterday"):
        return (now - timedelta(days=said == "yesterday")).isoformat()
    found = _PAST.fullmatch(said)
    try:
        if found is not None and found[2] in _UNITS:
            return (now - timedelta(seconds=int(found[1]) * _UNITS[found[2]])).isoformat()
        return datetime.fromisoformat(text.strip()).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"not a time: {printable(text)!r}. Write '2 hours ago', '2026-01-31' or '2026-01-31 12:00'"
        ) from None
