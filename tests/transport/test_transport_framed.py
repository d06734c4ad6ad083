"""Frames on a stream, over a memory link."""

from __future__ import annotations

import asyncio

import pytest
from attackers import ManualRuntime
from test_transport_memory import connect

from meshsync.errors import LinkClosed, PeerOverran
from meshsync.transport.base import Priority
from meshsync.transport.framed import FramedStream
from meshsync.transport.memory import MemoryNetwork
from meshsync.wire.frames import encode_frame


async def pair(size_max: int = 100_000) -> tuple[FramedStream, FramedStream]:
    """Return both ends of a stream of frames, after one frame."""
    runtime = ManualRuntime()
    link, accepted, _, _ = await connect(runtime, MemoryNetwork(runtime))
    mine = FramedStream(await link.open_stream(Priority.BULK))
    await mine.send_frame(1, b"first")
    pump = asyncio.ensure_future(accepted.accept_stream())
    while not pump.done():
        await runtime.advance(0.001)
    theirs = FramedStream(await pump, size_max)
    assert await theirs.receive_frame() == (1, b"first")
    mine.runtime = runtime  # type: ignore[attr-defined]
    return mine, theirs


async def settle(mine: FramedStream) -> None:
    """Let what was sent arrive."""
    await mine.runtime.advance(0.001)  # type: ignore[attr-defined]


async def test_frames_small_and_large_arrive_whole_and_then_the_end() -> None:
    mine, theirs = await pair()
    frames = [(2, b""), (3, bytes(70_000)), (255, b"x" * 4096), (4, b"y")]
    for kind, body in frames:
        await mine.send_frame(kind, body)
    await mine.finish()
    await settle(mine)
    assert [await theirs.receive_frame() for _ in frames] == frames
    assert await theirs.receive_frame() is None


async def test_a_frame_beyond_the_cap_is_refused() -> None:
    mine, theirs = await pair(size_max=10)
    await mine.send_frame(1, bytes(11))
    await settle(mine)
    with pytest.raises(PeerOverran):
        await theirs.receive_frame()


async def test_an_end_inside_a_frame_is_not_an_end() -> None:
    mine, theirs = await pair()
    await mine.stream.send(encode_frame(1, b"abcdef")[:-1])
    await mine.finish()
    await settle(mine)
    with pytest.raises(LinkClosed):
        await theirs.receive_frame()
