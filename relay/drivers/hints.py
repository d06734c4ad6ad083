"""Hints between the tasks of one process. Invariant: a follower costs one integer, however fast the log grows."""

from __future__ import annotations

import asyncio

from meshsync.errors import ResourceError
from meshsync.ids import FolderId
from meshsync.limits import RELAY_FOLLOWERS_MAX


class LocalHints:
    """A `HintBus` for one process and one event loop."""

    def __init__(self) -> None:
        # dicts, not sets: the order must not depend on where objects lie
        self._followers: dict[FolderId, dict[LocalHintStream, None]] = {}
        self._count = 0

    def publish(self, folder: FolderId, index: int) -> None:
        for follower in self._followers.get(folder, ()):
            follower.offer(index)

    def follow(self, folder: FolderId) -> LocalHintStream:
        """Return the coming hints for `folder`. Raises ResourceError beyond RELAY_FOLLOWERS_MAX followers."""
        if self._count >= RELAY_FOLLOWERS_MAX:
            raise ResourceError("this relay has too many followers")
        self._count += 1
        stream = LocalHintStream(self, folder)
        self._followers.setdefault(folder, {})[stream] = None
        return stream

    def forget(self, stream: LocalHintStream, folder: FolderId) -> None:
        """Remove a follower; absent ones have no effect."""
        followers = self._followers.get(folder, {})
        if stream in followers:
            del followers[stream]
            self._count -= 1
            if not followers:
                del self._followers[folder]


class LocalHintStream:
    """A `HintStream`: the newest index, and an event that says it is new."""

    def __init__(self, bus: LocalHints, folder: FolderId) -> None:
        self._bus, self._folder = bus, folder
        self._newest = 0
        self._changed = asyncio.Event()
        self._closed = False

    def offer(self, index: int) -> None:
        """Take a hint; the newer of two stays."""
        if index > self._newest:
            self._newest = index
            self._changed.set()

    def wake(self) -> None:
        self._changed.set()

    async def next(self) -> int | None:
        await self._changed.wait()
        if self._closed:
            return None
        self._changed.clear()
        return self._newest

    def close(self) -> None:
        self._closed = True
        self._changed.set()
        self._bus.forget(self, self._folder)
