"""Which chain a device extends after a restart, after a restore, after a start of the system (decision 0004)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshsync.agent.founding import found_folder
from meshsync.agent.index_mark import NOTE_NAME, IndexMark, Since, index_mark, note_closed, note_opened
from meshsync.agent.kept_keys import read_kept
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
CUT_OFF, CHANGED = MARK._replace(since=Since.CUT_OFF), MARK._replace(since=Since.CHANGED)
OTHER_PLACE, OTHER_BOOT = MARK._replace(place=b"copy"), MARK._replace(boot=b"later")


class Device:
    """One device's replica, opened again and again on the same index."""

    def __init__(self, path: Path) -> None:
        self.runtime = SystemRuntime(threads=1)
        (path / "root").mkdir()
        found_folder(self.runtime, path, OWN, path / "root", "docs", "own")
        self._state = next((path / "folders").iterdir())

    def forget_entries(self) -> None:
        """Take all entries out of the index, as if it were older than they are."""
        database = Database(self._state / "index.sqlite3")
        for table in ("entry", "chain", "version"):
            database.execute(f"DELETE FROM {table}")
        database.close()

    def start(self, mark: IndexMark) -> Replica:
        database = Database(self._state / "index.sqlite3")
        membership = [open_membership(data) for data in LogRows(database).membership()]
        keys = read_kept(self._state / "keys", OWN, membership[0].folder)
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
        (CUT_OFF, False, False),
        (CUT_OFF, True, True),
        (CHANGED, False, False),
        (CHANGED, True, False),
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
    assert replica.chains.alarms() == []
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


async def test_a_doubt_outlives_a_restart(device: Device) -> None:
    first = device.start(MARK)
    before = await publish(first, b"before")
    first.database.close()
    device.start(OTHER_BOOT).database.close()
    replica = device.start(OTHER_BOOT)
    assert (await publish(replica, b"after")).chain != before.chain
    replica.database.close()
    replica = device.start(OTHER_BOOT)
    later = await publish(replica, b"later")
    assert later.envelope.seq == 2, "what was published since is certain"
    replica.database.close()


async def test_own_entries_that_others_bring_are_not_gone_on_with_after_a_restart(device: Device) -> None:
    """The member that brings them may lack what came after them."""
    first = device.start(MARK)
    await publish(first, b"in the backup")
    backup = first.entries_for((), 1 << 20)[0]
    known = await publish(first, b"known to a member")
    lost = first.entries_for((), 1 << 20)[0]
    first.database.close()
    device.forget_entries()
    replica = device.start(MARK)
    await replica.receive_entries(tuple(backup))
    replica.database.close()
    replica = device.start(MARK)
    await replica.receive_entries(tuple(lost))
    replica.database.close()
    replica = device.start(MARK)
    assert (await publish(replica, b"after")).chain != known.chain
    replica.database.close()


def test_an_index_is_as_it_was_closed_until_something_writes_over_it(tmp_path: Path) -> None:
    home, backup = tmp_path / "home", tmp_path / "backup"
    home.mkdir()
    index = home / "index"

    def opened(act: str) -> Since:
        database = Database(index)
        since = index_mark(index).since
        note_opened(index)
        database.execute(f"INSERT INTO chain (id, device) VALUES ('{act}', '')")
        assert index_mark(index).since is Since.CUT_OFF, "from now on it changes"
        database.close()
        note_closed(index)
        return since

    assert opened("first") is Since.CUT_OFF
    assert opened("second") is Since.CLOSED
    shutil.copytree(home, backup)
    assert opened("third") is Since.CLOSED
    before = index_mark(index)
    for path in backup.iterdir():  # as `cp -a backup/. home` does: into the same inodes, with the old times
        (home / path.name).write_bytes(path.read_bytes())
        shutil.copystat(path, home / path.name)
    assert index_mark(index).place == before.place
    assert (home / NOTE_NAME).exists() and index_mark(index).since is Since.CHANGED
    assert opened("fourth") is Since.CHANGED
