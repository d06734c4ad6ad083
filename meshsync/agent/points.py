"""Which point of a folder's history a user means: a time, or the name of a snapshot."""

from __future__ import annotations

import os
from datetime import datetime

from meshsync.agent.daemon import Agent
from meshsync.agent.folder import Folder
from meshsync.agent.past import Point, before, made_by
from meshsync.errors import ConfigError, NotFound

_AS = "Write it as 2026-01-31T12:00:00+00:00"


def point(agent: Agent, folder: Folder, at: str) -> Point:
    """Return the point that `at` names: an RFC 3339 time, else a snapshot. Blocks.

    Raises NotFound (neither), ConfigError (a time without its zone).
    """
    try:
        return made_by(moment_ns(at), agent.runtime.wall_time_ns())
    except _NoTime:
        marked = folder.replica.marks.find(os.fsencode(at))
        if marked is None:
            raise NotFound(
                "neither a time nor a snapshot", folder=folder.name, path=at, next_step="meshsync snapshots"
            ) from None
        return before(folder.replica, marked.entry)


def moment_ns(text: str) -> int:
    """Return nanoseconds since 1970 of an RFC 3339 time. Raises ConfigError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise _NoTime("not a time", path=text, next_step=_AS) from error
    if moment.tzinfo is None:
        raise ConfigError("a time without its zone", path=text, next_step=_AS)
    return int(moment.timestamp() * 1e9)


class _NoTime(ConfigError):
    pass
