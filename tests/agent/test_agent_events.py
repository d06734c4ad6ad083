"""The event ring: gap-free ids, bounded, replayable; jobs: bounded, one outcome."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.agent import api_schema as api
from meshsync.agent.events import RESET, EventRing
from meshsync.agent.jobs import Jobs
from meshsync.agent.operations import Progress
from meshsync.errors import NotFound, TransientError
from meshsync.limits import JOBS_KEPT_MAX, JOBS_RUNNING_MAX
from meshsync.runtime import SystemRuntime


@given(size=st.integers(1, 5), count=st.integers(0, 12), last_id=st.integers(0, 15))
def test_a_listener_gets_every_event_or_is_told(size: int, count: int, last_id: int) -> None:
    ring = EventRing(size)
    for _ in range(count):
        ring.publish("x", {})
    found = ring.after(last_id)
    held = list(range(max(1, count - size + 1), count + 1))
    if found and found[0].kind == RESET:
        assert last_id > count or last_id + 1 < held[0]
        assert [event.id for event in found] == [found[0].id, *held] and len(found) == len(held) + 1
        assert ring.after(found[0].id) == found[1:], "a listener goes on after a reset without a second one"
    else:
        assert [event.id for event in found] == list(range(last_id + 1, count + 1))


async def test_waiting_returns_with_the_first_event_and_at_the_deadline_with_none() -> None:
    ring = EventRing()
    asyncio.get_running_loop().call_soon(ring.publish, "x", {})
    assert [event.id for event in await ring.wait(0, 10.0)] == [1]
    assert await ring.wait(1, 0.001) == []


async def nothing(progress: Progress) -> api.Schema:
    return api.Done()


async def for_ever(progress: Progress) -> api.Schema:
    await asyncio.Event().wait()
    return api.Done()


async def test_too_many_running_jobs_are_refused() -> None:
    jobs = Jobs(SystemRuntime(threads=1), EventRing())
    for _ in range(JOBS_RUNNING_MAX):
        jobs.start("wait", for_ever)
    with pytest.raises(TransientError):
        jobs.start("wait", for_ever)
    await jobs.close()
    assert {job.state for job in jobs.all()} == {"failed"}


async def test_finished_jobs_are_forgotten_oldest_first() -> None:
    jobs = Jobs(SystemRuntime(threads=1), EventRing())
    first = jobs.start("x", nothing)
    for _ in range(JOBS_KEPT_MAX + 1):
        job = jobs.start("x", nothing)
        await jobs.get(job.id, 5.0)
    with pytest.raises(NotFound):
        await jobs.get(first.id)
    assert len(jobs.all()) <= JOBS_KEPT_MAX + 1
