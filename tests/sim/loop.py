"""An asyncio event loop on virtual time: its clock stands still while anything can run, then jumps to the next timer.

Invariant: nothing outside the loop wakes it, so what runs when depends on the program alone. Tasks hash by number, not
by address, so that a set of them has the same order in every run.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from asyncio import base_events
from collections.abc import Coroutine
from typing import Any

TURNS_MAX = 50_000
"""Turns of the loop within which a run ends: ten times what a busy one takes."""


class Deadlock(Exception):
    """Nothing can run and no timer is set, or something runs for ever."""


class SimTask(asyncio.Task[Any]):
    """A task with a number of its own in its loop."""

    def __init__(self, number: int, coroutine: Coroutine[Any, Any, Any], *, loop: SimLoop, name: str | None = None):
        self._number = number
        super().__init__(coroutine, loop=loop, name=name)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class _Timers:
    """Stands for the selector: instead of waiting for events it lets the time pass."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Deadlock("nothing can happen any more")
        if timeout > 0:
            self._loop.now += timeout
            self._loop._clock_resolution = math.ulp(self._loop.now)
        return []

    def close(self) -> None:
        pass


class SimLoop(base_events.BaseEventLoop):
    """`now` is the virtual time in seconds, from 0."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.turns = 0
        self.turns_max = TURNS_MAX
        self._tasks_made = 0
        self._selector = _Timers(self)
        self._clock_resolution = math.ulp(0.0)  # no timer fires early: the time would stand still for who waits on
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        return self.now

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, *, context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        self._tasks_made += 1
        return SimTask(self._tasks_made, coroutine, loop=self)

    def _run_once(self) -> None:
        self.turns += 1
        if self.turns > self.turns_max:
            self.turns_max *= 2  # what ends the tasks needs turns too
            raise Deadlock(f"{self.turns} turns of the loop: something is done again and again")
        super()._run_once()  # type: ignore[misc]

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        """Wake up: it never sleeps."""

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)
