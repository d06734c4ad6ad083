"""Times for people. Invariant: an unknown or malformed time is shown, never an error."""

from __future__ import annotations

from datetime import datetime

from meshsync.cli.escape import printable
from meshsync.cli.render import duration
from meshsync.runtime import SystemRuntime

RECENT_S = 10.0


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
