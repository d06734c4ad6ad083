"""One deadline, one sleeper."""

from __future__ import annotations

from attackers import ManualRuntime

from meshsync.transport.timer import Timer


async def test_it_calls_once_at_the_deadline() -> None:
    runtime, calls = ManualRuntime(), []
    timer = Timer(runtime, lambda: calls.append(runtime.now))
    timer.set(runtime.now + 5)
    await runtime.advance(4.9)
    assert calls == []
    await runtime.advance(0.1)
    await runtime.advance(100)
    assert len(calls) == 1


async def test_a_deadline_moves_both_ways_and_is_unset() -> None:
    runtime, calls = ManualRuntime(), []
    timer = Timer(runtime, lambda: calls.append(round(runtime.now - 1000)))
    timer.set(runtime.now + 5)
    await runtime.advance(0)
    timer.set(runtime.now + 2)
    await runtime.advance(0)
    await runtime.advance(2)
    assert calls == [2]
    timer.set(runtime.now + 1)
    timer.set(runtime.now + 3)
    await runtime.advance(0)
    await runtime.advance(1)
    await runtime.advance(2)
    assert calls == [2, 5]
    timer.set(runtime.now + 1)
    timer.set(None)
    await runtime.advance(0)
    await runtime.advance(9)
    assert calls == [2, 5]
    timer.stop()
