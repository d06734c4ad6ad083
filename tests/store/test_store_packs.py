"""`PackStore` on disk: restart, lost catalog, packs that close, damage in the file's own structure, golden bytes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.crypto.hashing import blob_id
from meshsync.errors import BlobCorrupt, ConfigError, FormatUnsupported, NotFound, StorageFull
from meshsync.ids import BlobId
from meshsync.store import pack_format
from meshsync.store.files import SystemFiles
from meshsync.store.pack_format import RecordKind
from meshsync.store.packs import PackStore

GOLDEN_PACK = (
    "4d535041434b010a"  # magic, version 1
    "0000000000000001"  # pack number
    "424c4231"  # "BLB1"
    "d74981efa70a0c880b8d8c1985d075dbcbf679b99a5f9914e5aaf96b831a9e24"  # BLAKE3 of "hello world"
    "0000000b"  # body size
    "{crc}"
    "68656c6c6f20776f726c64"
)


def named(*data: bytes) -> list[tuple[BlobId, bytes]]:
    return [(blob_id(one), one) for one in data]


@contextmanager
def opened(directory: Path, pack_bytes: int = 1000) -> Iterator[PackStore]:
    store = PackStore(directory, pack_bytes=pack_bytes)
    try:
        yield store
    finally:
        store.close()


def lose_catalog(directory: Path) -> None:
    for path in directory.glob("catalog*"):
        path.unlink()


def content(store: PackStore) -> dict[BlobId, bytes]:
    return {blob: store.get(blob) for blob in store.ids()}


BLOBS = named(*(bytes([n]) * 150 for n in range(40)))


def test_blobs_survive_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.put(BLOBS)
    with opened(tmp_path) as store:
        assert content(store) == dict(BLOBS)


def test_a_lost_catalog_is_rebuilt_from_the_packs(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.put(BLOBS)
        store.delete([BLOBS[0][0], BLOBS[39][0]])
        store.put(BLOBS[:1])
        expected, usage = content(store), store.usage()
    assert len(list(tmp_path.glob("*.pack"))) > 5
    lose_catalog(tmp_path)
    with opened(tmp_path) as store:
        assert content(store) == expected
        assert store.usage() == usage


def test_a_catalog_of_junk_is_rebuilt_from_the_packs(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.put(BLOBS)
    lose_catalog(tmp_path)
    (tmp_path / "catalog.sqlite").write_bytes(b"junk" * 5000)
    with opened(tmp_path) as store:
        assert content(store) == dict(BLOBS)


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(ConfigError):
        PackStore(tmp_path)


def test_a_newer_pack_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    newer = b"MSPACK\x02\n" + bytes(100)
    (tmp_path / "0000000000000001.pack").write_bytes(newer)
    with pytest.raises(FormatUnsupported):
        PackStore(tmp_path)
    assert (tmp_path / "0000000000000001.pack").read_bytes() == newer


def test_bytes_of_a_pack(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.put(named(b"hello world"))
    pack = (tmp_path / "0000000000000001.pack").read_bytes()
    assert pack.hex() == GOLDEN_PACK.format(crc="6480bbed")


def test_a_pack_that_goes_while_the_store_is_open_is_found_by_scrub_or_by_who_reads_it(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.put(BLOBS)
        min(tmp_path.glob("*.pack")).unlink()
        (gone, *_) = store.scrub(1 << 30).damaged
        assert store.has([gone]) == set()
        store.put(BLOBS)
        assert content(store) == dict(BLOBS)
        min(tmp_path.glob("*.pack")).unlink()
        lost = 0
        for blob, data in BLOBS:
            try:
                assert store.get(blob) == data
            except (NotFound, BlobCorrupt):
                lost += 1
                assert store.has([blob]) == set()
        assert lost
        store.put(BLOBS)
        assert content(store) == dict(BLOBS)


def test_a_missing_pack_is_reported_and_refilled(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.put(BLOBS)
    min(tmp_path.glob("*.pack")).unlink()
    with opened(tmp_path) as store:
        lost = store.damaged()
        assert lost and store.has(lost) == set()
        with pytest.raises(BlobCorrupt):
            store.get(lost[0])
        store.put(BLOBS)
        assert content(store) == dict(BLOBS) and store.damaged() == []


@pytest.mark.slow
@pytest.mark.parametrize("lost", [True, False], ids=["catalog lost", "catalog kept"])
def test_any_flipped_bit_in_an_open_pack_costs_at_most_one_blob(tmp_path: Path, lost: bool) -> None:
    blobs = named(b"first", b"second", b"third")
    original = tmp_path / "original"
    with opened(original) as store:
        store.put(blobs)
    whole = (original / "0000000000000001.pack").read_bytes()
    for at in range(pack_format.PACK_HEADER_BYTES, len(whole)):
        directory = tmp_path / str(at)
        shutil.copytree(original, directory)
        (directory / "0000000000000001.pack").write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        if lost:
            lose_catalog(directory)
        with opened(directory) as store:
            assert len(store.has([blob for blob, _ in blobs])) >= 2, at
            assert content(store).items() <= dict(blobs).items()
            store.put(blobs)  # repaired from another replica
            assert content(store) == dict(blobs)


@given(junk=st.binary(max_size=300), at=st.integers(0, 200))
def test_scanning_junk_never_fails(junk: bytes, at: int) -> None:
    found = pack_format.scan(junk, at)
    assert not found.good and pack_format.parse_trailer(junk) is None


def test_a_removal_inside_a_blob_body_is_not_obeyed() -> None:
    gone = pack_format.gone_body([blob_id(b"victim")])
    evil = pack_format.record_header(RecordKind.GONE, blob_id(gone), len(gone)) + gone
    pack = pack_format.pack_header(1) + pack_format.record_header(RecordKind.BLOB, blob_id(evil), len(evil)) + evil
    damaged = bytearray(pack)
    damaged[20] ^= 1  # in the header of the record that holds it
    assert pack_format.scan(bytes(damaged), pack_format.PACK_HEADER_BYTES).good == []


def test_compaction_frees_dead_packs_and_loses_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.put(BLOBS)
        store.delete([blob for blob, _ in BLOBS[::2]])
        store.delete([blob for blob, _ in BLOBS[1:20:2]])
        before = store.usage().disk_bytes
        expected = content(store)
        while store.compact(packs_max=100) > 1000:
            pass
        assert content(store) == expected
        assert store.usage().disk_bytes < before / 2
    lose_catalog(tmp_path)
    with opened(tmp_path) as store:
        assert content(store) == expected


class FullDisk(SystemFiles):
    def __init__(self) -> None:
        self.full = False

    def sync(self, fd: int) -> None:
        if self.full:
            raise OSError(28, os.strerror(28))
        super().sync(fd)


def test_a_full_disk_is_a_typed_refusal_and_the_store_goes_on_when_there_is_space(tmp_path: Path) -> None:
    files = FullDisk()
    store = PackStore(tmp_path, files)
    store.put(BLOBS[:2])
    files.full = True
    with pytest.raises(StorageFull):
        store.put(BLOBS[2:4])
    assert store.has([blob for blob, _ in BLOBS]) == {blob for blob, _ in BLOBS[:2]}
    files.full = False
    store.put(BLOBS[4:6])
    store.close()
    lose_catalog(tmp_path)
    with opened(tmp_path) as again:
        assert content(again) == dict(BLOBS[:2] + BLOBS[4:6])
