"""The log between two members: pulled in bounded pages, never in a loop. Promises B20, P2."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from meshsync.agent.changes import Changes
from meshsync.agent.conversation import Conversation
from meshsync.agent.log_exchange import LogPuller, LogServer
from meshsync.crypto.hashing import digest
from meshsync.errors import LinkClosed, MalformedMessage, RoleForbids
from meshsync.ids import ChainId, EntryId, FolderId, RecordId
from meshsync.limits import COUNTER_MAX, RECORDS_PAGE_BYTES_MAX
from meshsync.metalog.fields import ChainHead
from meshsync.runtime import SystemRuntime
from meshsync.transport.base import Priority
from meshsync.wire.peer_messages import (
    ChunkAbsent,
    EntriesPage,
    FollowLog,
    FollowRefused,
    GetEntries,
    GetMembership,
    Heads,
    MembershipPage,
    Message,
)
from tests.contracts.link_worlds import open_world

FOLDER, A, B = FolderId(b"F" * 32), ChainId(b"A" * 32), ChainId(b"B" * 32)
PAGE_ITEMS = 3


class LogTwin:
    """A folder's log without content: entry n of a chain is its id and n, a membership entry names the one before it.

    Of two membership chains that fork, the longer one stands.
    """

    def __init__(self, members: tuple[bytes, ...] = (b"genesis",), **counts: int) -> None:
        self.folder = FOLDER
        self.changes = Changes()
        self.counts = {chain: counts.get(name, 0) for chain, name in ((A, "a"), (B, "b"))}
        self.members: list[bytes] = []
        for name in members:
            self.members.append(digest("member", self._last) + name)
        self.bytes_asked: list[int] = []

    @property
    def _last(self) -> bytes:
        return self.members[-1] if self.members else b""

    def heads(self) -> Heads:
        chains = tuple(ChainHead(chain, count, EntryId(chain)) for chain, count in self.counts.items() if count)
        return Heads(len(self.members), digest("member", self._last), chains, ())

    def has_membership(self, head: RecordId) -> bool:
        return head in [digest("member", member) for member in self.members]

    def membership_page(self, start: int, bytes_max: int) -> list[bytes]:
        return self.members[start:]

    def lacks(self, heads: tuple[ChainHead, ...]) -> bool:
        return any(head.seq > self.counts[head.chain] for head in heads)

    def entries_for(self, heads: tuple[ChainHead, ...], bytes_max: int) -> tuple[list[bytes], bool]:
        self.bytes_asked.append(bytes_max)
        held = {head.chain: head.seq for head in heads}
        lacking = [
            chain + bytes([seq])
            for chain, count in self.counts.items()
            for seq in range(held.get(chain, 0) + 1, count + 1)
        ]
        return lacking[:PAGE_ITEMS], len(lacking) > PAGE_ITEMS

    async def receive_membership(self, start: int, entries: tuple[bytes, ...]) -> bool:
        above = self.members[start - 1] if start else b""
        if not entries or entries[0][:32] != digest("member", above) or start + len(entries) <= len(self.members):
            return False
        self.members[start:] = entries
        self.changes.note()
        return True

    async def receive_entries(self, entries: tuple[bytes, ...]) -> bool:
        before = dict(self.counts)
        for entry in entries:
            chain, seq = ChainId(entry[:32]), entry[32]
            if seq == self.counts[chain] + 1:
                self.counts[chain] = seq
        if before != self.counts:
            self.changes.note()
        return before != self.counts


Accept = Callable[[], Awaitable[Conversation]]


@asynccontextmanager
async def streams() -> AsyncIterator[tuple[SystemRuntime, Conversation, Accept]]:
    """Give the asking end of a stream, and a way to get the other end once `FollowLog` was sent on it."""
    async with open_world("memory") as world:
        near, far = await world.connect()

        async def accept() -> Conversation:
            server = Conversation(await far.accept_stream())
            assert await server.receive() == FollowLog(FOLDER)
            return server

        yield world.runtime, Conversation(await near.open_stream(Priority.INTERACTIVE)), accept


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not reached():
            await asyncio.sleep(0)


@asynccontextmanager
async def following(puller: LogPuller, conversation: Conversation) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.get_running_loop().create_task(puller.follow(conversation))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _puller() -> LogPuller:
    return LogPuller(LogTwin(), lambda heads: None)


@asynccontextmanager
async def exchange(puller: LogTwin, server: LogTwin) -> AsyncIterator[list[Heads]]:
    """Let `puller` follow `server`; gives the heads heard."""
    heard: list[Heads] = []
    async with streams() as (runtime, asker, accept):
        async with following(LogPuller(puller, heard.append), asker):
            serving = runtime.spawn(LogServer(runtime, server).serve(await accept()), "serve")
            yield heard
        asker.reset()
        with pytest.raises(LinkClosed):
            await serving


class TestBoth:
    async def test_what_one_side_lacks_comes_in_pages(self) -> None:
        mine, theirs = LogTwin(a=5), LogTwin((b"genesis", b"admit", b"rekey"), a=20, b=30)
        async with exchange(mine, theirs):
            await until(lambda: mine.counts == theirs.counts and mine.members == theirs.members)
            assert len(theirs.bytes_asked) == 15 and set(theirs.bytes_asked) == {RECORDS_PAGE_BYTES_MAX}

    async def test_a_change_is_told_at_once(self) -> None:
        mine, theirs = LogTwin(), LogTwin()
        async with exchange(mine, theirs) as heard:
            await until(lambda: len(heard) == 1)
            await theirs.receive_entries((A + b"\x01",))
            await until(lambda: mine.counts == theirs.counts)
            assert len(heard) == 2

    async def test_the_side_with_more_asks_nothing(self) -> None:
        mine, theirs = LogTwin((b"genesis", b"admit"), a=3), LogTwin(a=1)
        async with exchange(mine, theirs) as heard:
            await until(lambda: len(heard) == 1)
            await theirs.receive_entries((A + b"\x02",))
            await until(lambda: len(heard) == 2)
            assert theirs.bytes_asked == [] and mine.counts[A] == 3

    async def test_membership_chains_that_fork_meet_though_the_other_is_longer(self) -> None:
        mine = LogTwin((b"genesis", b"admit", b"mine"))
        theirs = LogTwin((b"genesis", b"admit", b"theirs", b"policy", b"relay"))
        async with exchange(mine, theirs):
            await until(lambda: mine.members == theirs.members)


class TestHostile:
    """The test is the peer."""

    async def test_more_of_nothing_is_not_asked_for_again_until_its_heads_change(self) -> None:
        async with streams() as (_, asker, accept), following(_puller(), asker) as task:
            peer = await accept()
            for _ in range(2):
                await peer.send(LogTwin(a=5).heads())
                assert isinstance(await peer.receive(), GetEntries)
                await peer.send(EntriesPage((), True))
            await peer.send(FollowRefused("that is all"))
            with pytest.raises(RoleForbids):
                await task
            asker.reset()
            with pytest.raises(LinkClosed):  # nothing else was asked
                await peer.receive()

    async def test_a_membership_chain_that_leads_nowhere_is_read_once_from_the_end_and_once_from_the_beginning(
        self,
    ) -> None:
        async with streams() as (_, asker, accept), following(_puller(), asker) as task:
            peer = await accept()
            await peer.send(Heads(9, b"x" * 32, (), ()))
            for start in (1, 0):
                assert await peer.receive() == GetMembership(start)
                await peer.send(MembershipPage(start, (b"y" * 40,)))
            await peer.send(FollowRefused("that is all"))
            with pytest.raises(RoleForbids):
                await task
            asker.reset()
            with pytest.raises(LinkClosed):
                await peer.receive()

    @pytest.mark.parametrize(
        "message", [EntriesPage((), False), MembershipPage(0, ()), ChunkAbsent(0), GetMembership(0)]
    )
    async def test_what_was_not_asked_for_breaks_the_protocol(self, message: Message) -> None:
        async with streams() as (_, asker, accept), following(_puller(), asker) as task:
            peer = await accept()
            await peer.send(message)
            with pytest.raises(MalformedMessage):
                await task

    async def test_no_page_is_larger_than_the_bound_whatever_is_asked(self) -> None:
        theirs = LogTwin(a=5)
        async with streams() as (runtime, asker, accept):
            await asker.send(FollowLog(FOLDER))
            serving = runtime.spawn(LogServer(runtime, theirs).serve(await accept()), "serve")
            await asker.send(GetEntries((), COUNTER_MAX))
            await until(lambda: bool(theirs.bytes_asked))
            assert theirs.bytes_asked == [RECORDS_PAGE_BYTES_MAX]
            await asker.send(ChunkAbsent(0))
            with pytest.raises(MalformedMessage):
                await serving
