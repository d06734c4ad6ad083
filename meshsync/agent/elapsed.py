"""How much time has passed for this folder on this device, and how long ago its entries came, whatever clocks say.

Invariant: time only adds up. While the agent runs it is what the machine's monotonic clock says; over a pause it is the
difference of the wall clock, if that is not less than nothing nor more than ELAPSED_PAUSE_S: a clock that was set ahead
ages nothing, and a pause that was longer counts as none.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Annotated

import msgspec

from meshsync.codec.canonical import Record, decode, encode
from meshsync.index.meta import Meta
from meshsync.limits import COUNTER_MAX, ELAPSED_BYTES_MAX, ELAPSED_MARK_S, ELAPSED_MARKS_MAX, ELAPSED_PAUSE_S
from meshsync.runtime import Runtime

ELAPSED_KEY = "elapsed"
_Number = Annotated[int, msgspec.Meta(ge=0, le=COUNTER_MAX)]


class _Kept(Record, frozen=True):
    passed_s: _Number
    wall_s: _Number
    marks: Annotated[tuple[tuple[_Number, _Number], ...], msgspec.Meta(max_length=ELAPSED_MARKS_MAX)]


class Elapsed:
    """Blocking."""

    def __init__(self, runtime: Runtime, meta: Meta) -> None:
        """Go on from what was kept. Raises MalformedMessage, ResourceError."""
        self._runtime, self._meta = runtime, meta
        kept = meta.get(ELAPSED_KEY)
        state = _Kept(0, self._wall_s(), ()) if kept is None else decode(_Kept, kept, ELAPSED_BYTES_MAX)
        pause_s = self._wall_s() - state.wall_s
        self._passed_s = state.passed_s + (pause_s if 0 <= pause_s <= ELAPSED_PAUSE_S else 0)
        self._marks = list(state.marks)
        self._last = runtime.monotonic()

    def passed_s(self) -> int:
        """Return the seconds that have passed since this device got to know the folder."""
        now = self._runtime.monotonic()
        whole = int(now - self._last)
        self._passed_s += whole
        self._last += whole
        return self._passed_s

    def mark(self, entries: int) -> None:
        """Note that by now the log here holds `entries`; keep it all. Raises StorageFull, ResourceError."""
        passed_s = self.passed_s()
        count, at_s = self._marks[-1] if self._marks else (-1, 0)
        if entries > count and (passed_s - at_s >= ELAPSED_MARK_S or not self._marks):
            self._marks.append((entries, passed_s))
        if len(self._marks) > ELAPSED_MARKS_MAX:  # what a mark that is dropped told of counts as younger
            older = self._marks[: ELAPSED_MARKS_MAX // 2]
            self._marks = [*older[1::2], *self._marks[ELAPSED_MARKS_MAX // 2 :]]
        self._meta.set(ELAPSED_KEY, encode(_Kept(passed_s, self._wall_s(), tuple(self._marks))))

    def seen_s(self, entry: int) -> int:
        """Return how much had passed when the `entry`-th entry of the log here (from 1) was surely there."""
        at = bisect_left(self._marks, (entry, 0))
        return self._marks[at][1] if at < len(self._marks) else self.passed_s()

    def _wall_s(self) -> int:
        return max(0, self._runtime.wall_time_ns() // 1_000_000_000)
