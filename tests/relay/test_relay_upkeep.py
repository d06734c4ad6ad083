"""Collection, leases and bounds of a relay (`docs/spec/relay.md` 5)."""

from __future__ import annotations

import asyncio

import pytest

from meshsync.crypto.hashing import blob_id
from meshsync.ids import BlobId
from meshsync.limits import RELAY_LEASE_S
from meshsync.wire.relay_messages import Appended, BlobsLost, Follow, LogGrew, MissingBlobs, StoredBlobs
from relay.core import ByteBudget, Gate
from relay.inspect import check
from relay.upkeep import BEGINNING, Upkeep, collect, sweep, verify
from tests.metalog.log_scene import ANNA, FOLDER, entry
from tests.relay.relay_world import RelayWorld, Talk, entry_record, open_relay, stored_record


class LaterClock:
    """The relay's runtime, with the wall clock `ahead_s` seconds ahead."""

    def __init__(self, world: RelayWorld, ahead_s: int) -> None:
        self._runtime, self._ahead_s = world.runtime, ahead_s

    def wall_time_ns(self) -> int:
        return self._runtime.wall_time_ns() + self._ahead_s * 1_000_000_000

    def __getattr__(self, name: str) -> object:
        return getattr(self._runtime, name)


async def test_unclaimed_uploads_are_collected_after_their_lease_and_receipted_ones_never() -> None:
    async with open_relay(None) as world:
        talk = await world.founded()
        version = entry(ANNA)
        await talk.upload(b"kept", b"unclaimed")
        await talk.append(entry_record(version), stored_record(ANNA, version, [b"kept"]))
        assert await collect(world.core) == 0
        world.core.runtime = LaterClock(world, RELAY_LEASE_S + 10)  # type: ignore[assignment]
        assert await collect(world.core) == 1
        ids = [BlobId(blob_id(b"kept")), BlobId(blob_id(b"unclaimed"))]
        assert await world.core.chunks.has(ids) == {ids[0]}
        assert await world.core.log.charged(FOLDER, ANNA.device) == 4 + len(entry_record(version).data) + len(
            stored_record(ANNA, version, [b"kept"]).data
        )


async def test_blobs_that_were_stored_and_never_noted_are_swept() -> None:
    async with open_relay(None) as world:
        talk = await world.founded()
        await talk.upload(b"noted")
        await world.core.chunks.put([(blob_id(b"crashed before the note"), b"crashed before the note")])
        assert await sweep(world.core) == (1, b"")
        assert await world.core.chunks.ids(b"", 10) == [blob_id(b"noted")]


async def test_one_step_of_upkeep_removes_nothing_that_is_leased() -> None:
    async with open_relay(None) as world:
        await (await world.founded()).upload(b"precious")
        upkeep = Upkeep(world.core)
        assert (await upkeep.step()).damaged == () and upkeep.damaged == set()
        assert (await world.core.chunks.usage()).blobs == 1


async def test_after_a_collection_the_missing_are_named_and_taken_again() -> None:
    async with open_relay(None) as world:
        talk = await world.founded()
        version = entry(ANNA)
        await talk.append(entry_record(version))
        await talk.upload(b"doomed")
        world.core.runtime = LaterClock(world, RELAY_LEASE_S + 10)  # type: ignore[assignment]
        await collect(world.core)
        record = stored_record(ANNA, version, [b"doomed"])
        assert await talk.append(record) == [MissingBlobs((blob_id(b"doomed"),))]
        assert await talk.upload(b"doomed") == StoredBlobs(1, ())
        assert isinstance((await talk.append(record))[0], Appended)


async def test_an_offer_of_what_is_here_renews_its_lease() -> None:
    async with open_relay(None) as world:
        talk = await world.founded()
        await talk.upload(b"doomed")
        world.core.runtime = LaterClock(world, RELAY_LEASE_S - 10)  # type: ignore[assignment]
        assert await talk.upload(b"doomed") == StoredBlobs(0, ())
        world.core.runtime = LaterClock(world, RELAY_LEASE_S + 10)  # type: ignore[assignment]
        assert await collect(world.core) == 0


async def test_a_collection_waits_for_uploads_and_holds_off_new_ones() -> None:
    gate, order = Gate(), []

    async def upload(name: str, go: asyncio.Event) -> None:
        async with gate.upload():
            order.append(f"{name} in")
            await go.wait()
            order.append(f"{name} out")

    async def collection() -> None:
        async with gate.collect():
            order.append("collect")

    go, at_once = asyncio.Event(), asyncio.Event()
    at_once.set()
    async with asyncio.TaskGroup() as group:
        group.create_task(upload("first", go))
        await asyncio.sleep(0)
        group.create_task(collection())
        await asyncio.sleep(0)
        group.create_task(upload("second", at_once))
        await asyncio.sleep(0)
        go.set()
    assert order == ["first in", "first out", "collect", "second in", "second out"]


async def test_a_budget_bounds_what_is_held_and_serves_in_order() -> None:
    budget, order = ByteBudget(10), []

    async def hold(size: int) -> None:
        async with budget.take(size):
            order.append(size)
            await asyncio.sleep(0)

    await asyncio.gather(hold(6), hold(8), hold(2), hold(50))
    assert order == [6, 8, 2, 50]


async def test_what_was_promised_and_is_not_there_is_told_to_followers_until_it_is_stored_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("relay.upkeep.RELAY_VERIFY_ITEMS_MAX", 2)
    async with open_relay(None) as world:
        talk, version = await world.founded(), entry(ANNA)
        names = [b"a", b"b", b"c", b"d", b"e"]
        await talk.upload(*names)
        await talk.append(entry_record(version), stored_record(ANNA, version, names))
        upkeep = Upkeep(world.core)
        await upkeep.verify_all()
        assert world.core.losses.of(FOLDER) == []
        follower = await world.attached(ANNA)
        await follower.expect(LogGrew, Follow(0))
        await world.core.chunks.delete([blob_id(b"d"), blob_id(b"b")])
        await upkeep.verify_all()
        told: list[bytes] = []
        while len(told) < 2:
            told += await lost(follower)
        assert sorted(told) == sorted([blob_id(b"d"), blob_id(b"b")])
        assert await talk.upload(b"d") == StoredBlobs(1, ())
        assert world.core.losses.of(FOLDER) == [blob_id(b"b")]
        late = await world.attached(ANNA)
        await late.expect(LogGrew, Follow(0))
        assert await lost(late) == (blob_id(b"b"),)
        await world.core.chunks.delete([blob_id(b"d")])
        await upkeep.verify_all()
        assert await lost(late) == await lost(follower) == (blob_id(b"d"),)


async def lost(follower: Talk) -> tuple[bytes, ...]:
    told = await follower.receive()
    assert isinstance(told, BlobsLost)
    return told.blobs


async def test_a_check_names_what_was_promised_and_is_not_there() -> None:
    async with open_relay(None) as world:
        talk, version = await world.founded(), entry(ANNA)
        await talk.upload(b"a", b"b")
        await talk.append(entry_record(version), stored_record(ANNA, version, [b"a", b"b"]))
        assert (await check(world.core.log, world.core.chunks)).problems == []
        await world.core.chunks.delete([blob_id(b"b")])
        (problem,) = (await check(world.core.log, world.core.chunks)).problems
        assert blob_id(b"b").hex() in problem


async def test_looking_for_what_was_promised_goes_on_where_it_was_and_ends() -> None:
    async with open_relay(None) as world:
        await world.founded()
        assert await verify(world.core, BEGINNING) == BEGINNING
