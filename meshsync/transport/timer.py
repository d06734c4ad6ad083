"""One deadline on the runtime's clock.

Invariant: at most one task sleeps; a deadline that moves later costs nothing, one that moves earlier starts it anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from meshsync.runtime import Runtime


class Timer:
    """Calls `call` when the deadline has passed; then it is unset."""

    def __init__(self, runtime: Runtime, call: Callable[[], None]) -> None:
        self._runtime = runtime
        self._call = call
        self._deadline: float | None = None
        self._sleeps_until = 0.0
        self._task: asyncio.Task[None] | None = None

    def set(self, deadline: float | None) -> None:
        """Replace the deadline, in seconds of `Runtime.monotonic`; None unsets it."""
        self._deadline = deadline
        if deadline is None or (self._task is not None and self._sleeps_until <= deadline):
            return
        if self._task is not None:
            self._task.cancel()
        self._sleeps_until = deadline
        self._task = self._runtime.spawn(self._run(), "transport timer")

    def stop(self) -> None:
        """Unset the deadline for good."""
        self._deadline = None
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while self._deadline is not None:
            now = self._runtime.monotonic()
            if now >= self._deadline:
                self._task = None  # `call` may set the next deadline
                self._deadline = None
                self._call()
                return
            self._sleeps_until = self._deadline
            await self._runtime.sleep(self._deadline - now)
        self._task = None
