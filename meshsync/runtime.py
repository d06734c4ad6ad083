"""The only reader of clock and OS randomness, and the only door to threads and tasks.

Invariant: everything above the shells gets time, randomness, threads and tasks from a `Runtime`, so that a whole
mesh can run in one process on virtual time from one seed.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import resource
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, Protocol, TypeVar

from meshsync.errors import MeshsyncError
from meshsync.limits import DESCRIPTORS_MAX, MALLOC_MMAP_THRESHOLD_BYTES

log = logging.getLogger(__name__)

_M_TRIM_THRESHOLD = -1  # mallopt(3)
_M_MMAP_THRESHOLD = -3

P = ParamSpec("P")
T = TypeVar("T")


class Runtime(Protocol):
    """Time, randomness, threads, tasks."""

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back; its origin is arbitrary."""

    def wall_time_ns(self) -> int:
        """Return nanoseconds since 1970 UTC as the machine believes. For display only: clocks decide nothing."""

    def random_bytes(self, size: int) -> bytes:
        """Return `size` bytes fit for keys."""

    def random(self) -> float:
        """Return a float in [0, 1) for jitter."""

    async def sleep(self, seconds: float) -> None:
        """Suspend the calling task."""

    def spawn(self, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Start a task. The caller keeps the reference and cancels it."""

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking function off the loop and return its result or raise its exception."""


def tune_allocator() -> None:
    """Let glibc keep large buffers: by default it maps and faults them anew at every use. Elsewhere does nothing."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
        mallopt(option, MALLOC_MMAP_THRESHOLD_BYTES)


def raise_descriptor_limit() -> None:
    """Allow this process as many open files as the system lets it, up to DESCRIPTORS_MAX."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on the fastest event loop there is, and return its result."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


def _report(task: asyncio.Task[Any]) -> None:
    """Log a task that ended by a mistake of ours at once: whoever waits for it may never look."""
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, MeshsyncError):
        log.error("task %s failed", task.get_name(), exc_info=error)


class SystemRuntime:
    """The real machine."""

    def __init__(self, threads: int = 4) -> None:
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="meshsync")

    def monotonic(self) -> float:
        return time.monotonic()

    def wall_time_ns(self) -> int:
        return time.time_ns()

    def random_bytes(self, size: int) -> bytes:
        return os.urandom(size)

    def random(self) -> float:
        return int.from_bytes(os.urandom(7), "big") / (1 << 56)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def spawn(self, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        task.add_done_callback(_report)
        return task

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: function(*args, **kwargs))

    def close(self) -> None:
        """Wait for running thread jobs and release the threads."""
        self._pool.shutdown(wait=True)
