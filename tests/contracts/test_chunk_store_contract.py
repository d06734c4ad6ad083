"""What every `BlobStore` does (`meshsync/store/base.py`), over each implementation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshsync.crypto.hashing import blob_id
from meshsync.errors import BlobCorrupt, MalformedMessage, NotFound
from meshsync.ids import BlobId
from meshsync.limits import STORE_BLOB_BYTES_MAX
from meshsync.store.base import BlobStore
from meshsync.store.memory import MemoryStore
from meshsync.store.packs import PackStore


@dataclass
class Subject:
    store: BlobStore
    damage: Callable[[bytes], None]  # flips a bit of the stored copy of these bytes


def flip_in_packs(directory: Path, data: bytes) -> None:
    for path in directory.glob("*.pack"):
        content = bytearray(path.read_bytes())
        at = content.find(data)
        if at >= 0:
            content[at] ^= 1
            path.write_bytes(content)


@pytest.fixture(params=["memory", "packs"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    if request.param == "memory":
        blobs: dict[BlobId, bytes] = {}

        def damage(data: bytes) -> None:
            blobs[blob_id(data)] = bytes([data[0] ^ 1]) + data[1:]

        yield Subject(MemoryStore(blobs), damage)
        return
    store = PackStore(tmp_path / "chunks", pack_bytes=4096)
    yield Subject(store, lambda data: flip_in_packs(tmp_path / "chunks", data))
    store.close()


def named(*data: bytes) -> list[tuple[BlobId, bytes]]:
    return [(blob_id(one), one) for one in data]


def test_what_was_put_is_returned(subject: Subject) -> None:
    subject.store.put(named(b"one", b"two", b""))
    for blob, data in named(b"one", b"two", b""):
        assert subject.store.get(blob) == data
        assert subject.store.size(blob) == len(data)


def test_absent_blobs_are_not_found(subject: Subject) -> None:
    with pytest.raises(NotFound):
        subject.store.get(blob_id(b"never"))
    with pytest.raises(NotFound):
        subject.store.size(blob_id(b"never"))
    assert subject.store.has([blob_id(b"never")]) == set()


def test_duplicates_are_stored_once(subject: Subject) -> None:
    subject.store.put(named(b"one", b"one"))
    subject.store.put(named(b"one"))
    usage = subject.store.usage()
    assert (usage.blobs, usage.live_bytes) == (1, 3)


def test_junk_under_the_id_of_a_coming_blob_is_refused_and_the_honest_one_stored(subject: Subject) -> None:
    with pytest.raises(BlobCorrupt):
        subject.store.put([*named(b"other"), (blob_id(b"honest"), b"junk")])
    assert subject.store.has([blob_id(b"honest"), blob_id(b"other")]) == set()
    subject.store.put(named(b"honest"))
    assert subject.store.get(blob_id(b"honest")) == b"honest"


def test_a_blob_beyond_the_bound_is_refused(subject: Subject) -> None:
    with pytest.raises(MalformedMessage):
        subject.store.put([(blob_id(b""), bytes(STORE_BLOB_BYTES_MAX + 1))])


def test_deleted_blobs_are_gone_and_can_be_put_again(subject: Subject) -> None:
    subject.store.put(named(b"one", b"two"))
    subject.store.delete([blob_id(b"one"), blob_id(b"never")])
    assert subject.store.has([blob_id(b"one"), blob_id(b"two")]) == {blob_id(b"two")}
    subject.store.put(named(b"one"))
    assert subject.store.get(blob_id(b"one")) == b"one"


def test_ids_are_ascending_and_complete(subject: Subject) -> None:
    blobs = named(*(bytes([n]) for n in range(200)))
    subject.store.put(blobs)
    assert list(subject.store.ids()) == sorted(blob for blob, _ in blobs)


def test_a_damaged_blob_is_never_returned_and_is_replaced_by_a_new_put(subject: Subject) -> None:
    subject.store.put(named(b"precious", b"other"))
    subject.damage(b"precious")
    for _ in range(2):
        with pytest.raises(BlobCorrupt):
            subject.store.get(blob_id(b"precious"))
    assert subject.store.has([blob_id(b"precious")]) == set()
    assert subject.store.damaged() == [blob_id(b"precious")]
    subject.store.put(named(b"precious"))
    assert subject.store.get(blob_id(b"precious")) == b"precious"
    assert subject.store.damaged() == []


def test_scrub_finds_damage_in_bounded_steps(subject: Subject) -> None:
    blobs = named(*(bytes([n]) * 100 for n in range(20)))
    subject.store.put(blobs)
    subject.damage(bytes([7]) * 100)
    reports = [subject.store.scrub(limit_bytes=500)]
    while not reports[-1].done:
        reports.append(subject.store.scrub(limit_bytes=500))
    assert all(report.checked_bytes <= 600 for report in reports)
    assert sum(report.checked_blobs for report in reports) == 20
    assert [blob for report in reports for blob in report.damaged] == [blob_id(bytes([7]) * 100)]
    assert subject.store.scrub(limit_bytes=1 << 20).damaged == ()


STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "delete"]), st.lists(st.binary(max_size=9), max_size=5)), max_size=20
)


@given(steps=STEPS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_store_answers_as_a_dictionary_does(subject: Subject, steps: list[tuple[str, list[bytes]]]) -> None:
    subject.store.delete(list(subject.store.ids()))
    model: dict[BlobId, bytes] = {}
    for action, data in steps:
        if action == "put":
            subject.store.put(named(*data))
            model |= dict(named(*data))
        else:
            subject.store.delete([blob_id(one) for one in data])
            for one in data:
                model.pop(blob_id(one), None)
    assert {blob: subject.store.get(blob) for blob in subject.store.ids()} == model
    assert subject.store.usage().live_bytes == sum(map(len, model.values()))
