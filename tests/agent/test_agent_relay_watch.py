"""What is held against a relay: bounds, what is kept on disk, and that a device's word alone convicts nobody."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from meshsync.agent import evidence_files
from meshsync.agent.relay_watch import RelayWatch
from meshsync.codec.canonical import decode
from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import IntegrityError
from meshsync.ids import EntryId, FolderId, RecordId
from meshsync.index.database import Database
from meshsync.index.relay_rows import RelayCursor, RelayRows
from meshsync.limits import EVIDENCE_BYTES_MAX, EVIDENCE_FILES_MAX, RELAY_WORDS_WAITING_MAX
from meshsync.metalog.entry import OpenedEntry
from meshsync.metalog.evidence import Evidence, Fault
from meshsync.metalog.fields import RelaySeen
from meshsync.metalog.head import head_hash, sign_head
from meshsync.metalog.record_log import GENESIS_HEAD, next_head
from meshsync.runtime import SystemRuntime
from meshsync.wire.peer_messages import RelayHeadSeen

FOLDER = FolderId(b"f" * 32)
RELAY = DeviceKeys(b"relay..." * 8)
STRANGER = DeviceKeys(b"stranger" * 8)
IDS = [RecordId(bytes([number]) * 32) for number in range(1, 11)]
HEADS = [GENESIS_HEAD]
for record in IDS:
    HEADS.append(next_head(HEADS[-1], record))


class Scene:
    """A folder's index with the first records of a relay's log, and who watches it."""

    def __init__(self, path: Path) -> None:
        self.runtime = SystemRuntime(threads=1)
        self.database = Database(path / "index")
        self.directory = path / "evidence"
        self.told = 0
        self.watch = self.opened()

    def opened(self) -> RelayWatch:
        return RelayWatch(self.runtime, FOLDER, self.database, self.directory, lambda: {RELAY.device}, self._changed)

    def _changed(self) -> None:
        self.told += 1

    async def read(self, count: int) -> None:
        """Read the relay's log up to `count`, which it signs."""
        before = self.watch._cursors.get(RELAY.device) or RelayCursor(0, GENESIS_HEAD, b"")
        cursor = RelayCursor(count, HEADS[count], sign_head(RELAY, FOLDER, index=count, head=HEADS[count]))
        with self.database.transaction():
            RelayRows(self.database).advance(RELAY.device, cursor, ())
            self.watch.log.add(RELAY.device, before.index, before.head, IDS[before.index : count])
        self.watch.hear(RELAY.device, cursor.signed)
        self.watch.read(RELAY.device, cursor)
        await self.watch.settle(RELAY.device)

    def close(self) -> None:
        self.database.close()
        self.runtime.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.close()


def head(index: int, value: bytes = b"", keys: DeviceKeys = RELAY) -> RelayHeadSeen:
    return RelayHeadSeen(sign_head(keys, FOLDER, index=index, head=value or HEADS[index]))


def entry_that_saw(index: int, value: bytes) -> OpenedEntry:
    envelope = SimpleNamespace(relay_seen=(RelaySeen(RELAY.device, index, value),))
    made = SimpleNamespace(device=STRANGER.device, id=EntryId(b"e" * 32), envelope=envelope)
    return cast(OpenedEntry, made)


async def test_a_word_that_a_member_brings_waits_until_the_log_was_read_up_to_it(scene: Scene) -> None:
    await scene.read(4)
    scene.watch.told([head(6, b"x" * 32)])
    await scene.watch.settle(RELAY.device)
    assert not scene.watch.convicted and scene.watch.knows_more(RELAY.device, 5)
    await scene.read(8)
    found = scene.watch.convicted[RELAY.device]
    assert (found.proven.fault, found.proven.first.index, found.proven.second.index) == (Fault.FORK, 6, 8)
    assert scene.told == 1 and scene.watch.seen() == (), "entries say nothing more of it"


async def test_words_of_one_log_in_any_order_convict_nobody(scene: Scene) -> None:
    await scene.read(3)
    scene.watch.told([head(index) for index in (10, 1, 7, 3, 5, 2)])
    for count in (6, 9, 10):
        await scene.read(count)
    assert not scene.watch.convicted and not scene.watch.doubts
    assert scene.watch.seen() == (RelaySeen(RELAY.device, 10, HEADS[10]),)


async def test_heads_of_strangers_and_broken_ones_say_nothing(scene: Scene) -> None:
    await scene.read(4)
    broken = head(3, b"x" * 32).signed[:-1] + b"\0"
    scene.watch.told([head(3, b"x" * 32, STRANGER), RelayHeadSeen(broken), RelayHeadSeen(b"junk")])
    await scene.watch.settle(RELAY.device)
    assert not scene.watch.convicted and not scene.watch.knows_more(RELAY.device, 0)
    with pytest.raises(IntegrityError):
        scene.watch.hear(RELAY.device, head(4, keys=STRANGER).signed)


async def test_an_answer_must_name_what_was_shown(scene: Scene) -> None:
    shown = head(4).signed
    for after in (b"", b"y" * 32):
        with pytest.raises(IntegrityError):
            await scene.watch.answered(
                RELAY.device, sign_head(RELAY, FOLDER, index=5, head=HEADS[5], after=after), shown
            )
    answer = sign_head(RELAY, FOLDER, index=5, head=HEADS[5], after=head_hash(shown))
    assert (await scene.watch.answered(RELAY.device, answer, shown)).index == 5
    assert not scene.watch.convicted


async def test_what_an_author_says_is_a_doubt_until_the_relay_s_own_word_proves_it(scene: Scene) -> None:
    await scene.read(4)
    scene.watch.entries([entry_that_saw(3, HEADS[3])], RELAY.device)
    await scene.watch.settle(RELAY.device)
    assert not scene.watch.doubts, "the same log"
    scene.watch.entries([entry_that_saw(6, b"x" * 32)], RELAY.device)
    await scene.read(8)
    assert scene.watch.doubts[RELAY.device].device == STRANGER.device and not scene.watch.convicted
    scene.watch.told([head(6, b"x" * 32)])
    await scene.watch.settle(RELAY.device)
    assert RELAY.device in scene.watch.convicted and not scene.watch.doubts


async def test_what_waits_is_bounded_and_the_newest_stays(scene: Scene) -> None:
    await scene.read(4)
    heads = [head(1000 + number, bytes([number]) * 32) for number in range(2 * RELAY_WORDS_WAITING_MAX)]
    scene.watch.told(heads)
    words = scene.watch.words(RELAY.device)
    assert len(words) <= RELAY_WORDS_WAITING_MAX + 1 and heads[-1].signed in words


async def test_the_disk_refuses_evidence_it_is_believed_and_written_later(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshsync.agent.relay_watch.RETRY_BLOCKED_S", 0.0)
    scene.directory.write_text("in the way")
    await scene.read(4)
    scene.watch.told([head(3, b"x" * 32)])
    task = scene.runtime.spawn(scene.watch.run(), "watch")
    async with asyncio.timeout(10):
        while RELAY.device not in scene.watch.convicted:
            await asyncio.sleep(0)
        scene.directory.unlink()
        while not scene.watch.convicted[RELAY.device].path.exists():
            await asyncio.sleep(0)
    task.cancel()
    assert scene.opened().convicted.keys() == {RELAY.device}


async def test_files_that_prove_nothing_convict_nobody_and_files_are_few(scene: Scene) -> None:
    await scene.read(4)
    scene.watch.told([head(3, b"x" * 32)])
    await scene.watch.settle(RELAY.device)
    found = scene.watch.convicted[RELAY.device]
    data = found.path.read_bytes()
    for number in range(2 * EVIDENCE_FILES_MAX):
        (scene.directory / f"other-fork-{number}.evidence").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    evidence = evidence_files.place(scene.directory, found.proven, 7)
    evidence_files.keep(evidence, decode(Evidence, data, EVIDENCE_BYTES_MAX))
    assert not evidence.path.exists(), "no more than EVIDENCE_FILES_MAX are written"
    for path in scene.directory.glob("other-*"):
        path.unlink()
    (scene.directory / "other-fork-1.evidence").write_bytes(b"junk")
    assert scene.opened().convicted == {RELAY.device: found}
    assert evidence_files.kept(scene.directory, FolderId(b"g" * 32)) == {}, "evidence is about one folder"
    assert os.stat(found.path).st_mode & 0o777 == 0o600
