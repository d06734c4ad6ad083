"""What happened, in order: a bounded ring of events that listeners replay from any id still held.

Invariant: ids count up by one without a gap. A listener sees every event after its id, or is told that some are gone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from meshsync.limits import EVENTS_RING_MAX

RESET = "reset"


@dataclass(frozen=True, slots=True)
class Event:
    """Event number `id` of this agent process, of a `kind` such as `folder`, `device`, `job`; `data` is plain JSON."""

    id: int
    kind: str
    data: Mapping[str, object]


class EventRing:
    """The last events of the agent. Belongs to one loop."""

    def __init__(self, size_max: int = EVENTS_RING_MAX) -> None:
        self._ring: deque[Event] = deque(maxlen=size_max)
        self._last = 0
        self._news = asyncio.Event()

    @property
    def last_id(self) -> int:
        """The id of the newest event, 0 before the first."""
        return self._last

    def publish(self, kind: str, data: Mapping[str, object]) -> int:
        """Add an event, dropping the oldest if the ring is full, wake the listeners, and return its id."""
        self._last += 1
        self._ring.append(Event(self._last, kind, data))
        self.wake()
        return self._last

    def wake(self) -> None:
        """Let every `wait` return, with what there is."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    def after(self, last_id: int) -> list[Event]:
        """Return the events with an id above `last_id`, oldest first.

        If some of them are no longer held, or `last_id` is from another process, the list begins with one event of
        kind `reset`: what came before is unknown, read the status again.
        """
        first_held = self._last - len(self._ring) + 1
        if last_id > self._last or last_id + 1 < first_held:
            return [Event(first_held - 1, RESET, {"lost_after": last_id}), *self._ring]
        return [event for event in self._ring if event.id > last_id]

    async def wait(self, last_id: int, timeout_s: float) -> list[Event]:
        """Return the events after `last_id` as `after` does, waiting at most `timeout_s` seconds for the first one."""
        news = self._news
        if not self.after(last_id):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await news.wait()
        return self.after(last_id)
