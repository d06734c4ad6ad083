"""Group commit: many callers, one blocking write. Invariant: batches are written one at a time, in order of arrival."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from meshsync.runtime import Runtime

J = TypeVar("J")
R = TypeVar("R")


@dataclass(slots=True)
class _Batch(Generic[J, R]):
    jobs: list[J] = field(default_factory=list)
    cost: int = 0
    done: asyncio.Task[list[R]] | None = None


class Batcher(Generic[J, R]):
    """Collects jobs while the previous batch is being written in a thread, then writes them together.

    There is no timer: a lone job is written at once, and under load a batch is what arrived during one sync.
    """

    def __init__(self, runtime: Runtime, name: str, write: Callable[[Sequence[J]], list[R]], cost_max: int) -> None:
        """`write` runs in a thread and returns one result per job. A batch takes no more jobs at `cost_max`."""
        self._runtime, self._name, self._write, self._cost_max = runtime, name, write, cost_max
        self._collecting: _Batch[J, R] | None = None
        self._turn = asyncio.Lock()

    async def do(self, job: J, cost: int) -> R:
        """Return the job's result once its batch is written, or raise what `write` raised for the batch.

        A caller that is cancelled leaves its job in the batch: it may still be written.
        """
        batch = self._collecting
        if batch is None or batch.cost >= self._cost_max:
            batch = self._collecting = _Batch()
            batch.done = self._runtime.spawn(self._run(batch), self._name)
        position = len(batch.jobs)
        batch.jobs.append(job)
        batch.cost += cost
        assert batch.done is not None
        return (await asyncio.shield(batch.done))[position]

    async def idle(self) -> None:
        """Return when everything that was asked for before is written."""
        while self._collecting is not None:  # its task has not begun
            await self._runtime.sleep(0)
        async with self._turn:
            pass

    async def _run(self, batch: _Batch[J, R]) -> list[R]:
        async with self._turn:
            if self._collecting is batch:
                self._collecting = None
            return await self._runtime.in_thread(self._write, batch.jobs)
