"""Removal and roles with real processes and a relay. Promises B8, B9."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from meshsync.agent.kept_keys import read_kept
from meshsync.agent.key_ring import keys_from_boxes, merged, with_history
from meshsync.content.seal import BlobKind, unseal_chunk
from meshsync.crypto.folder_keys import FolderKeys
from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import MeshsyncError
from meshsync.ids import BlobId
from meshsync.limits import ENTRY_BATCH_BYTES_MAX, RECORDS_PAGE_BYTES_MAX, RECORDS_PAGE_ITEMS_MAX
from meshsync.metalog.entry import open_entry, parse_entry
from meshsync.metalog.membership import replay
from meshsync.metalog.membership_entry import open_membership
from meshsync.metalog.record_log import LogRecord, RecordKind
from meshsync.runtime import SystemRuntime
from meshsync.store.packs import PackStore
from relay.drivers.sqlite_log import SqliteLog
from tests.support.real_mesh import Device, Mesh, settle, until

pytestmark = pytest.mark.slow
BEFORE, AFTER = b"written before the removal " * 4000, b"written after the removal " * 4000


def health(device: Device) -> list[str]:
    return [item["what"] for item in device.status()["health"]]


def members(device: Device) -> dict[str, dict[str, Any]]:
    """Return who the folder's members are, by name."""
    folder = device.folder()["name"]
    return {one["name"]: one for one in device.cli("members", folder)["members"]}


def blobs(data: Path) -> dict[BlobId, bytes]:
    store = PackStore(data / "chunks")
    try:
        return {name: store.get(name) for name in store.ids()}
    finally:
        store.close()


def records(data: Path) -> list[LogRecord]:
    """Return everything in the log of the relay's one folder."""

    async def read() -> list[LogRecord]:
        runtime = SystemRuntime(threads=2)
        log = SqliteLog(data / "log.sqlite", runtime)
        try:
            (folder,) = await log.folders()
            found: list[LogRecord] = []
            while rows := await log.read(folder, len(found) + 1, RECORDS_PAGE_BYTES_MAX, RECORDS_PAGE_ITEMS_MAX):
                found += [LogRecord(row.kind, row.data) for row in rows]
            return found
        finally:
            await log.close()
            runtime.close()

    return asyncio.run(read())


def opens(keys: FolderKeys, blob: bytes) -> bool:
    """Whether any key opens these bytes as anything."""
    for epoch in keys.epochs:
        for kind in BlobKind:
            try:
                unseal_chunk(keys, epoch, kind, blob, ENTRY_BATCH_BYTES_MAX)
            except MeshsyncError:
                continue
            return True
    return False


def all_keys(rob: Device, log: list[LogRecord]) -> FolderKeys:
    """Return every key that a device can come by: its own file, its boxes in the chain, and what those unwrap."""
    (state,) = (rob.home.path / "folders").iterdir()
    own = DeviceKeys(rob.home.device_key.read_bytes())
    keys = read_kept(state / "keys", own, bytes.fromhex(state.name))
    chain = [open_membership(record.data) for record in log if record.kind == RecordKind.MEMBERSHIP]
    for end in range(1, len(chain) + 1):
        membership = replay(chain[:end], keys.folder)
        with contextlib.suppress(MeshsyncError):  # none for it, or one that its ticket's key opens: that it has
            keys = merged(keys, keys_from_boxes(membership, own.device, own.box_secret))
        keys = with_history(keys, membership)
    return keys


def test_a_removed_device_opens_nothing_new_with_a_copy_of_the_relays_disk(mesh: Mesh, tmp_path: Path) -> None:
    mesh.relay.up()
    anna, ben, rob = mesh.add("laptop", "--person", "Anna"), mesh.add("desk", "--person", "Ben"), mesh.add("phone")
    for newcomer in (ben, rob):
        newcomer.join(anna.share())
    (rob.tree / "before").write_bytes(BEFORE)
    settle([anna, ben, rob], durable=True)
    assert {name: one["person"] for name, one in members(ben).items()} == {"laptop": "Anna", "desk": "Ben", "phone": ""}
    folder = anna.folder()["name"]
    numbers = [
        one.cli("members", folder, "--verify", other)["number"] for one, other in ((anna, "desk"), (ben, "laptop"))
    ]
    assert numbers[0] == numbers[1]
    planned = anna.cli("remove", folder, "phone", "--dry-run")
    assert [one["path"] for one in planned["exposure"]["listed"]] == ["before"]
    mesh.relay.down()
    known = set(blobs(mesh.relay.data))
    mesh.relay.up()
    until(lambda: all(relay["connected"] for relay in anna.status()["relays"]), anna.status)
    settle([anna, ben, rob], durable=True)

    removed = anna.cli("remove", folder, "phone", "--yes")
    assert removed["exposure"] == planned["exposure"] and removed["relays_waiting"] == []
    until(lambda: health(rob) == [f"this device was removed from {folder} by laptop"], lambda: health(rob))
    (anna.tree / "after").write_bytes(AFTER)
    (rob.tree / "forged").write_bytes(b"forged")
    settle([anna, ben], durable=True)
    assert (ben.tree / "after").read_bytes() == AFTER
    assert not (ben.tree / "forged").exists() and not (rob.tree / "after").exists()
    assert (rob.tree / "before").read_bytes() == BEFORE
    assert {one["device"] for one in anna.versions() if one["path"] == "before"} == {"phone"}
    assert [one["name"] for one in anna.cli("devices")["devices"]] == ["desk"]
    rob.down()
    mesh.relay.down()

    stolen = tmp_path / "stolen"
    shutil.copytree(mesh.relay.data, stolen)
    log, held = records(stolen), blobs(stolen)
    keys = all_keys(rob, log)
    assert {opens(keys, data) for name, data in held.items() if name in known} == {True}
    fresh = [data for name, data in held.items() if name not in known]
    assert fresh and not any(opens(keys, data) for data in fresh)
    entries = [open_entry(parse_entry(record.data), keys.folder) for record in log if record.kind == RecordKind.ENTRY]
    epochs = [entry.envelope.epoch in keys.epochs for entry in entries]
    assert epochs == sorted(epochs, reverse=True) and not all(epochs) and any(epochs)
    assert [opens(keys, entry.signed.payload) for entry in entries] == epochs

    rob.up()
    rob.cli("leave", folder, "--yes")
    assert rob.status()["folders"] == [] and (rob.tree / "before").read_bytes() == BEFORE


def test_what_a_reader_changes_reaches_nobody(mesh: Mesh) -> None:
    anna, ben, rob = mesh.pair(["laptop", "desk", "phone"], relay=True)
    (anna.tree / "plan").write_bytes(BEFORE)
    settle([anna, ben, rob], durable=True)
    folder = anna.folder()["name"]
    anna.cli("role", folder, "phone", "reader")
    until(lambda: members(rob)["phone"]["role"] == "reader", lambda: members(rob))
    (rob.tree / "plan").write_bytes(b"forged")
    (rob.tree / "new").write_bytes(b"forged")
    rob.rescan()
    (anna.tree / "more").write_bytes(AFTER)
    settle([anna, ben], durable=True)
    assert (anna.tree / "plan").read_bytes() == (ben.tree / "plan").read_bytes() == BEFORE
    assert not (anna.tree / "new").exists() and not (ben.tree / "new").exists()
    until((rob.tree / "more").exists, rob.status)
    rob.cli("role", folder, "phone", "writer", code=1)
    rob.cli("remove", folder, "laptop", "--yes", code=1)
    assert {name: one["role"] for name, one in members(anna).items()} == {
        "laptop": "owner",
        "desk": "writer",
        "phone": "reader",
    }
    anna.cli("leave", folder, "--yes", code=1)  # the last owner
    assert ben.cli("leave", folder, "--yes")["told"]
    until(lambda: set(members(anna)) == {"laptop", "phone"}, lambda: members(anna))
    assert [one["left"] for one in anna.cli("members", folder)["former"]] == [True]


def test_what_came_after_the_end_of_a_device_is_taken_over(mesh: Mesh) -> None:
    anna, ben, rob = mesh.pair(["laptop", "desk", "phone"], relay=True)
    (anna.tree / "plan").write_bytes(BEFORE)
    settle([anna, ben, rob], durable=True)
    folder = anna.folder()["name"]
    port = anna.port
    anna.down()
    (rob.tree / "late.txt").write_bytes(AFTER)
    settle([ben, rob], durable=True)
    ben.down()
    mesh.relay.down()
    rob.down()
    anna.up(same_port=port > 0)
    anna.cli("remove", folder, "phone", "--yes")
    mesh.relay.up()
    until(lambda: bool(anna.cli("held")["quarantined"]), anna.status)
    (apart,) = anna.cli("held")["quarantined"]
    assert (apart["name"], [one["path"] for one in apart["files"]]) == ("phone", ["late.txt"])
    assert not (anna.tree / "late.txt").exists()
    adopted = anna.cli("adopt", folder, "phone", "--yes")
    assert adopted["files"] == ["late.txt"] and adopted["missing"] == []
    assert (anna.tree / "From phone" / "late.txt").read_bytes() == AFTER
    assert anna.cli("held")["quarantined"] == []
    ben.up()
    settle([anna, ben], durable=True)
    assert (ben.tree / "From phone" / "late.txt").read_bytes() == AFTER
