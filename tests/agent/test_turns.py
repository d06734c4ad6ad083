"""What a user asks to have done between two plans: each ends, with its result or with why not."""

from __future__ import annotations

import asyncio

import pytest

from meshsync.agent.turns import Turns
from meshsync.errors import NotFound, ResourceError


async def asked(turns: Turns, *works: object) -> list[asyncio.Task[object]]:
    """Ask for works that give, or raise, these; return the askers once all have asked."""

    def work_of(outcome: object) -> object:
        async def work() -> object:
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        return work

    askers = [asyncio.create_task(turns.take(work_of(outcome))) for outcome in works]  # type: ignore[arg-type,var-annotated]
    await asyncio.sleep(0)
    return askers


async def test_each_gets_its_own_result_or_error_and_the_next_goes_on() -> None:
    woken: list[bool] = []
    turns = Turns(lambda: woken.append(True))
    assert not turns
    first, second, third = await asked(turns, "done", NotFound("nothing there"), "done too")
    assert turns and len(woken) == 3
    await turns.carry_out()
    assert not turns
    assert (await first, await third) == ("done", "done too")
    with pytest.raises(NotFound):
        await second


async def test_whoever_asked_is_told_when_the_folder_ends() -> None:
    turns = Turns(lambda: None)
    (waiting,) = await asked(turns, "never")
    turns.refuse(ResourceError("the folder was closed"))
    with pytest.raises(ResourceError):
        await waiting
    (working,) = await asked(turns, asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await turns.carry_out()
    with pytest.raises(ResourceError):
        await working


async def test_what_nobody_waits_for_any_more_is_not_done() -> None:
    turns, done = Turns(lambda: None), []

    async def work() -> None:
        done.append(True)

    asker = asyncio.create_task(turns.take(work))
    await asyncio.sleep(0)
    asker.cancel()
    await asyncio.gather(asker, return_exceptions=True)
    await turns.carry_out()
    assert not done


async def test_what_was_asked_after_work_that_ended_the_loop_is_answered_too() -> None:
    for stopper in (asyncio.CancelledError(), KeyboardInterrupt(), AssertionError("a mistake of ours")):
        turns = Turns(lambda: None)
        broken, behind = await asked(turns, stopper, "never")
        with pytest.raises(type(stopper)):
            await turns.carry_out()
        with pytest.raises(ResourceError):
            await broken
        assert turns and not behind.done()  # the error is nobody's but its own waiter's
        turns.close()
        with pytest.raises(ResourceError):
            await behind


async def test_after_the_end_whoever_asks_is_told_at_once() -> None:
    turns = Turns(lambda: None)
    turns.close()
    (late,) = await asked(turns, "never")
    with pytest.raises(ResourceError):
        await late
    assert not turns
