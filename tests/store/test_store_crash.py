"""Chunk store, crash cases (`docs/spec/chunk-store.md` 5): what `put` and `delete` acknowledged is there afterwards,
whatever system call the machine stopped at and whatever became of the bytes that were not synced."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from meshsync.crypto.hashing import blob_id
from meshsync.ids import BlobId
from meshsync.store.files import write_atomic
from meshsync.store.packs import PackStore
from tests.support.crash_files import Crash, CrashFiles, Unsynced


def named(*data: bytes) -> list[tuple[BlobId, bytes]]:
    return [(blob_id(one), one) for one in data]


FIRST = named(*(bytes([n]) * 90 for n in range(4)))
MORE = named(*(bytes([n]) * 90 for n in range(10, 18)))
ALL = dict(FIRST + MORE)
PACK_BYTES = 400


@dataclass
class Acknowledged:
    present: set[BlobId] = field(default_factory=set)
    absent: set[BlobId] = field(default_factory=set)


def work(directory: Path, files: CrashFiles, acknowledged: Acknowledged) -> None:
    """Put, put again, delete, compact; note each acknowledgement."""
    store = PackStore(directory, files, pack_bytes=PACK_BYTES)
    try:
        for start in range(0, len(MORE), 2):
            store.put(MORE[start : start + 2])
            acknowledged.present |= {blob for blob, _ in MORE[start : start + 2]}
        for victims in ([FIRST[0][0], FIRST[1][0]], [FIRST[2][0], MORE[0][0]]):
            acknowledged.present -= set(victims)  # while a removal runs, either state is right
            store.delete(victims)
            acknowledged.absent |= set(victims)
        store.compact(packs_max=10)
    finally:
        store.close()


def prepared(directory: Path) -> None:
    store = PackStore(directory, pack_bytes=PACK_BYTES)
    store.put(FIRST)
    store.close()


def calls_of_the_whole_work(directory: Path) -> int:
    prepared(directory)
    files = CrashFiles()
    work(directory, files, Acknowledged())
    return files.calls


@pytest.mark.slow
@pytest.mark.parametrize("catalog", ["kept", "old", "lost"])
@pytest.mark.parametrize("variant", list(Unsynced), ids=lambda variant: variant.value)
def test_nothing_acknowledged_is_lost_at_any_crash_point(tmp_path: Path, variant: Unsynced, catalog: str) -> None:
    calls = calls_of_the_whole_work(tmp_path / "count")
    assert calls > 15
    for crash_at in range(calls):
        directory = tmp_path / str(crash_at)
        prepared(directory)
        shutil.copy(directory / "catalog.sqlite", tmp_path / "old.sqlite")
        acknowledged = Acknowledged(present={blob for blob, _ in FIRST})
        files = CrashFiles(crash_at)
        with pytest.raises(Crash):
            work(directory, files, acknowledged)
        files.power_cut(directory, variant)
        if catalog != "kept":
            for path in directory.glob("catalog*"):
                path.unlink()
        if catalog == "old":
            shutil.copy(tmp_path / "old.sqlite", directory / "catalog.sqlite")
        store = PackStore(directory, pack_bytes=PACK_BYTES)
        try:
            stored = {blob: store.get(blob) for blob in store.ids()}
            assert stored.items() <= ALL.items()
            assert acknowledged.present <= stored.keys(), f"lost at call {crash_at}"
            assert not (acknowledged.absent & stored.keys()), f"came back at call {crash_at}"
            store.put(list(ALL.items()))
            assert {blob: store.get(blob) for blob in store.ids()} == ALL
        finally:
            store.close()


@pytest.mark.slow
def test_a_tail_torn_at_any_length_is_cut(tmp_path: Path) -> None:
    store = PackStore(tmp_path)
    store.put(FIRST[:1])
    path = next(tmp_path.glob("*.pack"))
    durable = path.stat().st_size
    store.put(FIRST[1:2])
    store.close()
    whole = path.read_bytes()
    for length in range(durable, len(whole)):
        for leftover in tmp_path.glob("catalog*"):
            leftover.unlink()
        path.write_bytes(whole[:length])
        store = PackStore(tmp_path)
        assert list(store.ids()) == [FIRST[0][0]]
        assert path.stat().st_size == durable
        store.close()


def test_an_atomic_write_leaves_the_old_bytes_or_the_new(tmp_path: Path) -> None:
    target = tmp_path / "value"
    for crash_at in range(6):
        target.write_bytes(b"old")
        files = CrashFiles(crash_at)
        try:
            write_atomic(files, target, b"new")
        except Crash:
            assert target.read_bytes() in (b"old", b"new")
        else:
            assert target.read_bytes() == b"new"
    write_atomic(CrashFiles(), target, b"newest")
    assert target.read_bytes() == b"newest"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["value"]
