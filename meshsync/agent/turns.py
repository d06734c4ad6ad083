"""What a user asks to have done to files of a folder, done by its loop between two plans.

Invariant: while one of these works no action of a plan touches the tree; each ends with a result or a typed error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from meshsync.errors import MeshsyncError, ResourceError

T = TypeVar("T")


class Turns:
    """Belongs to one folder loop, which `wake` wakes."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._asked: list[tuple[Callable[[], Awaitable[object]], asyncio.Future[object]]] = []

    def __bool__(self) -> bool:
        return bool(self._asked)

    async def take(self, work: Callable[[], Awaitable[T]]) -> T:
        """Have the loop await `work`; return what it gave. Raises its MeshsyncError, or why the loop cannot."""
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._asked.append((work, answer))
        self._wake()
        return await answer  # type: ignore[return-value]

    async def carry_out(self) -> None:
        """Do what was asked, in order. Called by the loop."""
        asked, self._asked = self._asked, []
        for work, answer in asked:
            if answer.done():  # whoever asked is gone
                continue
            try:
                result = await work()
            except MeshsyncError as error:
                if not answer.done():
                    answer.set_exception(error)
            except BaseException:
                if not answer.done():  # whoever asked must not wait for ever
                    answer.set_exception(ResourceError("the folder stopped working meanwhile"))
                raise
            else:
                if not answer.done():
                    answer.set_result(result)

    def refuse(self, error: MeshsyncError) -> None:
        """Nothing can be done now."""
        asked, self._asked = self._asked, []
        for _, answer in asked:
            if not answer.done():
                answer.set_exception(error)
