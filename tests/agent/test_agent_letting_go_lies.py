"""Relays and owners that say what is not so about letting go, and what is needed again after it (B12, B22)."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest

from meshsync.agent import api_schema as api
from meshsync.agent.history import unpack_content
from meshsync.ids import BlobId, FolderId, RecordId
from meshsync.index.retire_rows import RetireState
from meshsync.index.version_rows import LET_GO
from meshsync.metalog.record_log import LogRecord, RecordKind, next_head, record_id
from meshsync.metalog.retire import make_retire, open_retire
from meshsync.metalog.stored import StoredRecord, open_stored
from relay.access import Right
from relay.append import append
from relay.drivers.base import LetGo, Row
from relay.retiring import _record
from relay.sequencer import FolderView
from tests.agent.test_agent_letting_go import Scene, _quick, scene  # noqa: F401
from tests.support.pairing_mesh import open_mesh


async def say_collected(
    at: Scene, folder: FolderId, retires: Sequence[RecordId], records: Collection[RecordId], blobs: Collection[BlobId]
) -> None:
    """Have the relay sign that it let go of these."""
    async with at.core.views.turn(folder):
        view = await at.core.views.get(folder)
        assert view is not None
        rows, view = _record(at.core, view, retires, sorted(records), sorted(blobs))
        assert await at.core.log.append(folder, rows[0].index - 1, rows, (), LetGo()) is None
        at.core.views.remember(view)
        at.core.grew(folder, view.index)
    await at.read()


async def say_anything(at: Scene, folder: FolderId, kind: RecordKind, data: bytes) -> None:
    """Have the relay put a record into its log that nobody signed."""
    async with at.core.views.turn(folder):
        view = await at.core.views.get(folder)
        assert view is not None
        name = record_id(LogRecord(kind, data))
        row = Row(view.index + 1, name, kind, data, next_head(view.head, name))
        assert await at.core.log.append(folder, view.index, [row], (), LetGo()) is None
        at.core.views.remember(FolderView(folder, row.index, row.head, view.membership))


async def stored_in(at: Scene, folder: FolderId) -> dict[RecordId, StoredRecord]:
    rows = await at.core.log.read(folder, 1, 1 << 30, 1 << 20, [RecordKind.STORED])
    return {row.id: open_stored(row.data, folder) for row in rows}


async def test_a_relay_drops_parts_of_what_shows_because_an_owner_once_named_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshsync.content.manifest_builder.MANIFEST_LIST_ITEMS_MAX", 8)
    data, versions = bytearray(random.Random(1).randbytes(3_000_000)), []
    async with open_mesh(tmp_path) as mesh:
        at = await scene(mesh, "laptop")
        (laptop,) = at.devices
        for number in range(2):
            data[number * 100 : number * 100 + 4] = b"%04d" % number
            versions.append(bytes(data))
            await at.write(laptop, "large", versions[-1])
        await at.keep(laptop, all_s=0)
        assert await at.let_go(laptop) == 1
        await at.write(laptop, "large", versions[0])  # needed again: an honest relay keeps its parts now
        folder = at.folder(laptop).id
        stored = await stored_in(at, folder)
        (retire,) = await at.core.log.read(folder, 1, 1 << 30, 1 << 20, [RecordKind.RETIRE])
        named = {RecordId(name) for name in open_retire(retire.data, folder).records}
        others = {blob for name, one in stored.items() if name not in named for blob in one.blobs}
        blobs = {BlobId(blob) for name in named for blob in stored[name].blobs} - others
        assert blobs
        await say_collected(at, folder, [retire.id], named, blobs)
        mesh.relay_blobs.delete(sorted(blobs))
        await at.settled()
        sampler = at.folder(laptop).sampler(at.core.keys.device)
        await mesh.until(lambda: sampler.lost_count == len(blobs) and not sampler.owed())
        assert await at.core.chunks.has(sorted(blobs)) == blobs


async def test_a_relay_carries_out_what_was_taken_back(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        at = await scene(mesh, "laptop")
        (laptop,) = at.devices
        await at.write_versions(laptop, 3)
        await at.keep(laptop, all_s=0)
        assert await at.let_go(laptop) == 2
        await at.keep(laptop, all_s=3600)
        assert await at.let_go(laptop) == 0
        folder, keeper = at.folder(laptop), at.core.keys.device
        rows = folder.retired(keeper).rows
        row = rows.all(keeper)[0]
        stored = await stored_in(at, folder.id)
        named = [RecordId(name) for name in open_retire(row.data, folder.id).records]
        blobs = [BlobId(blob) for name in named for blob in stored[name].blobs]
        await say_collected(at, folder.id, [row.id], [], [])
        mesh.relay_blobs.delete(blobs)
        await say_collected(at, folder.id, [row.id], named, blobs)
        assert rows.all(keeper)[0].state is RetireState.CANCELLED
        sampler = folder.sampler(keeper)
        await mesh.until(lambda: sampler.lost_count == len(blobs))
        assert folder.replica.database.execute("SELECT count(*) FROM unstored WHERE gone = ?", (LET_GO,)) == [(0,)]


async def test_a_record_that_nobody_signed_hides_none_after_it(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        at = await scene(mesh, "laptop")
        (laptop,) = at.devices
        await at.write_versions(laptop, 3)
        await at.keep(laptop, all_s=0)
        assert await at.let_go(laptop) == 2
        await at.keep(laptop, all_s=3600)
        folder, keeper = at.folder(laptop), at.core.keys.device
        await say_anything(at, folder.id, RecordKind.RETIRE, b"nothing that anybody signed")
        await at.let_go(laptop)
        assert folder.retired(keeper).rows.all(keeper)[0].state is RetireState.CANCELLED


@pytest.mark.parametrize("size", [20_000, 1])
async def test_what_went_is_told_in_several_records(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One is full with 20,000 stored records."""
    async with open_mesh(tmp_path) as mesh:
        at = await scene(mesh, "laptop")
        (laptop,) = at.devices
        await at.write_versions(laptop, 4)
        await at.keep(laptop, all_s=0)
        assert await at.let_go(laptop) == 3
        monkeypatch.setattr("relay.retiring.RETIRE_RECORDS_MAX", size)
        await at.pass_time()
        database = at.folder(laptop).replica.database
        assert database.execute("SELECT gone FROM unstored") == [(LET_GO,)] * 3
        assert not [record for record in caplog.records if "nobody gave up" in record.message]


async def test_a_stolen_owners_key_names_records_and_none_of_their_versions(tmp_path: Path) -> None:
    """The owner's devices see how much goes, and take it back."""
    async with open_mesh(tmp_path) as mesh:
        at = await scene(mesh, "laptop")
        (laptop,) = at.devices
        for number in range(4):
            await at.write(laptop, "notes", b"version %d" % number)
            if number == 1:
                await laptop.service.snapshot(api.SnapshotRequest(name="second"))
        keeper, folder = at.core.keys.device, at.folder(laptop)
        state = await at.core.log.state(folder.id)
        assert state is not None
        retire = make_retire(
            laptop.agent.keys,
            folder.id,
            membership=folder.replica.membership.head,
            relay=keeper,
            index=state.index,
            records=tuple(await stored_in(at, folder.id)),
        )
        record = LogRecord(int(RecordKind.RETIRE), retire)
        await append(at.core, folder.id, laptop.agent.keys.device, Right.UPLOAD, [record])
        await at.read()
        (waiting,) = (await laptop.service.retention("")).folders[0].waiting
        assert waiting.versions == 4
        assert await at.let_go(laptop) == 0
        await at.pass_time()
        assert await at.contents(laptop, "notes") == [b"version %d" % number for number in range(4)]


async def test_what_a_relay_turns_out_to_lack_while_it_is_told_to_let_go_is_brought_again(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        at = await scene(mesh, "laptop")
        (laptop,) = at.devices
        for number in range(10):
            (laptop.tree / f"file {number}").write_bytes(b"first %d" % number)
        await at.settled()
        await at.write(laptop, "file 0", b"second")
        await at.keep(laptop, all_s=0)
        folder, keeper = at.folder(laptop), at.core.keys.device
        (row,) = [row for row in folder.replica.versions.all(99) if row.path == b"file 5"]
        chunk = unpack_content(row.content).root
        blob = folder.chunk_rows.blobs(keeper, [chunk])[chunk].blob
        mesh.relay_blobs.delete([blob])
        folder.collecting.ask()
        await mesh.until(lambda: bool(folder.collecting.done))
        assert "had acknowledged" in str(folder.collecting.done[keeper].problem)
        sampler = folder.sampler(keeper)
        await mesh.until(lambda: sampler.lost_count == 1 and not sampler.owed())
        assert await at.core.chunks.has([blob]) == {blob}
        assert await at.let_go(laptop) == 1


async def test_what_shows_again_because_a_member_comes_back_is_stored_again(tmp_path: Path) -> None:
    """It had renamed what others deleted, and let go of, since."""
    async with open_mesh(tmp_path) as mesh:
        at = await scene(mesh, "laptop", "desk")
        laptop, desk = at.devices
        await at.write(laptop, "plan", b"months of work")
        await at.settled()
        await at.keep(laptop, all_s=0)
        await desk.service.pause("")
        desk = await mesh.restart(desk, on_lan=False)
        one, two = at.folder(laptop), next(iter(desk.agent.folders.values()))
        (desk.tree / "plan").rename(desk.tree / "renamed")
        await desk.service.rescan("")
        await mesh.until(lambda: two.replica.view.resolve((b"renamed",)) is not None)
        (laptop.tree / "plan").unlink()
        at.devices = (laptop,)
        await at.settled()
        assert await at.let_go(laptop) == 1
        assert await at.pass_time() == 1
        assert not list(mesh.relay_blobs.ids())
        await desk.service.resume("")
        at.devices = (laptop, desk)
        await mesh.until(lambda: laptop.files() == {"renamed": b"months of work"} == desk.files())
        await at.settled()
        assert len(list(mesh.relay_blobs.ids())) == 1
        assert one.durability.owing().not_kept == 0
