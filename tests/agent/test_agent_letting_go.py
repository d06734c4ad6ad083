"""Retention: what the policy keeps stays, the rest goes from the relay, and devices know (`docs/guide/versions.md`)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from meshsync.agent import api_schema as api
from meshsync.agent.folder import Folder
from meshsync.agent.history import unpack_content
from meshsync.agent.replica import LISTED_KEY
from meshsync.errors import SourceUnavailable
from meshsync.ids import BlobId
from meshsync.limits import RELAY_GRACE_S, RELAY_LEASE_S
from meshsync.metalog.membership_entry import SetPolicy
from meshsync.metalog.record_log import LogRecord, RecordKind
from meshsync.metalog.retention_policy import RetentionPolicy, pack_policy
from meshsync.metalog.retire import make_collected, make_retire, open_collected
from meshsync.metalog.stored import open_stored
from relay.access import Right
from relay.append import append
from relay.core import RelayCore
from relay.retiring import carry_out
from relay.upkeep import collect, sweep
from tests.promises.test_b21_collection import HastyClock
from tests.support.pairing_mesh import WAIT_S, Device, Mesh, open_mesh


class Scene:
    """A relay, a folder there, and the devices that sync it."""

    def __init__(self, mesh: Mesh, core: RelayCore, devices: Sequence[Device]) -> None:
        self.mesh, self.core, self.devices = mesh, core, devices
        self.clock = HastyClock(core.runtime)
        core.runtime = self.clock  # type: ignore[assignment]

    def folder(self, device: Device) -> Folder:
        (folder,) = device.agent.folders.values()
        return folder

    async def write(self, device: Device, name: str, data: bytes) -> None:
        (device.tree / name).write_bytes(data)
        await self.settled(device)

    async def write_versions(self, device: Device, count: int) -> None:
        """Write so many versions of `notes`, each durable before the next."""
        for number in range(count):
            await self.write(device, "notes", b"version %d" % number)

    async def settled(self, *devices: Device) -> None:
        for device in devices or self.devices:
            await device.service.rescan("")
        for device in devices or self.devices:
            await device.service.wait(api.WaitRequest(durable=True, timeout_s=WAIT_S))

    async def keep(self, device: Device, **seconds: int) -> None:
        """Have the owner `device` set the folder's policy, and its word reach the relay."""
        folder = self.folder(device)
        policy = pack_policy(RetentionPolicy(**seconds))
        number = 1 + (folder.replica.membership.policy.number if folder.replica.membership.policy else 0)
        await folder.replica.change_membership(SetPolicy(number, policy))
        await self.settled()

    async def let_go(self, device: Device) -> int:
        """Have `device` let go of what the policy keeps no longer; return of how many versions, once it read of it."""
        folder = self.folder(device)
        collecting = folder.collecting
        count = collecting.finished.count
        collecting.ask()
        await self.mesh.until(lambda: collecting.finished.count > count)
        (done,) = collecting.done.values()
        if done.problem is not None:
            raise done.problem
        await self.read()
        return done.versions

    async def read(self) -> None:
        """Return once all devices have read all of the relay's log."""
        state = await self.core.log.state(self.folder(self.devices[0]).id)
        assert state is not None
        for device in self.devices:
            reader = self.folder(device).reader(self.core.keys.device)
            await self.mesh.until(lambda reader=reader: reader.cursor.index >= state.index)  # type: ignore[misc]

    async def pass_time(self, seconds: int = RELAY_GRACE_S) -> int:
        """Let the relay run so long, collect, and all devices read of it; return how many blobs it let go of."""
        await self.core.log.wait(seconds)
        freed = await carry_out(self.core)
        self.clock.ahead_s += RELAY_LEASE_S + 1
        await collect(self.core)
        await sweep(self.core)
        self.clock.ahead_s = 0
        await self.read()
        return freed

    async def contents(self, device: Device, name: str) -> list[bytes | None]:
        """Return what `cat` gives of each version of a file, None for what nobody has any more."""
        path = str(device.tree / name)
        rows = (await device.service.log("", path)).versions
        found: list[bytes | None] = []
        for number in range(1, len(rows) + 1):
            try:
                found.append(b"".join([piece async for piece in device.service.cat(path, str(number), "")]))
            except SourceUnavailable:
                found.append(None)
        return found


async def scene(mesh: Mesh, *names: str) -> Scene:
    core = (await mesh.start_relay())._core
    first, *others = [await mesh.start(name) for name in names]
    ticket = (await first.share()).ticket
    for other in others:
        await other.join(ticket)
    return Scene(mesh, core, (first, *others))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshsync.agent.at_keeper.UPLOAD_LOOK_S", 0.2)
    monkeypatch.setattr("meshsync.agent.joining.JOIN_LAN_S", 0.2)  # whoever invited is off
    monkeypatch.setattr("meshsync.agent.at_keeper.UPLOAD_RETRY_S", 0.2)
    monkeypatch.setattr("meshsync.agent.content_pieces.CAT_WAIT_S", 0.2)


async def test_without_a_policy_every_version_stays(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        at = await scene(mesh, "laptop")
        (laptop,) = at.devices
        await at.write_versions(laptop, 3)
        assert await at.let_go(laptop) == 0 and await at.pass_time() == 0


async def test_what_the_policy_keeps_no_longer_goes_from_the_relay_and_the_rest_stays(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        at = await scene(mesh, "laptop", "desk")
        laptop, desk = at.devices
        await at.write(laptop, "other", b"stays as it is")
        await at.write_versions(laptop, 3)
        await at.settled()
        await at.keep(laptop, all_s=0)
        before = set(mesh.relay_blobs.ids())
        assert await at.let_go(laptop) == 2
        assert await at.contents(desk, "notes") == [b"version %d" % number for number in range(3)]
        assert await at.let_go(laptop) == 0  # it waits
        assert await at.pass_time() == 2 and len(before - set(mesh.relay_blobs.ids())) == 2
        assert await at.contents(desk, "notes") == [None, None, b"version 2"]
        for device in at.devices:
            owing = at.folder(device).durability.owing()
            assert owing.not_durable == 0
            assert not at.folder(device).sampler(at.core.keys.device).lost_count
        await at.settled()
        ticket = (await laptop.share()).ticket
        files = laptop.files()
        await mesh.stop(laptop)
        await mesh.stop(desk)
        phone = await mesh.start("phone")
        await phone.join(ticket)
        assert phone.files() == files


async def test_of_files_that_one_record_speaks_of_those_that_are_kept_stay(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        at = await scene(mesh, "laptop", "desk")
        laptop = at.devices[0]
        for number in range(20):
            (laptop.tree / f"file {number}").write_bytes(b"first %d" % number)
        await at.settled()
        for number in range(0, 20, 2):
            (laptop.tree / f"file {number}").write_bytes(b"second %d" % number)
        await at.settled()
        await at.keep(laptop, all_s=0)
        assert await at.let_go(laptop) == 10
        assert await at.pass_time() >= 10
        for device in at.devices:
            assert await at.contents(device, "file 4") == [None, b"second 4"]
            assert await at.contents(device, "file 5") == [b"first 5"]
        assert await at.let_go(laptop) == 0 and await at.pass_time() == 0


async def test_a_record_is_said_again_for_a_version_that_only_a_snapshot_keeps(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        at = await scene(mesh, "laptop")
        (laptop,) = at.devices
        for name in ("kept", "gone"):
            (laptop.tree / name).write_bytes(name.encode())
        await at.settled()
        (laptop.tree / "gone").unlink()
        await at.settled()
        await laptop.service.snapshot(api.SnapshotRequest(name="then"))
        await at.write(laptop, "kept", b"edited")
        await at.keep(laptop, all_s=0)
        assert await at.let_go(laptop) == 1 and await at.pass_time() == 1
        assert await at.contents(laptop, "kept") == [b"kept", b"edited"]


async def test_nothing_that_was_let_go_of_is_brought_again_though_it_lies_here(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        at = await scene(mesh, "laptop", "desk")
        laptop, _ = at.devices
        await at.write(laptop, "notes", b"the first")
        await at.write(laptop, "notes", b"the second")
        await at.write(laptop, "copy", b"the first")
        await at.keep(laptop, all_s=0)
        assert await at.let_go(laptop) == 1
        folder = at.folder(laptop).id
        before = await at.core.log.read(folder, 1, 1 << 30, 1 << 20, [RecordKind.STORED])
        await at.pass_time()
        await at.settled()
        assert await at.core.log.read(folder, 1, 1 << 30, 1 << 20, [RecordKind.STORED]) == before


async def test_an_owner_that_names_records_and_not_their_versions_takes_nothing_away_unseen(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        at = await scene(mesh, "laptop", "desk")
        laptop, desk = at.devices
        await at.write(laptop, "notes", b"the only version")
        await at.settled()
        keeper, folder = at.core.keys.device, at.folder(laptop)
        rows = await at.core.log.read(folder.id, 1, 1 << 30, 1 << 20, [RecordKind.STORED])
        retire = make_retire(
            laptop.agent.keys,
            folder.id,
            membership=folder.replica.membership.head,
            relay=keeper,
            index=1,
            records=tuple(row.id for row in rows),
        )
        await append(at.core, folder.id, laptop.agent.keys.device, Right.UPLOAD, [LogRecord(RecordKind.RETIRE, retire)])
        await at.read()
        await at.pass_time()
        await at.settled()  # it is not durable until it is there again
        assert await at.core.chunks.has([BlobId(blob) for blob in open_stored(rows[0].data, folder.id).blobs])
        files, ticket = desk.files(), (await laptop.share()).ticket
        await mesh.stop(laptop)
        await mesh.stop(desk)
        phone = await mesh.start("phone")
        await phone.join(ticket)
        assert phone.files() == files


async def test_large_files_share_parts_with_what_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshsync.content.manifest_builder.MANIFEST_LIST_ITEMS_MAX", 8)
    chance = random.Random(1)
    data = bytearray(chance.randbytes(6_000_000))
    async with open_mesh(tmp_path) as mesh:
        at = await scene(mesh, "laptop")
        (laptop,) = at.devices
        wanted = []
        for number in range(3):
            data[number * 100 : number * 100 + 4] = b"%04d" % number
            wanted.append(bytes(data))
            await at.write(laptop, "large", wanted[-1])
        assert unpack_content(at.folder(laptop).replica.versions.all(1)[0].content).depth > 1  # in parts
        await at.keep(laptop, all_s=0)
        assert await at.let_go(laptop) == 2
        assert 0 < await at.pass_time() < 10
        assert await at.contents(laptop, "large") == [None, None, wanted[-1]]
        (laptop.tree / "large").write_bytes(wanted[0])  # what was let go of is brought again
        await at.settled()
        laptop_files = laptop.files()
        ticket = (await laptop.share()).ticket
        await mesh.stop(laptop)
        desk = await mesh.start("desk")
        await desk.join(ticket)
        assert desk.files() == laptop_files


async def test_what_a_snapshot_names_stays_and_goes_once_it_is_removed(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        at = await scene(mesh, "laptop")
        (laptop,) = at.devices
        for number in range(4):
            await at.write(laptop, "notes", b"version %d" % number)
            if number == 1:
                await laptop.service.snapshot(api.SnapshotRequest(name="second"))
        (laptop.tree / "notes").unlink()
        await at.settled()
        await at.keep(laptop, all_s=0)
        assert await at.let_go(laptop) == 3 and await at.pass_time() == 3
        assert (await at.contents(laptop, "notes"))[:4] == [None, b"version 1", None, None]
        await laptop.service.snapshot(api.SnapshotRequest(name="second", remove=True))
        await at.settled()
        assert await at.let_go(laptop) == 1 and await at.pass_time() == 1


async def test_a_policy_that_keeps_more_again_takes_back_what_was_not_carried_out(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        at = await scene(mesh, "laptop")
        (laptop,) = at.devices
        await at.write_versions(laptop, 3)
        await at.keep(laptop, all_s=0)
        assert await at.let_go(laptop) == 2
        await at.keep(laptop, all_s=3600)
        assert await at.let_go(laptop) == 0 and await at.pass_time() == 0
        assert await at.contents(laptop, "notes") == [b"version %d" % number for number in range(3)]
        await at.keep(laptop, all_s=0)
        assert await at.let_go(laptop) == 2 and await at.pass_time() == 2


async def test_only_an_owner_lets_go(tmp_path: Path) -> None:
    async with open_mesh(tmp_path) as mesh:
        at = await scene(mesh, "laptop", "desk")
        laptop, desk = at.devices
        await at.write_versions(desk, 3)
        await at.settled()
        await at.keep(laptop, all_s=0)
        assert await at.let_go(desk) == 0
        assert await at.let_go(laptop) == 2


async def test_a_relay_that_lets_go_of_what_nobody_gave_up_is_brought_it_again(tmp_path: Path) -> None:
    """It says so in its log, as if an owner had wanted it: nobody falls for that."""
    async with open_mesh(tmp_path) as mesh:
        at = await scene(mesh, "laptop")
        (laptop,) = at.devices
        await at.write(laptop, "notes", b"the first")
        await at.write(laptop, "notes", b"the second")
        await at.keep(laptop, all_s=0)
        await at.let_go(laptop)
        folder = at.folder(laptop)
        blobs = tuple(BlobId(blob) for blob in mesh.relay_blobs.ids())
        honest = make_collected

        def lie(*given: object) -> bytes:
            keys, name, retires, records, _ = given
            return honest(keys, name, retires, records, blobs)  # type: ignore[arg-type]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("relay.retiring.make_collected", lie)
            await at.pass_time()
        for blob in blobs:
            mesh.relay_blobs.delete([blob])
        (row,) = await at.core.log.read(folder.id, 1, 1 << 30, 9, [RecordKind.COLLECTED])
        assert set(open_collected(row.data, folder.id).blobs) == set(blobs)
        sampler = folder.sampler(at.core.keys.device)
        await mesh.until(lambda: sampler.lost_count > 0)
        await mesh.until(lambda: not sampler.owed())
        await at.settled()
        files, ticket = laptop.files(), (await laptop.share()).ticket
        await mesh.stop(laptop)
        phone = await mesh.start("phone")
        await phone.join(ticket)
        assert phone.files() == files


async def test_a_newcomer_that_reads_of_it_all_at_once_knows_what_the_relay_keeps(tmp_path: Path) -> None:
    """What shares a stored record with what goes is recorded once more before: there, and in the same page."""
    async with open_mesh(tmp_path) as mesh:
        at = await scene(mesh, "laptop")
        (laptop,) = at.devices
        for name in ("stays", "too"):
            (laptop.tree / name).write_bytes(name.encode() * 1000)
        await at.write(laptop, "notes", b"first")
        await at.keep(laptop, all_s=0)
        await at.write(laptop, "notes", b"second")
        assert await at.let_go(laptop) == 1
        await at.pass_time()
        ticket = (await laptop.share()).ticket
        desk = await mesh.start("desk")
        await desk.join(ticket)
        both = Scene(mesh, at.core, (laptop, desk))
        await both.read()
        want = both.folder(laptop).replica.versions
        known = both.folder(desk).replica.versions
        dots = [row.dot for row in want.all(100)]
        assert len(dots) == 4
        assert known.lacking(dots) == want.lacking(dots)
        assert len(known.lacking(dots)) == 1


async def test_over_a_restart_nothing_is_owed_that_was_let_go_of(tmp_path: Path) -> None:
    """While the log is read again, as after a crash, each version shows for a moment."""
    async with open_mesh(tmp_path) as mesh:
        at = await scene(mesh, "laptop", "desk")
        laptop, desk = at.devices
        await at.keep(laptop, all_s=0)
        await at.write_versions(laptop, 3)
        await at.settled()
        assert await at.let_go(laptop) == 2
        await at.pass_time()
        await mesh.stop(laptop)
        at.folder(desk).replica.meta.set(LISTED_KEY, bytes(8))
        desk = await mesh.restart(desk)
        owing = at.folder(desk).durability.owing()
        assert (owing.not_durable, owing.not_kept) == (0, 2)
