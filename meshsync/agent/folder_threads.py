"""The `Runtime` of one folder: the device's, with the folder's own work in threads counted.

Invariant: once `close` was called no more work begins; once `ended` has said so none is under way. A task that is
cancelled does not stop its thread: without this a thread might write to an index or a root that is closed already.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from meshsync.errors import ResourceError
from meshsync.runtime import Runtime

P = ParamSpec("P")
T = TypeVar("T")


class FolderThreads:
    """A `Runtime`. Belongs to one loop; threads say when they begin and end."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = threading.Lock()
        self._running = 0
        self._closed = False
        self._ended: asyncio.Event | None = None

    def monotonic(self) -> float:
        return self._runtime.monotonic()

    def wall_time_ns(self) -> int:
        return self._runtime.wall_time_ns()

    def random_bytes(self, size: int) -> bytes:
        return self._runtime.random_bytes(size)

    def random(self) -> float:
        return self._runtime.random()

    async def sleep(self, seconds: float) -> None:
        await self._runtime.sleep(seconds)

    def spawn(self, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        return self._runtime.spawn(coroutine, name)

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `Runtime.in_thread`. Raises ResourceError once the folder is closed."""
        loop = asyncio.get_running_loop()

        def counted() -> T:
            self._begin()
            try:
                return function(*args, **kwargs)
            finally:
                self._end(loop)

        return await self._runtime.in_thread(counted)

    def _begin(self) -> None:
        with self._lock:
            if self._closed:
                raise ResourceError("the folder was closed", next_step="meshsync status")
            self._running += 1

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            self._running -= 1
            if self._running == 0 and self._ended is not None and not loop.is_closed():
                loop.call_soon_threadsafe(self._ended.set)

    def close(self) -> None:
        """Refuse what has not begun."""
        with self._lock:
            self._closed = True

    async def ended(self, seconds: float) -> bool:
        """Wait until nothing runs; return False if something still does after `seconds`. Call after `close`."""
        with self._lock:
            if self._running == 0:
                return True
            ended = self._ended = asyncio.Event()
        try:
            async with asyncio.timeout(seconds):
                await ended.wait()
        except TimeoutError:
            return False
        return True
