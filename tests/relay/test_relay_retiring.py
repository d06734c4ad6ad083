"""What owners let go of at a relay, and what it keeps all the same (`docs/spec/relay.md` 5)."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from meshsync.crypto.hashing import blob_id
from meshsync.crypto.identity import DeviceKeys
from meshsync.ids import BlobId, Dot, FolderId, RecordId
from meshsync.limits import RELAY_LEASE_S, RELAY_UPKEEP_INTERVAL_S
from meshsync.metalog.membership_entry import SetPolicy
from meshsync.metalog.receipt import open_receipt
from meshsync.metalog.record_log import LogRecord, RecordKind, record_id
from meshsync.metalog.retention_policy import RetentionPolicy, pack_policy
from meshsync.metalog.retire import Collected, make_retire, open_collected
from meshsync.metalog.stored import stored_id
from meshsync.roles import Role
from meshsync.wire.relay_messages import Appended, Code, MissingPast, Outcome, RecordRefused
from relay.inspect import check
from relay.ledger import KEEPERS
from relay.retiring import carry_out
from relay.upkeep import Upkeep, collect, sweep
from tests.metalog.log_scene import ANNA, BEN, FOLDER, RELAY, Folder, entry, genesis
from tests.relay.relay_world import (
    RelayWorld,
    Talk,
    entry_record,
    membership_record,
    open_relay,
    stored_part,
    stored_record,
)
from tests.relay.test_relay_upkeep import LaterClock

GRACE_S = 3600


@dataclass
class Scene:
    """A relay with a folder of Anna's, and what the test did there."""

    world: RelayWorld
    talk: Talk
    seq: int = 0
    blobs: dict[RecordId, set[bytes]] = field(default_factory=dict)

    async def store(self, *blobs: bytes, parts: Sequence[RecordId] = ()) -> RecordId:
        """Publish a version that needs `blobs` and what `parts` hold; return its stored record."""
        self.seq += 1
        version = entry(ANNA, payload=str(self.seq).encode())
        await self.talk.upload(*blobs)
        record = stored_record(ANNA, version, blobs, parts)
        outcomes = await self.talk.append(entry_record(version), record)
        assert all(isinstance(outcome, Appended) for outcome in outcomes), outcomes
        return stored_id(record.data)

    async def store_part(self, *blobs: bytes, parts: Sequence[RecordId] = ()) -> RecordId:
        await self.talk.upload(*blobs)
        record = stored_part(ANNA, blobs, parts)
        (outcome,) = await self.talk.append(record)
        assert isinstance(outcome, Appended), outcome
        return stored_id(record.data)

    async def retire(self, *records: RecordId, cancels: Sequence[RecordId] = ()) -> tuple[Outcome, RecordId]:
        record = retire_record(await self.index(), *records, cancels=cancels)
        (outcome,) = await self.talk.append(record)
        return outcome, record_id(record)

    async def index(self) -> int:
        state = await self.world.core.log.state(FOLDER)
        assert state is not None
        return state.index

    async def pass_time(self, seconds: int = GRACE_S) -> int:
        """Let the relay run that long and do what is due; return how many blobs were let go of."""
        await self.world.core.log.wait(seconds)
        return await carry_out(self.world.core)

    async def held(self) -> set[bytes]:
        """Return those of the test's one-byte blobs that the relay has once no lease protects them any more."""
        runtime = self.world.core.runtime
        self.world.core.runtime = LaterClock(self.world, RELAY_LEASE_S + 10)  # type: ignore[assignment]
        await collect(self.world.core)
        await sweep(self.world.core)
        self.world.core.runtime = runtime
        names = {BlobId(blob_id(bytes([n]))): bytes([n]) for n in range(256)}
        return {names[blob] for blob in await self.world.core.chunks.has(sorted(names))}

    async def collected(self) -> list[Collected]:
        rows = await self.world.core.log.read(FOLDER, 1, 1 << 30, 1 << 20, [RecordKind.COLLECTED])
        return [open_collected(row.data, FOLDER) for row in rows]


def retire_record(
    index: int,
    *records: RecordId,
    cancels: Sequence[RecordId] = (),
    author: DeviceKeys = ANNA,
    relay: DeviceKeys = RELAY,
    dots: tuple[Dot, ...] = (),
) -> LogRecord:
    data = make_retire(
        author,
        FOLDER,
        membership=genesis().id,
        relay=relay.device,
        index=index,
        dots=dots,
        records=records,
        cancels=tuple(cancels),
    )
    return LogRecord(RecordKind.RETIRE, data)


@asynccontextmanager
async def open_scene(directory: Path | None = None) -> AsyncIterator[Scene]:
    async with open_relay(directory) as world:
        world.core.grace_s = GRACE_S
        yield Scene(world, await world.founded())


@pytest.fixture(params=["sqlite", "memory"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path if request.param == "sqlite" else None


class Enough(Exception):
    """Ends a loop that has none."""


class TestWhatGoes:
    async def test_what_no_other_version_needs_goes_after_the_wait_and_the_log_says_so(
        self, directory: Path | None
    ) -> None:
        async with open_scene(directory) as scene:
            old, new = await scene.store(b"1", b"2"), await scene.store(b"2", b"3")
            outcome, retire = await scene.retire(old)
            assert isinstance(outcome, Appended)
            assert await scene.pass_time(GRACE_S - 1) == 0 and await scene.held() == {b"1", b"2", b"3"}
            assert await scene.pass_time(1) == 1
            assert await scene.held() == {b"2", b"3"}
            (collected,) = await scene.collected()
            assert (collected.retires, collected.records) == ((retire,), (old,))
            assert collected.blobs == (blob_id(b"1"),) and collected.device == RELAY.device
            assert await scene.pass_time() == 0 and len(await scene.collected()) == 1
            assert new not in collected.records

    async def test_a_relay_is_whole_without_what_it_let_go_of(self, directory: Path | None) -> None:
        async with open_scene(directory) as scene:
            await scene.retire(await scene.store(b"1"))
            await scene.pass_time()
            assert await scene.held() == set()
            assert (await check(scene.world.core.log, scene.world.core.chunks)).problems == []

    async def test_its_bytes_are_given_back_to_who_paid_for_them(self, directory: Path | None) -> None:
        async with open_scene(directory) as scene:
            old = await scene.store(b"1")
            before = await scene.world.core.log.charged(FOLDER, ANNA.device)
            await scene.retire(old)
            assert await scene.world.core.log.charged(FOLDER, ANNA.device) == before  # a full folder can be relieved
            await scene.pass_time()
            await scene.held()
            assert await scene.world.core.log.charged(FOLDER, ANNA.device) == before - 1

    async def test_the_wait_counts_only_what_the_relay_runs(self) -> None:
        async with open_scene() as scene:
            await scene.retire(await scene.store(b"1"))
            scene.world.core.runtime = LaterClock(scene.world, 10 * 365 * 86400)  # type: ignore[assignment]
            await Upkeep(scene.world.core).step()
            assert await scene.collected() == []

    async def test_upkeep_counts_its_intervals(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with open_scene() as scene:
            await scene.retire(await scene.store(b"1"))
            slept: list[float] = []

            class Sleepless(LaterClock):
                async def sleep(self, seconds: float) -> None:
                    slept.append(seconds)
                    if len(slept) > GRACE_S // int(RELAY_UPKEEP_INTERVAL_S) + 1:
                        raise Enough

            scene.world.core.runtime = Sleepless(scene.world, 0)  # type: ignore[assignment]
            with pytest.raises(Enough):
                await Upkeep(scene.world.core).run()
            assert len(await scene.collected()) == 1


class TestWhatStays:
    async def test_what_was_taken_back_in_time(self, directory: Path | None) -> None:
        async with open_scene(directory) as scene:
            old = await scene.store(b"1")
            _, retire = await scene.retire(old)
            assert isinstance((await scene.retire(cancels=[retire]))[0], Appended)
            assert await scene.pass_time() == 0 and await scene.collected() == []
            assert await scene.held() == {b"1"}
            await scene.retire(old)  # and may be let go of later
            assert await scene.pass_time() == 1

    async def test_what_another_version_came_to_need_meanwhile(self, directory: Path | None) -> None:
        async with open_scene(directory) as scene:
            await scene.retire(await scene.store(b"1", b"2"))
            await scene.store(b"1")
            assert await scene.pass_time() == 1
            assert await scene.held() == {b"1"}

    async def test_parts_that_another_version_rests_on(self, directory: Path | None) -> None:
        async with open_scene(directory) as scene:
            low = await scene.store_part(b"1")
            high = await scene.store_part(b"2", parts=[low])
            old = await scene.store(b"3", parts=[high])
            new = await scene.store(b"4", parts=[low])
            await scene.retire(old, high, low)
            assert await scene.pass_time() == 2 and await scene.held() == {b"1", b"4"}
            await scene.retire(new)
            assert await scene.pass_time() == 2 and await scene.held() == set()

    async def test_a_part_whose_version_is_still_being_uploaded(self, directory: Path | None) -> None:
        async with open_scene(directory) as scene:
            await scene.store_part(b"1")
            await scene.retire(await scene.store(b"2"))
            await scene.pass_time()
            assert await scene.held() == {b"1"}

    async def test_an_upload_that_finds_what_was_just_let_go_of_is_asked_for_it_again(
        self, directory: Path | None
    ) -> None:
        async with open_scene(directory) as scene:
            part = await scene.store_part(b"1")
            await scene.retire(await scene.store(b"2", parts=[part]), part)
            await scene.pass_time()
            version = entry(ANNA, payload=b"next")
            await scene.talk.append(entry_record(version))
            assert await scene.talk.append(stored_record(ANNA, version, [], [part])) == [MissingPast((part,))]
            again = stored_part(ANNA, [b"1"])
            assert stored_id(again.data) == part
            await scene.talk.upload(b"1")
            (outcome,) = await scene.talk.append(again)
            assert isinstance(outcome, Appended)
            receipt = open_receipt(outcome.receipt, FOLDER)
            assert receipt.record == part and receipt.index == outcome.index
            (outcome,) = await scene.talk.append(stored_record(ANNA, version, [], [part]))
            assert isinstance(outcome, Appended)
            await scene.retire(await scene.store(b"3"))
            await scene.pass_time()  # a later run goes by the log: what was retired then is alive now
            assert await scene.held() == {b"1"}

    async def test_what_was_stored_again_since_the_word_was_given(self, directory: Path | None) -> None:
        async with open_scene(directory) as scene:
            part = await scene.store_part(b"1")
            await scene.retire(await scene.store(b"2", parts=[part]), part)
            await scene.pass_time(GRACE_S // 2)
            await scene.retire(await scene.store(b"3"), part)  # by another owner, who had not heard of the first
            await scene.pass_time(GRACE_S // 2)
            await scene.talk.upload(b"1")
            await scene.talk.append(stored_part(ANNA, [b"1"]))
            await scene.pass_time(GRACE_S // 2)
            assert await scene.held() == {b"1"}

    async def test_a_floor_in_the_policy_is_waited_for(self) -> None:
        async with open_scene() as scene:
            folder = Folder()
            policy = pack_policy(RetentionPolicy(all_s=0, floor_s=2 * GRACE_S))
            await scene.talk.append(membership_record(folder.add(ANNA, SetPolicy(1, policy))))
            await scene.retire(await scene.store(b"1"))
            await scene.talk.append(membership_record(folder.add(ANNA, SetPolicy(2, pack_policy(RetentionPolicy())))))
            assert await scene.pass_time(GRACE_S) == 0
            assert await scene.pass_time(GRACE_S) == 1

    async def test_a_policy_of_a_newer_build_lets_nothing_go(self) -> None:
        async with open_scene() as scene:
            folder = Folder()
            await scene.talk.append(membership_record(folder.add(ANNA, SetPolicy(1, b"\x91\x02"))))
            await scene.retire(await scene.store(b"1"))
            assert await scene.pass_time(10**9) == 0


class TestWhoMay:
    async def test_a_writer_may_not_let_go_of_anything(self) -> None:
        async with open_scene() as scene:
            folder = Folder()
            folder.join(BEN, Role.WRITER)
            await scene.talk.append(*map(membership_record, folder.entries[1:]))
            old = await scene.store(b"1")
            record = retire_record(await scene.index(), old, author=BEN)
            (outcome,) = await scene.talk.append(record)
            assert isinstance(outcome, RecordRefused) and outcome.code == Code.ROLE_FORBIDS

    async def test_a_record_for_another_relay_or_from_the_future_is_refused(self) -> None:
        async with open_scene() as scene:
            old, index = await scene.store(b"1"), await scene.index()
            for record in (retire_record(index, old, relay=BEN), retire_record(index + 1, old)):
                (outcome,) = await scene.talk.append(record)
                assert isinstance(outcome, RecordRefused) and outcome.code == Code.INTEGRITY

    async def test_only_stored_records_are_let_go_of_and_only_retire_records_cancelled(self) -> None:
        async with open_scene() as scene:
            old, index = await scene.store(b"1"), await scene.index()
            for record in (retire_record(index, genesis().id), retire_record(index, cancels=[old])):
                (outcome,) = await scene.talk.append(record)
                assert isinstance(outcome, RecordRefused) and outcome.code == Code.INTEGRITY

    async def test_no_device_says_what_was_collected(self) -> None:
        async with open_scene() as scene:
            await scene.retire(await scene.store(b"1"))
            await scene.pass_time()
            (row,) = await scene.world.core.log.read(FOLDER, 1, 1 << 30, 1 << 20, [RecordKind.COLLECTED])
            (outcome,) = await scene.talk.append(LogRecord(RecordKind.COLLECTED, row.data + b"x"))
            assert isinstance(outcome, RecordRefused) and outcome.code == Code.ROLE_FORBIDS

    async def test_too_many_at_once_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("relay.sequencer.RETIRES_OPEN_MAX", 2)
        async with open_scene() as scene:
            one, two, three = [await scene.store(blob) for blob in (b"1", b"2", b"3")]
            _, first = await scene.retire(one)
            await scene.retire(two)
            outcome, _ = await scene.retire(three)
            assert isinstance(outcome, RecordRefused) and outcome.code == Code.BUSY
            assert isinstance((await scene.retire(three, cancels=[first]))[0], Appended)


@pytest.mark.parametrize("seed", range(40))
async def test_random_histories_keep_exactly_what_some_record_needs(seed: int) -> None:
    """Against a plain model: alive is what was stored and neither retired for good nor stored again since."""
    chance = random.Random(seed)
    async with open_scene() as scene:
        own: dict[RecordId, set[bytes]] = {}
        parts: dict[RecordId, list[RecordId]] = {}
        retired: set[RecordId] = set()
        waiting: list[tuple[RecordId, set[RecordId]]] = []

        def needed() -> set[RecordId]:
            found: set[RecordId] = set()
            queue = [name for name in own if name not in retired]
            while queue:
                name = queue.pop()
                if name not in found:
                    found.add(name)
                    queue += parts[name]
            return found

        for turn in range(60):
            alive = sorted(needed())
            match chance.randrange(5):
                case 0 | 1:
                    blobs = {bytes([chance.randrange(24)]) for _ in range(chance.randrange(1, 4))}
                    below = chance.sample(alive, min(len(alive), chance.randrange(3)))
                    if chance.random() < 0.5:
                        name = await scene.store(*blobs, parts=below)
                    else:
                        blobs.add(bytes([100 + turn]))
                        name = await scene.store_part(*blobs, parts=below)
                    own[name], parts[name] = blobs, below
                case 2 if alive:
                    chosen = chance.sample(alive, min(len(alive), chance.randrange(1, 4)))
                    _, retire = await scene.retire(*chosen)
                    waiting.append((retire, set(chosen)))
                case 3 if waiting and chance.random() < 0.3:
                    retire, _ = waiting.pop(chance.randrange(len(waiting)))
                    await scene.retire(cancels=[retire])
                case 4:
                    await scene.pass_time()
                    for _, chosen in waiting:
                        retired |= set(chosen)
                    waiting = []
                    kept = needed()
                    assert await scene.held() == set().union(*(own[name] for name in kept))
                case _:
                    pass


@pytest.mark.parametrize("size", [1, 2])
async def test_a_large_run_is_told_in_several_records(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.retiring.STORED_BLOBS_MAX", size)
    monkeypatch.setattr("relay.retiring.RETIRE_RECORDS_MAX", size)
    async with open_scene() as scene:
        names = [await scene.store(bytes([number])) for number in range(5)]
        _, retire = await scene.retire(*names)
        assert await scene.pass_time() == 5
        collected = await scene.collected()
        assert [len(one.blobs) for one in collected] == [size] * (5 // size) + [5 % size] * (5 % size > 0)
        assert [one.retires for one in collected] == [(retire,)] + [()] * (len(collected) - 1)
        assert {name for one in collected for name in one.records} == set(names)
        assert await scene.held() == set()


async def test_an_owner_lets_go_in_a_folder_that_is_full() -> None:
    async with open_relay(None, quota=20_000) as world:
        world.core.grace_s = GRACE_S
        scene = Scene(world, await world.founded())
        old = await scene.store(random.Random(1).randbytes(15_000))
        state = await world.core.log.state(FOLDER)
        assert state is not None
        await scene.talk.upload(random.Random(2).randbytes(state.bytes_max - state.bytes_used - 40))
        outcome, _ = await scene.retire(old)
        assert isinstance(outcome, Appended)


class Interrupted:
    """The relay's log; something comes in once, when the last page of what lists blobs was read."""

    def __init__(self, log: Any, arrive: Callable[[], Awaitable[None]]) -> None:
        self._log, self._arrive = log, [arrive]

    async def read(self, folder: FolderId, start: int, size: int, items: int, kinds: Sequence[RecordKind] = ()) -> Any:
        page = await self._log.read(folder, start, size, items, kinds)
        if not page and tuple(kinds) == KEEPERS and self._arrive:
            await self._arrive.pop()()
        return page

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


async def test_a_record_that_is_stored_again_while_another_is_let_go_of_keeps_its_blobs(directory: Path | None) -> None:
    async with open_scene(directory) as scene:
        part = await scene.store_part(b"1")
        await scene.retire(await scene.store(b"2", parts=[part]), part)
        await scene.pass_time()
        await scene.retire(await scene.store(b"1"))
        await scene.world.core.log.wait(GRACE_S)
        plain = scene.world.core.log

        async def arrive() -> None:
            (outcome,) = await scene.talk.append(stored_part(ANNA, [b"1"]))
            assert isinstance(outcome, Appended) and outcome.receipt

        scene.world.core.log = Interrupted(plain, arrive)  # type: ignore[assignment]
        await carry_out(scene.world.core)
        scene.world.core.log = plain
        assert not (await plain.find(FOLDER, [part]))[part].dead
        assert await scene.held() == {b"1"}
        assert (await check(plain, scene.world.core.chunks)).problems == []
