"""B20: a member that asks for, offers or opens more than any real one: paged, bounded, and the folder goes on."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import msgspec
import pytest

from meshsync.agent.conversation import Conversation
from meshsync.errors import LinkClosed
from meshsync.ids import ChainId, EntryId
from meshsync.limits import (
    COUNTER_MAX,
    HEADS_MAX,
    RECORDS_PAGE_BYTES_MAX,
    RECORDS_PAGE_ITEMS_MAX,
    SERVED_STREAMS_MAX,
    STREAMS_MAX,
    WANT_ITEMS_MAX,
)
from meshsync.metalog.fields import ChainHead
from meshsync.transport.base import Priority
from meshsync.wire.frames import encode_frame
from meshsync.wire.peer_messages import EntriesPage, FollowLog, GetEntries, Heads, OpenChunks, Want, WantItem, pack
from tests.support.member_scene import WAIT_S, open_scene


def heads(count: int) -> tuple[ChainHead, ...]:
    return tuple(
        ChainHead(ChainId(n.to_bytes(32, "big")), COUNTER_MAX, EntryId(b"e" * 32)) for n in range(1, count + 1)
    )


TOO_MANY = {
    "heads": lambda scene: (FollowLog(scene.folder.id), GetEntries(heads(HEADS_MAX + 1), 1)),
    "wants": lambda scene: (
        OpenChunks(scene.folder.id),
        Want((WantItem(b"c" * 32, 1, 1),) * (WANT_ITEMS_MAX + 1)),
    ),
}


@pytest.mark.parametrize("messages", TOO_MANY.values(), ids=TOO_MANY.keys())
async def test_a_request_beyond_the_bound_ends_the_link_and_nothing_else(tmp_path: Path, messages: object) -> None:
    async with open_scene(tmp_path) as scene:
        mallory, carol = await scene.member(b"m"), await scene.member(b"c")
        link = await scene.connect(mallory)
        await scene.connect(carol)
        stream = await link.open_stream(Priority.INTERACTIVE)
        for message in messages(scene):  # type: ignore[operator]
            await stream.send(encode_frame(*pack(message)))
        async with asyncio.timeout(WAIT_S):
            await link.wait_closed()
        await scene.gets(carol, b"next", b"1")


@pytest.mark.slow
async def test_a_member_that_tells_of_ten_million_entries_and_has_none_is_asked_once(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        mallory, carol = await scene.member(b"m"), await scene.member(b"c")
        asked: list[int] = []

        def nothing(page: list[bytes]) -> list[bytes]:
            asked.append(len(page))
            return []

        mallory.pages = nothing
        lies = (ChainHead(ChainId(b"l" * 32), 10**7, EntryId(b"e" * 32)),)
        mallory.heads = lambda: Heads(*mallory.membership, lies, ())  # type: ignore[method-assign]
        await scene.connect(mallory)
        await scene.connect(carol)
        await scene.until(lambda: bool(asked))
        for number in range(20):
            await scene.gets(carol, b"file %d" % number, b"1")
        assert len(asked) == 1, "asked again only when it tells something new"


@pytest.mark.slow
async def test_entries_are_told_a_page_at_a_time(tmp_path: Path) -> None:
    count = RECORDS_PAGE_ITEMS_MAX + 50
    async with open_scene(tmp_path) as scene:
        mallory, carol = await scene.member(b"m"), await scene.member(b"c")
        await scene.connect(carol)
        for number in range(count):
            carol.write(carol.put(b"%d" % number, carol.hold([b"1"])))
            if number % 500 == 499:
                await scene.until(lambda: len(scene.folder.replica.chains.heads()) > 0)
        await scene.until(lambda: carol.entries[-1].id in scene.folder.replica.chains)
        talk = Conversation(await (await scene.connect(mallory)).open_stream(Priority.INTERACTIVE))
        await talk.send(FollowLog(scene.folder.id))
        await talk.send(GetEntries((), COUNTER_MAX))
        page = await talk.receive()
        while not isinstance(page, EntriesPage):
            page = await talk.receive()
        assert page.more and len(page.entries) <= RECORDS_PAGE_ITEMS_MAX
        assert len(msgspec.msgpack.encode(page)) <= RECORDS_PAGE_BYTES_MAX + (1 << 20)


async def test_streams_that_are_opened_and_say_nothing_hold_up_nobody_else(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        mallory, carol = await scene.member(b"m"), await scene.member(b"c")
        link = await scene.connect(mallory)
        flooded = scene.links[-1]
        await scene.connect(carol)
        silent = []
        with contextlib.suppress(TimeoutError, LinkClosed):
            while len(silent) < 10_000:
                async with asyncio.timeout(0.2):
                    stream = await link.open_stream(Priority.INTERACTIVE)
                    await stream.send(b"\0")
                    silent.append(stream)
        assert len(silent) >= STREAMS_MAX - 2, "they were taken, as those of a slow member are"
        assert len(flooded._tasks) <= SERVED_STREAMS_MAX + 2
        await scene.gets(carol, b"file", b"1")


async def test_streams_that_are_opened_and_thrown_away_leave_nothing_and_hold_up_nobody(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        mallory, carol = await scene.member(b"m"), await scene.member(b"c")
        link = await scene.connect(mallory)
        flooded = scene.links[-1]
        await scene.connect(carol)
        most = 0
        for number in range(2_000):
            stream = await link.open_stream(Priority.INTERACTIVE)
            await stream.send(encode_frame(*pack(OpenChunks(scene.folder.id)))[: number % 8 + 1])
            stream.reset(0)
            most = max(most, len(flooded._tasks))
            if number % 500 == 0:
                await scene.gets(carol, b"file %d" % number, b"1")
        await scene.until(lambda: len(flooded._tasks) <= 2)
        assert most <= SERVED_STREAMS_MAX + 2
