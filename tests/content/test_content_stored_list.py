"""The sealed list of a stored record. Spec: docs/spec/content.md 6."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.codec.canonical import encode
from meshsync.content.seal import BlobKind, seal_chunk
from meshsync.content.stored_list import StoredItem, open_stored_list, seal_stored_list
from meshsync.crypto.folder_keys import FolderKeys, commitment
from meshsync.errors import AccessError, AuthenticationFailed, IntegrityError, MalformedMessage
from meshsync.ids import BlobId, ChunkId, EpochId, FolderId
from meshsync.limits import STORED_BLOBS_MAX, STORED_EPOCHS_MAX

OLD, NEW = b"o" * 32, b"n" * 32
FOLDER, EPOCH = FolderId(b"F" * 32), commitment(NEW)
KEYS = FolderKeys(FOLDER, b"s" * 32, {commitment(OLD): OLD}, commitment(OLD)).with_epoch(NEW, make_current=True)
BLOBS = [BlobId(bytes([number]) * 32) for number in range(8)]
ITEMS = [
    StoredItem(ChunkId(b"c" * 32), BLOBS[2], EPOCH),
    StoredItem(ChunkId(b"d" * 32), BLOBS[5], commitment(OLD), BLOBS[2]),
]
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "content.json").read_text())

ids = st.binary(min_size=32, max_size=32)
blobs = st.sampled_from(BLOBS)
items = st.builds(StoredItem, ids.map(ChunkId), blobs, ids.map(EpochId), st.none() | blobs)


def crafted(value: object) -> bytes:
    """The list of a member who seals whatever they like."""
    return EPOCH + seal_chunk(KEYS, EPOCH, BlobKind.STORED, encode(value))


@given(st.lists(items, max_size=6, unique_by=lambda item: (item.chunk, item.blob)))
def test_what_was_sealed_is_read_ascending(written: list[StoredItem]) -> None:
    read = open_stored_list(KEYS, BLOBS, seal_stored_list(KEYS, BLOBS, written))
    assert read == sorted(written, key=lambda item: (item.chunk, item.blob))


def test_the_order_of_the_writer_does_not_show() -> None:
    assert seal_stored_list(KEYS, BLOBS, ITEMS) == seal_stored_list(KEYS, BLOBS, ITEMS[::-1])


def test_bytes_are_those_of_the_specification() -> None:
    epochs = sorted([commitment(OLD), EPOCH])
    rows = [[b"c" * 32, 2, epochs.index(EPOCH), None], [b"d" * 32, 5, epochs.index(commitment(OLD)), 2]]
    assert open_stored_list(KEYS, BLOBS, crafted([epochs, rows])) == ITEMS
    assert open_stored_list(KEYS, BLOBS, bytes.fromhex(VECTORS["stored_list"])) == ITEMS


def test_a_list_is_sealed_under_the_current_epoch() -> None:
    assert seal_stored_list(KEYS, BLOBS, ITEMS)[:32] == KEYS.current == EPOCH


@given(st.data())
def test_any_flipped_bit_is_noticed(data: st.DataObject) -> None:
    sealed = bytearray(seal_stored_list(KEYS, BLOBS, ITEMS))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises((IntegrityError, AccessError)):
        open_stored_list(KEYS, BLOBS, bytes(sealed))


class TestRefused:
    @pytest.mark.parametrize("length", [0, 1, 31])
    def test_too_short_to_name_an_epoch(self, length: int) -> None:
        with pytest.raises(MalformedMessage):
            open_stored_list(KEYS, BLOBS, EPOCH[:length])

    @pytest.mark.parametrize("length", [32, 33, 60, 72])
    def test_too_short_to_be_a_blob(self, length: int) -> None:
        with pytest.raises(AuthenticationFailed):
            open_stored_list(KEYS, BLOBS, seal_stored_list(KEYS, BLOBS, ITEMS)[:length])

    def test_under_an_epoch_whose_key_is_not_held(self) -> None:
        before = FolderKeys(FOLDER, KEYS.secret, {commitment(OLD): OLD}, commitment(OLD))
        with pytest.raises(AccessError):
            open_stored_list(before, BLOBS, seal_stored_list(KEYS, BLOBS, ITEMS))

    def test_named_as_of_another_epoch(self) -> None:
        with pytest.raises(AuthenticationFailed):
            open_stored_list(KEYS, BLOBS, commitment(OLD) + seal_stored_list(KEYS, BLOBS, ITEMS)[32:])

    @pytest.mark.parametrize("kind", [kind for kind in BlobKind if kind is not BlobKind.STORED])
    def test_of_another_kind(self, kind: BlobKind) -> None:
        with pytest.raises(AuthenticationFailed):
            open_stored_list(KEYS, BLOBS, EPOCH + seal_chunk(KEYS, EPOCH, kind, encode([[], []])))

    def test_of_another_folder(self) -> None:
        other = FolderKeys(FolderId(b"G" * 32), KEYS.secret, KEYS.epochs, KEYS.current)
        with pytest.raises(AuthenticationFailed):
            open_stored_list(other, BLOBS, seal_stored_list(KEYS, BLOBS, ITEMS))

    @pytest.mark.parametrize(
        "rows",
        [
            [[b"c" * 32, len(BLOBS), 0, None]],
            [[b"c" * 32, -1, 0, None]],
            [[b"c" * 32, STORED_BLOBS_MAX, 0, None]],
            [[b"c" * 32, 0, 1, None]],
            [[b"c" * 32, 0, -1, None]],
            [[b"c" * 32, 0, 0, len(BLOBS)]],
            [[b"c" * 32, 0, 0, -1]],
            [[b"c" * 31, 0, 0, None]],
            [[b"c" * 32, 0, 0]],
            [[b"c" * 32, True, 0, None]],
            [[b"c" * 32, 0, 0, None]] * (STORED_BLOBS_MAX + 1),
        ],
        ids=["beyond the blobs", "negative", "beyond the bound", "no such epoch", "negative epoch", "base beyond",
             "negative base", "short chunk", "short row", "not a number", "too many"],
    )  # fmt: skip
    def test_hostile_rows(self, rows: list[object]) -> None:
        with pytest.raises(MalformedMessage):
            open_stored_list(KEYS, BLOBS, crafted([[EPOCH], rows]))

    @pytest.mark.parametrize("epochs", [[b"e" * 31], [EPOCH] * (STORED_EPOCHS_MAX + 1), EPOCH])
    def test_hostile_epochs(self, epochs: object) -> None:
        with pytest.raises(MalformedMessage):
            open_stored_list(KEYS, BLOBS, crafted([epochs, []]))

    def test_more_than_a_reader_takes_is_never_written(self) -> None:
        many = [StoredItem(ChunkId(b"c" * 32), BLOBS[0], EPOCH)] * (STORED_BLOBS_MAX + 1)
        epochs = [StoredItem(ChunkId(b"c" * 32), BLOBS[0], EpochId(at.to_bytes(32, "big"))) for at in range(257)]
        for items in (many, epochs):
            with pytest.raises(MalformedMessage):
                seal_stored_list(KEYS, BLOBS, items)
