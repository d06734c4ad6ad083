"""Which chain a device extends after a restart, after a restore, after a start of the system (decision 0004)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshsync.agent.founding import found_folder
from meshsync.agent.index_mark import IndexMark, index_mark
from meshsync.agent.key_ring import unpack_keys
from meshsync.agent.replica import Replica
from meshsync.content.record import Content, Kind, Put
from meshsync.crypto.identity import DeviceKeys
from meshsync.ids import ROOT
from meshsync.index.database import Database
from meshsync.index.log_rows import LogRows
from meshsync.metalog.entry import OpenedEntry
from meshsync.metalog.membership_entry import open_membership
from meshsync.runtime import SystemRuntime

OWN = DeviceKeys(b"o" * 64)
MARK = IndexMark(b"place", b"boot")
OTHER_PLACE, OTHER_BOOT = MARK._replace(place=b"copy"), MARK._replace(boot=b"later")


class Device:
    """One device's replica, opened again and again on the same index."""

    def __init__(self, path: Path) -> None:
        self.runtime = SystemRuntime(threads=1)
        (path / "root").mkdir()
        found_folder(self.runtime, path, OWN, path / "root", "docs", "own")
        self._state = next((path / "folders").iterdir())

    def start(self, mark: IndexMark) -> Replica:
        database = Database(self._state / "index.sqlite3")
        membership = [open_membership(data) for data in LogRows(database).membership()]
        keys = unpack_keys((self._state / "keys").read_bytes())
        replica = Replica(self.runtime, database, OWN, membership, keys, self._state / "keys")
        replica.load(mark)
        return replica


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    made = Device(tmp_path)
    yield made
    made.runtime.close()


async def publish(replica: Replica, name: bytes) -> OpenedEntry:
    put = Put(None, Content(Kind.DIRECTORY), False, 0, (), ROOT, name, (name,))
    entry = await replica.append(lambda chain, seq: [put], lambda entry: None)
    assert entry is not None
    return entry


@pytest.mark.parametrize(
    ("mark", "confirmed", "goes_on"),
    [
        (MARK, False, True),
        (OTHER_PLACE, False, False),
        (OTHER_PLACE, True, False),
        (OTHER_BOOT, False, False),
        (OTHER_BOOT, True, True),
    ],
)
async def test_a_chain_goes_on_only_where_its_newest_entry_is_certain(
    device: Device, mark: IndexMark, confirmed: bool, goes_on: bool
) -> None:
    first = device.start(MARK)
    before = await publish(first, b"before")
    first.database.close()
    replica = device.start(mark)
    if confirmed:
        replica.confirm_own([before.head])
    after, later = await publish(replica, b"after"), await publish(replica, b"later")
    assert (after.chain == before.chain) is goes_on
    assert later.chain == after.chain and later.envelope.seq == after.envelope.seq + 1
    assert {path[0] for path, _ in replica.view.walk()} == {b"before", b"after", b"later"}
    assert replica.alarms == []
    replica.database.close()


async def test_heads_that_lack_the_newest_entry_confirm_nothing(device: Device) -> None:
    first = device.start(MARK)
    before = await publish(first, b"before")
    await publish(first, b"unknown to the member")
    first.database.close()
    replica = device.start(OTHER_BOOT)
    replica.confirm_own([before.head])
    assert (await publish(replica, b"after")).chain != before.chain
    replica.database.close()


def test_a_copy_of_an_index_has_another_mark(tmp_path: Path) -> None:
    index = tmp_path / "index"
    index.write_bytes(b"x")
    before = index_mark(index)
    index.write_bytes(b"more")
    assert index_mark(index) == before
    shutil.copy2(index, tmp_path / "copy")
    assert index_mark(tmp_path / "copy").place != before.place
    assert index_mark(tmp_path / "copy").boot == before.boot
