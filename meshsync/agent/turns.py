"""What a user asks to have done to files of a folder, done by its loop between two plans.

Invariant: while one of these works no action of a plan touches the tree; each ends with a result or a typed error,
whatever becomes of the others and of the loop. After `close` nothing is taken any more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

from meshsync.errors import MeshsyncError, ResourceError

T = TypeVar("T")


class Turns:
    """Belongs to one folder loop, which `wake` wakes."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._asked: deque[tuple[Callable[[], Awaitable[object]], asyncio.Future[object]]] = deque()
        self._closed = False

    def __bool__(self) -> bool:
        return bool(self._asked)

    async def take(self, work: Callable[[], Awaitable[T]]) -> T:
        """Have the loop await `work`; return what it gave. Raises its MeshsyncError, or why the loop cannot."""
        if self._closed:
            raise _closed()
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._asked.append((work, answer))
        self._wake()
        return await answer  # type: ignore[return-value]

    async def carry_out(self) -> None:
        """Do what was asked, in order. Called by the loop.

        What is no MeshsyncError goes on to the loop; who asked for that work is told, who asked after it still waits.
        """
        while self._asked:
            work, answer = self._asked.popleft()
            if answer.done():  # whoever asked is gone
                continue
            try:
                result = await work()
            except MeshsyncError as error:
                _fail(answer, error)
            except BaseException as error:
                stopped = ResourceError("the folder stopped working meanwhile", next_step="meshsync status")
                stopped.__cause__ = error
                _fail(answer, stopped)
                raise
            else:
                if not answer.done():
                    answer.set_result(result)

    def refuse(self, error: MeshsyncError) -> None:
        """Nothing can be done now."""
        asked, self._asked = self._asked, deque()
        for _, answer in asked:
            _fail(answer, error)

    def close(self) -> None:
        """Nothing will be done any more: tell who waits, and who asks from now on. Again does nothing."""
        self._closed = True
        self.refuse(_closed())


def _closed() -> ResourceError:
    return ResourceError("the folder was closed", next_step="meshsync status")


def _fail(answer: asyncio.Future[object], error: MeshsyncError) -> None:
    if not answer.done():
        answer.set_exception(error)
