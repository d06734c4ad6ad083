"""A counter that tasks wait on: has anything changed since I looked? Invariant: no change is missed, many are one."""

from __future__ import annotations

import asyncio


class Changes:
    """Belongs to one loop."""

    def __init__(self) -> None:
        self.count = 0
        self._event = asyncio.Event()

    def note(self) -> None:
        """Say that something changed."""
        self.count += 1
        self._event.set()
        self._event = asyncio.Event()

    async def after(self, count: int) -> int:
        """Return the present count as soon as it is above `count`."""
        while self.count <= count:
            await self._event.wait()
        return self.count
