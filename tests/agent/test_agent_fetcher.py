"""Fetching chunks: asked once, checked, asked again elsewhere. Promises B4 and B19; P18, P19."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from meshsync.agent.fetcher import Absent, Fetcher, Need, Sealed
from meshsync.content.seal import BlobKind
from meshsync.errors import (
    AccessError,
    ChunkMismatch,
    LinkClosed,
    MalformedMessage,
    NotAMember,
    SourceUnavailable,
    StorageFull,
)
from meshsync.ids import ChunkId, EpochId
from meshsync.limits import FETCH_BATCH_BYTES, FETCH_DAMAGED_TRIES_MAX, FETCH_RETRY_S, WANT_ITEMS_MAX
from meshsync.transport.base import Priority
from tests.support.virtual_runtime import VirtualRuntime

EPOCH, UNKNOWN = EpochId(b"e" * 32), EpochId(b"u" * 32)
DAMAGED = b"damaged"
GONE = LinkClosed("gone")


def chunk(number: int) -> ChunkId:
    return ChunkId(number.to_bytes(32, "big"))


def content(id: ChunkId) -> bytes:
    return b"content of " + id[-2:]


def opened(answer: Sealed) -> bytes:
    """The twin of sealing: a blob is the content itself, a delta says what base it is for."""
    if answer.epoch == UNKNOWN:
        raise AccessError("no key of this epoch")
    data = answer.blob
    if answer.form and answer.need.base is not None:
        data = data.removeprefix(answer.need.base)
    if data != content(answer.need.chunk):
        raise ChunkMismatch("another chunk")
    return data


Script = Callable[[Need], Sealed | Absent | Exception | None]


def whole(need: Need) -> Sealed:
    return Sealed(need, 0, EPOCH, content(need.chunk))


def damaged(need: Need) -> Sealed:
    return Sealed(need, 0, EPOCH, DAMAGED)


@dataclass
class ScriptedSource:
    """Answers each need as `script` says (None: not at all), once `gate` is open; keeps what it was asked."""

    name: str
    script: Script = whole
    asked: list[list[ChunkId]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    closed: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def count(self) -> int:
        return sum(map(len, self.asked))

    def may_have(self, need: Need) -> bool:
        return True

    async def fetch(self, needs: Sequence[Need], priority: Priority) -> AsyncGenerator[Sealed | Absent, None]:
        self.asked.append([need.chunk for need in needs])
        try:
            for need in needs:
                await self.gate.wait()
                answer = self.script(need)
                if isinstance(answer, Exception):
                    raise answer
                if answer is not None:
                    yield answer
        finally:
            self.closed += 1


def in_turn(*scripts: Script) -> Script:
    """Answer by each script once, by the last for ever."""
    left = iter(scripts[:-1])

    def answer(need: Need) -> Sealed | Absent | Exception | None:
        return next(left, scripts[-1])(need)

    return answer


class Scene:
    def __init__(self) -> None:
        self.runtime = VirtualRuntime()
        self.fetched: list[ChunkId] = []
        self.damaged: list[tuple[ChunkId, str]] = []
        self.fetcher = Fetcher(
            self.runtime,
            opened,
            lambda need, size: self.fetched.append(need.chunk),
            lambda need, source: self.damaged.append((need.chunk, source)),
        )

    def want(self, number: int, priority: Priority = Priority.BULK, **more: object) -> asyncio.Future[bytes]:
        return self.fetcher.request(chunk(number), BlobKind.CHUNK, 1000, priority, **more)  # type: ignore[arg-type]

    async def add(self, *sources: ScriptedSource) -> None:
        for source in sources:
            await self.fetcher.add_source(source)

    async def settle(self) -> None:
        await self.runtime.settle()


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    try:
        yield made
    finally:
        await made.fetcher.close()


def ends(future: asyncio.Future[bytes]) -> bytes | BaseException:
    assert future.done()
    return future.exception() or future.result()


class TestOnce:
    async def test_a_chunk_is_asked_for_once_whatever_the_number_of_requests(self) -> None:
        async with scene() as it:
            one, two = ScriptedSource("one"), ScriptedSource("two")
            one.gate.clear()
            two.gate.clear()
            wanted = [it.want(1) for _ in range(5)]
            await it.add(one, two)
            await it.settle()
            wanted += [it.want(1) for _ in range(5)]  # while it is under way
            await it.settle()
            one.gate.set()
            two.gate.set()
            await it.settle()
            assert {ends(future) for future in wanted} == {content(chunk(1))}
            assert one.count + two.count == 1 and it.fetched == [chunk(1)] and it.fetcher.pending == 0

    async def test_given_up_and_wanted_again_while_under_way_it_is_still_asked_once(self) -> None:
        async with scene() as it:
            source = ScriptedSource("one")
            source.gate.clear()
            await it.add(source)
            first = it.want(1)
            await it.settle()
            first.cancel()
            await it.settle()
            assert it.fetcher.pending == 0
            again = it.want(1)
            source.gate.set()
            await it.settle()
            assert ends(again) == content(chunk(1)) and source.count == 1

    async def test_many_chunks_travel_in_batches_within_bounds(self) -> None:
        async with scene() as it:
            source = ScriptedSource("one")
            wanted = [it.want(number) for number in range(5000)]
            await it.add(source)
            await it.settle()
            assert all(ends(future) == content(chunk(at)) for at, future in enumerate(wanted))
            assert source.count == 5000 and len(source.asked) < 20
            assert max(map(len, source.asked)) <= min(WANT_ITEMS_MAX, FETCH_BATCH_BYTES // 1000 + 1)


class TestDamage:
    async def test_only_the_damaged_chunk_is_asked_for_again_from_another_source(self) -> None:
        async with scene() as it:
            bad = ScriptedSource("bad", lambda need: damaged(need) if need.chunk == chunk(2) else whole(need))
            good = ScriptedSource("good")
            wanted = [it.want(number) for number in range(5)]
            await it.add(bad)
            good.gate.clear()
            await it.add(good)
            good.gate.set()
            await it.settle()
            assert [ends(future) for future in wanted] == [content(chunk(at)) for at in range(5)]
            assert it.damaged == [(chunk(2), "bad")]
            assert bad.asked[0] == [chunk(at) for at in range(5)] and bad.count + good.count == 6
            assert good.asked == [[chunk(2)]]

    async def test_where_there_is_no_other_source_the_same_is_asked_a_few_times(self) -> None:
        async with scene() as it:
            source = ScriptedSource("only", in_turn(damaged, whole))
            await it.add(source)
            future = it.want(1)
            await it.settle()
            assert ends(future) == content(chunk(1)) and it.damaged == [(chunk(1), "only")]

    async def test_a_source_that_only_damages_is_given_up_and_said_to_be_so(self) -> None:
        async with scene() as it:
            source = ScriptedSource("only", damaged)
            await it.add(source)
            future = it.want(1, path="docs/a")
            await it.runtime.advance(10 * FETCH_RETRY_S)
            assert source.count == len(it.damaged) == FETCH_DAMAGED_TRIES_MAX
            assert not future.done() and it.fetcher.waiting_for() == {"docs/a": ["only"]}

    async def test_a_new_link_is_a_new_chance(self) -> None:
        async with scene() as it:
            await it.add(ScriptedSource("only", damaged))
            future = it.want(1)
            await it.settle()
            await it.add(ScriptedSource("only"))
            await it.settle()
            assert ends(future) == content(chunk(1))

    async def test_a_copy_damaged_at_the_source_counts_too(self) -> None:
        async with scene() as it:
            await it.add(ScriptedSource("relay", lambda need: Absent(need, damaged=True)))
            it.want(1)
            await it.settle()
            assert it.damaged == [(chunk(1), "relay")]


class TestDelta:
    @staticmethod
    def delta(need: Need) -> Sealed:
        return Sealed(need, 1, EPOCH, b"base" + content(need.chunk)) if need.base else whole(need)

    async def test_a_delta_is_used(self) -> None:
        async with scene() as it:
            source = ScriptedSource("one", self.delta)
            await it.add(source)
            future = it.want(1, base=b"base")
            await it.settle()
            assert ends(future) == content(chunk(1)) and source.count == 1

    async def test_one_that_does_not_fit_is_no_damage_and_the_whole_chunk_is_asked_for(self) -> None:
        async with scene() as it:
            source = ScriptedSource("one", self.delta)
            await it.add(source)
            future = it.want(1, base=b"another base")
            await it.settle()
            assert ends(future) == content(chunk(1)) and source.count == 2 and it.damaged == []

    async def test_deltas_that_nobody_asked_for_are_damage_and_end(self) -> None:
        async with scene() as it:
            source = ScriptedSource("hostile", lambda need: Sealed(need, 1, EPOCH, DAMAGED))
            await it.add(source)
            it.want(1)
            await it.settle()
            assert source.count == FETCH_DAMAGED_TRIES_MAX == len(it.damaged)


UNHELPFUL: dict[str, Script] = {
    "lacks it": Absent,
    "says nothing": lambda need: None,
    "is gone": lambda need: GONE,
    "breaks the protocol": lambda need: MalformedMessage("junk"),
    "refuses": lambda need: NotAMember("unknown"),
    "uses an epoch whose key is not here": lambda need: Sealed(need, 0, UNKNOWN, b""),
    "answers for another": lambda need: Sealed(Need(chunk(9), need.kind, 1, need.priority), 0, EPOCH, b""),
}


@pytest.mark.parametrize("script", UNHELPFUL.values(), ids=UNHELPFUL.keys())
class TestUnhelpful:
    async def test_another_source_is_asked(self, script: Script) -> None:
        async with scene() as it:
            first, second = ScriptedSource("first", script), ScriptedSource("second")
            await it.add(first)
            future = it.want(1)
            await it.settle()
            assert not future.done() and first.count == 1
            await it.add(second)
            await it.settle()
            assert ends(future) == content(chunk(1)) and first.count == second.count == 1 and it.damaged == []

    async def test_it_is_asked_again_after_a_while_and_not_before(self, script: Script) -> None:
        async with scene() as it:
            source = ScriptedSource("only", in_turn(script, whole))
            await it.add(source)
            future = it.want(1)
            await it.runtime.advance(FETCH_RETRY_S * 0.99)
            assert source.count == 1 and it.fetcher.pending == 1
            await it.runtime.advance(FETCH_RETRY_S * 0.02)
            assert ends(future) == content(chunk(1)) and source.count == 2

    async def test_its_news_is_a_reason_to_ask_again_at_once(self, script: Script) -> None:
        async with scene() as it:
            source = ScriptedSource("only", in_turn(script, whole))
            await it.add(source)
            future = it.want(1)
            await it.settle()
            it.fetcher.news("only")
            await it.settle()
            assert ends(future) == content(chunk(1))


class TestSources:
    async def test_what_a_removed_source_had_not_answered_goes_to_the_others(self) -> None:
        async with scene() as it:
            leaving = ScriptedSource("leaving")
            leaving.gate.clear()
            wanted = [it.want(number) for number in range(6)]
            await it.add(leaving)
            await it.settle()
            staying = ScriptedSource("staying")
            await it.add(staying)
            await it.fetcher.remove_source(leaving)
            await it.settle()
            assert [ends(future) for future in wanted] == [content(chunk(at)) for at in range(6)]
            assert staying.asked == [[chunk(at) for at in range(6)]]  # in the order of the file
            assert leaving.closed == 1

    async def test_removing_an_old_source_leaves_its_successor_of_the_same_name(self) -> None:
        async with scene() as it:
            old, new = ScriptedSource("desk", Absent), ScriptedSource("desk")
            await it.add(old, new)
            await it.fetcher.remove_source(old)
            future = it.want(1)
            await it.settle()
            assert ends(future) == content(chunk(1)) and old.count == 0

    async def test_closing_ends_every_need_and_every_later_one(self) -> None:
        async with scene() as it:
            waiting = it.want(1)
            await it.fetcher.close()
            for future in (waiting, it.want(2)):
                assert isinstance(ends(future), SourceUnavailable)


class TestRequests:
    async def test_a_cancelled_need_is_not_asked_for_and_leaves_nothing_behind(self) -> None:
        async with scene() as it:
            for _ in range(100):
                it.want(1).cancel()
                await it.runtime.settle()
            kept = it.want(2)
            source = ScriptedSource("one")
            await it.add(source)
            await it.settle()
            assert ends(kept) == content(chunk(2)) and source.asked == [[chunk(2)]]

    async def test_one_that_gives_up_does_not_take_the_chunk_from_others(self) -> None:
        async with scene() as it:
            leaving, staying = it.want(1), it.want(1)
            leaving.cancel()
            await it.add(ScriptedSource("one"))
            await it.settle()
            assert ends(staying) == content(chunk(1))

    async def test_interactive_goes_before_bulk(self) -> None:
        async with scene() as it:
            source = ScriptedSource("one")
            for number in range(3):
                it.want(number, Priority.BULK)
            it.want(7, Priority.INTERACTIVE)
            await it.add(source)
            await it.settle()
            assert source.asked == [[chunk(7)], [chunk(0), chunk(1), chunk(2)]]

    async def test_a_bulk_chunk_that_becomes_urgent_moves_up(self) -> None:
        async with scene() as it:
            source = ScriptedSource("one")
            for number in range(3):
                it.want(number, Priority.BULK)
            it.want(2, Priority.INTERACTIVE)
            await it.add(source)
            await it.settle()
            assert source.asked == [[chunk(2)], [chunk(0), chunk(1)]]

    async def test_a_sink_takes_the_bytes(self) -> None:
        async with scene() as it:
            taken: list[bytes] = []
            future, plain = it.want(1, sink=taken.append), it.want(1)
            await it.add(ScriptedSource("one"))
            await it.settle()
            assert ends(future) == b"" and taken == [content(chunk(1))] == [ends(plain)]

    async def test_a_sink_that_raises_ends_its_own_request_only(self) -> None:
        def full(data: bytes) -> None:
            raise StorageFull("no space")

        async with scene() as it:
            failing, other, after = it.want(1, sink=full), it.want(1), it.want(2)
            await it.add(ScriptedSource("one"))
            await it.settle()
            assert isinstance(ends(failing), StorageFull)
            assert (ends(other), ends(after)) == (content(chunk(1)), content(chunk(2)))
