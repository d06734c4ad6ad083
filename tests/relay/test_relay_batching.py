"""Group commit: what arrives during one sync shares the next (`docs/spec/relay.md` 5)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from meshsync.crypto.hashing import blob_id
from meshsync.errors import StorageFull
from meshsync.runtime import SystemRuntime
from meshsync.store.packs import PackStore
from relay.drivers.batching import Batcher
from relay.drivers.packs import ThreadedChunkStore
from tests.support.crash_files import CrashFiles


async def test_jobs_that_arrive_during_a_write_share_the_next_one() -> None:
    runtime, entered, go, written = SystemRuntime(), threading.Event(), threading.Event(), []

    def write(jobs: Sequence[int]) -> list[int]:
        entered.set()
        go.wait()
        written.append(list(jobs))
        return [job * 10 for job in jobs]

    batcher = Batcher(runtime, "test", write, cost_max=5)
    first = runtime.spawn(batcher.do(0, 1), "first")
    await runtime.in_thread(entered.wait)
    rest = [runtime.spawn(batcher.do(number, 1), "later") for number in range(1, 8)]
    await asyncio.sleep(0)
    go.set()
    assert await asyncio.gather(first, *rest) == [number * 10 for number in range(8)]
    assert written == [[0], [1, 2, 3, 4, 5], [6, 7]]
    await batcher.idle()
    runtime.close()


async def test_a_failed_write_is_told_to_everybody_in_it_and_to_nobody_else() -> None:
    runtime, calls = SystemRuntime(), []

    def write(jobs: Sequence[int]) -> list[int]:
        calls.append(jobs)
        if len(calls) == 1:
            raise StorageFull("full")
        return list(jobs)

    batcher = Batcher(runtime, "test", write, cost_max=5)
    answers = await asyncio.gather(batcher.do(1, 1), batcher.do(2, 1), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StorageFull, StorageFull]
    assert await batcher.do(3, 1) == 3
    runtime.close()


async def test_a_cancelled_caller_takes_nothing_from_the_others() -> None:
    runtime = SystemRuntime()
    batcher = Batcher(runtime, "test", list, cost_max=5)
    leaving, staying = runtime.spawn(batcher.do(1, 1), "leaving"), runtime.spawn(batcher.do(2, 1), "staying")
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == 2
    with pytest.raises(asyncio.CancelledError):
        await leaving
    runtime.close()


async def test_many_uploads_cost_few_syncs(tmp_path: Path) -> None:
    runtime, files = SystemRuntime(), CrashFiles()
    chunks = ThreadedChunkStore(PackStore(tmp_path / "chunks", files), runtime)
    before = files.calls
    blobs = [bytes([n]) * 1000 for n in range(100)]
    await asyncio.gather(*(chunks.put([(blob_id(one), one)]) for one in blobs))
    assert files.calls - before < 10
    await chunks.close()
    runtime.close()
