"""What every `MetadataLog`, `ChunkStore` and `HintBus` of a relay does (`relay/drivers/base.py`)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from meshsync.crypto.hashing import blob_id
from meshsync.errors import BlobCorrupt, FormatUnsupported
from meshsync.ids import BlobId, DeviceId, FolderId, RecordId
from meshsync.metalog.record_log import RecordKind
from meshsync.runtime import SystemRuntime
from meshsync.store.memory import MemoryStore
from meshsync.store.packs import PackStore
from relay.drivers.base import (
    ChunkStore,
    FolderState,
    Known,
    LetGo,
    MetadataLog,
    Moved,
    NotHeld,
    OpenRetire,
    OverQuota,
    Place,
    Row,
)
from relay.drivers.hints import LocalHints
from relay.drivers.memory import MemoryLog
from relay.drivers.packs import ThreadedChunkStore
from relay.drivers.sqlite_log import SqliteLog

FOLDER, OTHER = FolderId(b"f" * 32), FolderId(b"g" * 32)
ANNA, BEN = DeviceId(b"a" * 32), DeviceId(b"b" * 32)


def row(index: int, kind: int = 1, data: bytes = b"data", place: Place | None = None) -> Row:
    return Row(index, RecordId(bytes([index]) * 32), kind, data, bytes([100 + index]) * 32, place)


def blob(number: int) -> BlobId:
    return BlobId(bytes([number]) * 32)


@pytest.fixture(params=["sqlite", "memory"])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MetadataLog]:
    runtime = SystemRuntime()
    made: MetadataLog = SqliteLog(tmp_path / "log.sqlite", runtime) if request.param == "sqlite" else MemoryLog()
    assert await made.create_folder(FOLDER, ANNA, 1000, row(1, kind=3))
    yield made
    await made.close()
    runtime.close()


class TestLog:
    async def test_a_folder_is_created_once(self, log: MetadataLog) -> None:
        assert not await log.create_folder(FOLDER, BEN, 5, row(1, data=b"other"))
        assert await log.folders() == [FOLDER]
        assert await log.state(FOLDER) == FolderState(1, row(1).head, 0, 1000)
        assert await log.state(OTHER) is None

    async def test_append_compares(self, log: MetadataLog) -> None:
        assert await log.append(FOLDER, 1, [row(2), row(3)]) is None
        assert await log.append(FOLDER, 1, [row(2)]) == Moved(3)
        assert await log.append(FOLDER, 4, [row(5)]) == Moved(3)
        state = await log.state(FOLDER)
        assert state is not None and (state.index, state.head) == (3, row(3).head)

    async def test_of_concurrent_appends_one_wins(self, log: MetadataLog) -> None:
        answers = await asyncio.gather(*(log.append(FOLDER, 1, [row(2)]) for _ in range(20)))
        assert sorted(answers, key=str) == [Moved(2)] * 19 + [None]

    async def test_retire_records_wait_until_they_are_over(self, log: MetadataLog) -> None:
        two, three = replace(row(2, RecordKind.RETIRE), wait_s=10), replace(row(3, RecordKind.RETIRE), wait_s=30)
        await log.append(FOLDER, 1, [two, three])
        assert await log.retires(FOLDER) == [OpenRetire(two.id, 10), OpenRetire(three.id, 30)]
        await log.wait(20)
        assert await log.retires(FOLDER) == [OpenRetire(two.id, 0), OpenRetire(three.id, 10)]
        await log.append(FOLDER, 3, [row(4)], (), LetGo(retires=(two.id,)))
        assert await log.retires(FOLDER) == [OpenRetire(three.id, 10)] and await log.retires(OTHER) == []

    async def test_what_is_let_go_of_is_not_pinned_any_more_and_comes_alive_again(self, log: MetadataLog) -> None:
        await log.add_blobs(FOLDER, ANNA, {blob(1): 5, blob(2): 5}, leased_until_s=0)
        await log.append(FOLDER, 1, [row(2, RecordKind.STORED)], [blob(1), blob(2)])
        let_go = LetGo(records=(row(2).id,), blobs=(blob(1), blob(9)))
        await log.append(FOLDER, 2, [row(3)], (), let_go)
        assert await log.find(FOLDER, [row(2).id]) == {row(2).id: Known(2, RecordKind.STORED, None, dead=True)}
        assert await log.pinned(FOLDER, b"", 9) == [blob(2)] and await log.unleased(FOLDER, 1, 9) == [blob(1)]
        await log.append(FOLDER, 3, [row(4)], [blob(1)], revived=[row(2).id])
        assert not (await log.find(FOLDER, [row(2).id]))[row(2).id].dead
        assert await log.pinned(FOLDER, b"", 9) == [blob(1), blob(2)]

    async def test_nothing_is_let_go_of_where_the_log_has_moved(self, log: MetadataLog) -> None:
        await log.add_blobs(FOLDER, ANNA, {blob(1): 5}, leased_until_s=0)
        retire = replace(row(2, RecordKind.RETIRE), wait_s=10)
        await log.append(FOLDER, 1, [retire], [blob(1)])
        assert await log.append(FOLDER, 1, [row(2)], (), LetGo((retire.id,), (row(1).id,), (blob(1),))) == Moved(2)
        assert await log.append(FOLDER, 2, [row(3)], [blob(7)], LetGo((retire.id,), (), (blob(1),))) == NotHeld(
            (blob(7),)
        )
        assert await log.retires(FOLDER) == [OpenRetire(retire.id, 10)]
        assert await log.pinned(FOLDER, b"", 9) == [blob(1)]

    async def test_pages_are_bounded_and_never_empty_before_the_end(self, log: MetadataLog) -> None:
        rows = [row(index, data=bytes(100)) for index in range(2, 8)]
        await log.append(FOLDER, 1, rows)
        assert await log.read(FOLDER, 2, bytes_max=250, items_max=10) == rows[:2]
        assert await log.read(FOLDER, 4, bytes_max=1, items_max=10) == [rows[2]]
        assert await log.read(FOLDER, 2, bytes_max=10_000, items_max=3) == rows[:3]
        assert await log.read(FOLDER, 8, bytes_max=10_000, items_max=3) == []
        assert await log.read(OTHER, 1, bytes_max=10_000, items_max=3) == []

    async def test_pages_of_some_kinds(self, log: MetadataLog) -> None:
        rows = [row(index, kind=index % 2) for index in range(2, 8)]
        await log.append(FOLDER, 1, rows)
        assert await log.read(FOLDER, 2, 10_000, 10, [1]) == [rows[1], rows[3], rows[5]]
        assert await log.read(FOLDER, 4, 5, 10, [1, 9]) == [rows[3]]

    async def test_folders_are_found_by_whom_they_enrolled(self, log: MetadataLog) -> None:
        await log.create_folder(OTHER, ANNA, 1000, row(1))
        sheet = DeviceId(b"s" * 32)
        await log.append(FOLDER, 1, [Row(2, RecordId(b"2" * 32), 3, b"data", b"h" * 32, None, sheet), row(3)])
        await log.append(OTHER, 1, [Row(2, RecordId(b"2" * 32), 3, b"data", b"h" * 32, None, sheet)])
        await log.append(OTHER, 2, [Row(3, RecordId(b"3" * 32), 3, b"again", b"h" * 32, None, sheet)])
        assert await log.enrolled(sheet, b"", 10) == [FOLDER, OTHER]
        assert await log.enrolled(sheet, b"", 1) == [FOLDER]
        assert await log.enrolled(sheet, FOLDER, 10) == [OTHER]
        assert await log.enrolled(ANNA, b"", 10) == []

    async def test_records_are_found_by_id_and_entries_by_place(self, log: MetadataLog) -> None:
        entry = row(2, place=Place(ANNA, b"c" * 32, 1))
        await log.append(FOLDER, 1, [entry, row(3, kind=2, place=Place(BEN, b"", 0))])
        found = await log.find(FOLDER, [row(1).id, entry.id, row(9).id])
        assert found == {row(1).id: Known(1, 3, None), entry.id: Known(2, 1, entry.place)}
        assert await log.find(OTHER, [entry.id]) == {}
        assert await log.places(FOLDER, [(b"c" * 32, 1), (b"c" * 32, 2), (b"", 0)]) == {(b"c" * 32, 1)}

    async def test_records_are_charged_to_their_author_within_the_quota(self, log: MetadataLog) -> None:
        heavy = row(2, data=bytes(600), place=Place(BEN, b"c" * 32, 1))
        assert await log.append(FOLDER, 1, [heavy]) is None
        assert await log.append(FOLDER, 2, [row(3, data=bytes(401), place=heavy.place)]) == OverQuota(400)
        assert await log.append(FOLDER, 2, [row(3, data=bytes(401))]) is None  # nobody's: membership, receipts
        assert await log.charged(FOLDER, BEN) == 600
        state = await log.state(FOLDER)
        assert state is not None and state.bytes_used == 600


class TestBlobs:
    async def test_blobs_belong_to_one_folder_and_are_charged_once(self, log: MetadataLog) -> None:
        assert await log.add_blobs(FOLDER, ANNA, {blob(1): 10, blob(2): 20}, 100) is None
        assert await log.add_blobs(FOLDER, BEN, {blob(2): 20, blob(3): 5}, 100) is None
        assert await log.blobs(FOLDER, [blob(1), blob(2), blob(9)]) == {blob(1): 10, blob(2): 20}
        assert await log.blobs(OTHER, [blob(1)]) == {}
        assert (await log.charged(FOLDER, ANNA), await log.charged(FOLDER, BEN)) == (30, 5)

    async def test_beyond_the_quota_nothing_is_noted(self, log: MetadataLog) -> None:
        assert await log.add_blobs(FOLDER, ANNA, {blob(1): 600, blob(2): 500}, 100) == OverQuota(1000)
        assert await log.blobs(FOLDER, [blob(1), blob(2)]) == {}

    async def test_leases_and_pins_keep_blobs_and_the_rest_is_given_back(self, log: MetadataLog) -> None:
        await log.add_blobs(FOLDER, ANNA, {blob(n): 10 for n in range(1, 5)}, 100)
        await log.lease(FOLDER, [blob(1), blob(9)], 200)
        assert await log.append(FOLDER, 1, [row(2)], [blob(2)]) is None
        assert await log.pinned(FOLDER, b"", 10) == [blob(2)]
        assert await log.pinned(FOLDER, blob(2), 10) == await log.pinned(OTHER, b"", 10) == []
        assert sorted(await log.unleased(FOLDER, 150, 10)) == [blob(3), blob(4)]
        assert len(await log.unleased(FOLDER, 150, 1)) == 1
        everything = [blob(n) for n in range(1, 6)]
        assert sorted(await log.drop_blobs(FOLDER, everything, 150)) == [blob(3), blob(4)]
        assert await log.blobs(FOLDER, everything) == {blob(1): 10, blob(2): 10}
        assert await log.charged(FOLDER, ANNA) == 20

    async def test_a_lease_is_never_shortened(self, log: MetadataLog) -> None:
        await log.add_blobs(FOLDER, ANNA, {blob(1): 10}, 200)
        await log.lease(FOLDER, [blob(1)], 100)
        assert await log.unleased(FOLDER, 150, 10) == []

    async def test_a_blob_of_two_folders_is_nobodys_only_when_both_let_go(self, log: MetadataLog) -> None:
        await log.create_folder(OTHER, BEN, 1000, row(1))
        for folder in (FOLDER, OTHER):
            await log.add_blobs(folder, ANNA, {blob(1): 10}, 100)
        assert await log.drop_blobs(FOLDER, [blob(1)], 150) == []
        assert await log.drop_blobs(OTHER, [blob(1)], 150) == [blob(1)]

    async def test_blobs_of_any_folder_are_claimed(self, log: MetadataLog) -> None:
        await log.create_folder(OTHER, BEN, 1000, row(1))
        await log.add_blobs(FOLDER, ANNA, {blob(1): 10}, 100)
        await log.add_blobs(OTHER, ANNA, {blob(2): 10}, 100)
        assert await log.claimed([blob(1), blob(2), blob(3)]) == {blob(1), blob(2)}

    async def test_what_is_not_held_cannot_be_pinned(self, log: MetadataLog) -> None:
        await log.add_blobs(FOLDER, ANNA, {blob(1): 10}, 100)
        assert await log.append(FOLDER, 1, [row(2)], [blob(1), blob(2)]) == NotHeld((blob(2),))
        state = await log.state(FOLDER)
        assert state is not None and state.index == 1


async def test_a_log_survives_a_restart(tmp_path: Path) -> None:
    runtime = SystemRuntime()
    first = SqliteLog(tmp_path / "log.sqlite", runtime)
    await first.create_folder(FOLDER, ANNA, 1000, row(1))
    await first.append(FOLDER, 1, [row(2)])
    await first.close()
    second = SqliteLog(tmp_path / "log.sqlite", runtime)
    assert await second.read(FOLDER, 1, 1000, 10) == [row(1), row(2)]
    await second.close()
    runtime.close()


BEFORE_RETIRES = "DROP TABLE retires; ALTER TABLE records DROP COLUMN dead; PRAGMA user_version = 2;"
BEFORE_ENROLMENTS = f"{BEFORE_RETIRES} DROP TABLE enrolled; PRAGMA user_version = 1;"


@pytest.mark.parametrize("older", [BEFORE_RETIRES, BEFORE_ENROLMENTS])
async def test_a_log_of_an_older_build_is_opened_and_keeps_what_it_holds(tmp_path: Path, older: str) -> None:
    runtime = SystemRuntime()
    log = SqliteLog(tmp_path / "log.sqlite", runtime)
    await log.create_folder(FOLDER, ANNA, 1000, row(1))
    await log.close()
    with sqlite3.connect(tmp_path / "log.sqlite") as db:
        db.executescript(older)
    db.close()
    log = SqliteLog(tmp_path / "log.sqlite", runtime)
    assert await log.folders() == [FOLDER] and await log.enrolled(BEN, b"", 9) == []
    await log.append(FOLDER, 1, [Row(2, RecordId(b"2" * 32), 3, b"data", b"h" * 32, None, BEN)])
    assert await log.enrolled(BEN, b"", 9) == [FOLDER]
    await log.append(FOLDER, 2, [row(3, RecordKind.RETIRE)], (), LetGo(records=(row(1).id,)))
    assert await log.retires(FOLDER) == [OpenRetire(row(3).id, 0)]
    assert (await log.find(FOLDER, [row(1).id]))[row(1).id].dead
    await log.close()
    runtime.close()


async def test_a_log_of_another_schema_is_refused(tmp_path: Path) -> None:
    runtime = SystemRuntime()
    log = SqliteLog(tmp_path / "log.sqlite", runtime)
    log._writer.execute("PRAGMA user_version = 99")
    await log.close()
    with pytest.raises(FormatUnsupported):
        SqliteLog(tmp_path / "log.sqlite", runtime)
    runtime.close()


@pytest.fixture(params=["packs", "memory"])
async def chunks(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ChunkStore]:
    runtime = SystemRuntime()
    store = PackStore(tmp_path / "chunks") if request.param == "packs" else MemoryStore()
    made = ThreadedChunkStore(store, runtime)
    yield made
    await made.close()
    runtime.close()


class TestChunks:
    async def test_concurrent_puts_are_all_stored(self, chunks: ChunkStore) -> None:
        data = [bytes([n]) * 100 for n in range(50)]
        await asyncio.gather(*(chunks.put([(blob_id(one), one)]) for one in data))
        assert await chunks.has([blob_id(one) for one in data]) == {blob_id(one) for one in data}
        assert await chunks.get(blob_id(data[7])) == data[7]
        assert (await chunks.usage()).blobs == 50
        assert (await chunks.scrub(1 << 20)).damaged == ()

    async def test_ids_come_in_pages(self, chunks: ChunkStore) -> None:
        data = [bytes([n]) for n in range(9)]
        await chunks.put([(blob_id(one), one) for one in data])
        ids = sorted(blob_id(one) for one in data)
        assert await chunks.ids(b"", 5) == ids[:5]
        assert await chunks.ids(ids[4], 5) == ids[5:]
        await chunks.delete(ids)
        await chunks.compact(10)
        assert await chunks.ids(b"", 5) == []

    async def test_wrong_bytes_are_refused(self, chunks: ChunkStore) -> None:
        with pytest.raises(BlobCorrupt):
            await chunks.put([(blob_id(b"honest"), b"junk")])
        await chunks.put([(blob_id(b"honest"), b"honest")])
        await chunks.delete([blob_id(b"honest")])
        assert await chunks.has([blob_id(b"honest")]) == set()


class TestHints:
    async def test_a_follower_sees_the_newest_index_of_its_folder(self) -> None:
        bus = LocalHints()
        stream = bus.follow(FOLDER)
        for index in range(100):
            bus.publish(FOLDER, index)
        bus.publish(OTHER, 500)
        assert await stream.next() == 99
        stream.close()
        bus.publish(FOLDER, 100)
        assert await stream.next() is None
