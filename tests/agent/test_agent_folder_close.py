"""A folder that is closed leaves nothing running: no thread of its own, no timer."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from meshsync.agent.machine import SYSTEM
from meshsync.errors import ResourceError
from tests.agent.test_agent_round_errors import FullForAMoment
from tests.support.member_scene import Scene, open_scene

ROUNDS = 20


class SlowIndex(FullForAMoment):
    """An index whose closing is heard of."""

    closed = False

    def close(self) -> None:
        self.closed = True
        super().close()


def timers() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("folder timer")]


@pytest.mark.slow
async def test_a_folder_waits_for_its_threads_and_takes_no_more_work(tmp_path: Path) -> None:
    scene = Scene(tmp_path, replace(SYSTEM, open_index=SlowIndex))
    await scene.start()
    folder, begun, may_end = scene.folder, threading.Event(), threading.Event()
    index = folder.database
    assert isinstance(index, SlowIndex)
    found: list[bool] = []

    def work() -> None:
        begun.set()
        may_end.wait()
        found.append(index.closed)

    folder._tasks.append(asyncio.create_task(folder._runtime.in_thread(work)))
    await scene.until(begun.is_set)
    closing = asyncio.create_task(folder.close())
    await asyncio.wait([closing], timeout=1.0)  # a folder that does not wait closes in milliseconds
    assert not closing.done() and not index.closed
    may_end.set()
    await closing
    assert found == [False] and index.closed
    with pytest.raises(ResourceError):
        await folder._runtime.in_thread(found.clear)
    assert found == [False]
    await scene.endpoint.close()
    scene.runtime.close()


async def test_an_error_that_repeats_has_one_timer_and_a_closed_folder_none(tmp_path: Path) -> None:
    async with open_scene(tmp_path, replace(SYSTEM, open_index=FullForAMoment)) as scene:
        loop, index = scene.folder.loop, scene.folder.database
        assert loop is not None and isinstance(index, FullForAMoment)
        index.refusals = 10 * ROUNDS
        (scene.root / "note").write_text("waits")
        for _ in range(ROUNDS):
            before = loop.rounds
            loop.look_at(None)
            await scene.until(lambda before=before: loop.rounds > before and bool(loop.problem))  # type: ignore[misc]
        names = timers()
        assert "folder timer: error" in names and len(names) == len(set(names))
    await asyncio.sleep(0)
    assert not timers()


async def test_a_root_that_stays_missing_has_one_timer(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        loop = scene.folder.loop
        assert loop is not None
        scene.root.rename(tmp_path / "elsewhere")
        for _ in range(ROUNDS):
            before = loop.rounds
            loop.look_at(None)
            await scene.until(lambda before=before: loop.rounds > before)  # type: ignore[misc]
        await scene.until(lambda: loop.root_missing is not None)
        names = timers()
        assert "folder timer: root" in names and len(names) == len(set(names))
