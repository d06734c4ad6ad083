"""A link that ends while a page of a log is being written to the index: both go on from where the index is (P8)."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from meshsync.agent.relay_reader import RelayReader
from tests.agent.test_agent_backup import backed_up, durable

WAIT_S = 10.0


async def test_a_log_is_read_on_after_a_link_that_ended_in_the_middle_of_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with backed_up(tmp_path) as (mesh, laptop, nas):
        written, go_on = threading.Event(), threading.Event()
        keep = RelayReader._keep

        def keep_and_wait(self: RelayReader, *given: object) -> None:
            keep(self, *given)  # type: ignore[arg-type]
            written.set()
            assert go_on.wait(WAIT_S)

        with monkeypatch.context() as slow:
            slow.setattr(RelayReader, "_keep", keep_and_wait)
            (laptop.tree / "later.txt").write_bytes(b"written after the first")
            await mesh.until(written.is_set)
            first = laptop.agent.links.get(nas.agent.keys.device)
            assert first is not None
            cut_off = bringing()
            first.close("lost")
            await mesh.until(lambda: all(task.done() or task.cancelling() for task in cut_off))
            assert cut_off
            go_on.set()
        await durable(mesh, laptop)
        (folder,) = laptop.agent.folders.values()
        assert folder.problems == {}


def bringing() -> set[asyncio.Task[object]]:
    return {task for task in asyncio.all_tasks() if task.get_name().startswith("bring to backup")}


async def test_nothing_is_begun_on_a_link_that_has_ended(tmp_path: Path) -> None:
    async with backed_up(tmp_path) as (mesh, laptop, nas):
        (member,) = laptop.agent.links.all()
        await mesh.stop(nas)
        await mesh.until(lambda: member not in laptop.agent.links.all())
        before = bringing()  # the last ones may still be told to end
        member.refresh()
        assert bringing() - before == set()
