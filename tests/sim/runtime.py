"""A `Runtime` of one process on a `SimLoop`: virtual time, seeded randomness, threads run inline at seeded moments.

Invariant: when its process is dead nothing of it runs but the cancelling of its tasks.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from meshsync.errors import MeshsyncError
from tests.sim.loop import SimLoop
from tests.sim.process import Crashed, Process

P = ParamSpec("P")
T = TypeVar("T")
THREAD_S = 0.002


class SimRuntime:
    """`wall_ns` is the machine's clock; `failed(task, error)` hears of tasks that end by a mistake of ours."""

    def __init__(
        self,
        loop: SimLoop,
        process: Process,
        wall_ns: Callable[[], int],
        seed: str,
        failed: Callable[[str, BaseException], None],
    ) -> None:
        self._loop, self._process, self._wall_ns, self._failed = loop, process, wall_ns, failed
        self._bytes = random.Random(f"{seed} bytes")
        self._turns = random.Random(f"{seed} turns")
        self._tasks: dict[asyncio.Task[Any], None] = {}

    def monotonic(self) -> float:
        return self._loop.now

    def wall_time_ns(self) -> int:
        return self._wall_ns()

    def random_bytes(self, size: int) -> bytes:
        return self._bytes.randbytes(size)

    def random(self) -> float:
        return self._bytes.random()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def spawn(self, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        task = self._loop.create_task(coroutine, name=name)
        if not self._process.alive:
            task.cancel()
        self._tasks[task] = None
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, MeshsyncError | Crashed):
            self._failed(task.get_name(), error)

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        chance = self._turns.random()
        await asyncio.sleep(THREAD_S * chance if chance > 0.3 else 0)
        try:
            if not self._process.alive:
                raise Crashed("thread")
            result = function(*args, **kwargs)
        except Crashed:
            await self._loop.create_future()  # for ever: the process is gone, its tasks are being cancelled
            raise
        if chance > 0.8:
            await asyncio.sleep(THREAD_S * self._turns.random())
        return result

    def kill(self) -> None:
        """Cancel every task."""
        for task in list(self._tasks):
            task.cancel()
