"""Blobs: padding, compression, sealing, chunk ids. Spec: docs/spec/content.md 2."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.chunking.frames import compress
from meshsync.codec.canonical import encode
from meshsync.content.chunk_ids import check_chunk, chunk_id
from meshsync.content.padding import padded_size
from meshsync.content.payload import pack, payload_size_max, unpack
from meshsync.content.seal import BlobKind, blob_size_max, seal_chunk, unseal_chunk
from meshsync.crypto.folder_keys import FolderKeys, commitment
from meshsync.crypto.sealing import seal
from meshsync.errors import AccessError, AuthenticationFailed, ChunkMismatch, DecompressionBomb, IntegrityError
from meshsync.ids import EpochId, FolderId
from meshsync.limits import BLOB_SIZE_BYTES_MAX, CHUNK_SIZE_BYTES_MAX, ENTRY_BATCH_BYTES_MAX, ENTRY_PAYLOAD_BYTES_MAX

FOLDER, SECRET, OLD, NEW = FolderId(b"F" * 32), b"s" * 32, b"o" * 32, b"n" * 32
OLD_EPOCH = commitment(OLD)
KEYS = FolderKeys(FOLDER, SECRET, {OLD_EPOCH: OLD}, OLD_EPOCH).with_epoch(NEW, make_current=True)
NOISE = random.Random(1).randbytes(70_000)
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "content.json").read_text())


def sealed(plaintext: bytes, kind: BlobKind = BlobKind.CHUNK, keys: FolderKeys = KEYS) -> bytes:
    return seal_chunk(keys, keys.current, kind, plaintext)


def opened(blob: bytes, size_max: int = 1000, kind: BlobKind = BlobKind.CHUNK, keys: FolderKeys = KEYS) -> bytes:
    return unseal_chunk(keys, keys.current, kind, blob, size_max)


def crafted(payload: bytes) -> bytes:
    """A blob of a member who seals whatever they like."""
    associated = encode((int(BlobKind.CHUNK), 1, KEYS.folder, KEYS.current))
    return seal(KEYS.seal_key(KEYS.current), KEYS.nonce_key(KEYS.current), associated, payload, b"\x01")


class TestPadding:
    def test_lengths_are_those_of_the_paper(self) -> None:
        sizes = [0, 1, 2, 8, 9, 15, 17, 33, 100, 1000, 65_541, 262_149]
        assert [padded_size(size) for size in sizes] == [0, 1, 2, 8, 10, 16, 18, 36, 104, 1024, 67_584, 270_336]

    @given(st.integers(1, 1 << 50))
    def test_padding_is_cheap_monotonic_and_stable(self, size: int) -> None:
        padded = padded_size(size)
        assert size <= padded <= size + max(1, size * 12 // 100)
        assert padded_size(padded) == padded <= padded_size(size + 1)


class TestPayload:
    @given(st.binary(max_size=500) | st.integers(0, 5000).map(bytes))
    def test_what_was_packed_unpacks_within_its_bound(self, plaintext: bytes) -> None:
        payload = pack(plaintext)
        assert unpack(payload, len(plaintext)) == plaintext
        assert len(payload) <= payload_size_max(len(plaintext))

    def test_it_compresses_only_if_that_saves(self) -> None:
        assert pack(NOISE)[0] == 0 and pack(b"")[0] == 0
        assert pack(bytes(10_000))[0] == 1 and len(pack(bytes(10_000))) < 100

    def test_a_longer_plaintext_than_allowed_is_refused(self) -> None:
        for plaintext in (bytes(1001), NOISE[:1001]):
            with pytest.raises(IntegrityError):
                unpack(pack(plaintext), 1000)

    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            b"\0\0\0\0",
            b"\0" + (10).to_bytes(4, "big") + b"short",
            b"\2" + (3).to_bytes(4, "big") + b"abc",
            b"\0" + (3).to_bytes(4, "big") + b"abc" + bytes(8),
            b"\0" + (12).to_bytes(4, "big") + b"x" * 12 + b"\1",
            b"\1" + (3).to_bytes(4, "big") + b"abc",
            b"\0\xff\xff\xff\xff",
        ],
        ids=["empty", "stump", "truncated", "encoding", "too padded", "dirty padding", "no frame", "huge length"],
    )
    def test_any_other_form_is_refused(self, payload: bytes) -> None:
        with pytest.raises(IntegrityError):
            unpack(payload, 1000)


class TestBlob:
    def test_bytes_are_those_of_the_specification(self) -> None:
        for kind in BlobKind:
            assert sealed(b"incompressible", kind).hex() == VECTORS["blobs"][kind.name]

    @given(st.binary(max_size=300), st.sampled_from(BlobKind))
    def test_what_was_sealed_opens(self, plaintext: bytes, kind: BlobKind) -> None:
        blob = sealed(plaintext, kind)
        assert opened(blob, len(plaintext), kind) == plaintext
        assert len(blob) <= blob_size_max(len(plaintext))

    def test_equal_chunks_give_equal_blobs(self) -> None:
        assert sealed(NOISE) == sealed(bytearray(NOISE)) == sealed(memoryview(NOISE))

    @given(st.data())
    def test_any_flipped_bit_is_noticed(self, data: st.DataObject) -> None:
        blob = bytearray(sealed(b"some plaintext that matters"))
        bit = data.draw(st.integers(0, len(blob) * 8 - 1))
        blob[bit // 8] ^= 1 << bit % 8
        with pytest.raises(IntegrityError):
            opened(bytes(blob))

    def test_a_blob_opens_only_as_its_kind_in_its_folder_and_epoch(self) -> None:
        blob = sealed(b"chunk")
        for kind in set(BlobKind) - {BlobKind.CHUNK}:
            with pytest.raises(AuthenticationFailed):
                opened(blob, kind=kind)
        with pytest.raises(AuthenticationFailed):
            unseal_chunk(KEYS, OLD_EPOCH, BlobKind.CHUNK, blob, 1000)
        other_folder = FolderId(b"G" * 32)
        epoch = commitment(NEW)
        with pytest.raises(AuthenticationFailed):
            opened(blob, keys=FolderKeys(other_folder, SECRET, {epoch: NEW}, epoch))

    def test_a_blob_of_an_epoch_never_delivered_is_an_access_error(self) -> None:
        with pytest.raises(AccessError):
            unseal_chunk(KEYS, EpochId(bytes(32)), BlobKind.CHUNK, sealed(b"chunk"), 1000)

    @pytest.mark.parametrize("blob", [b"", b"\x01", b"\x01" * 41, b"\x02" + bytes(100)])
    def test_junk_is_refused(self, blob: bytes) -> None:
        with pytest.raises(AuthenticationFailed):
            opened(blob)

    def test_a_member_cannot_make_others_inflate_a_bomb(self) -> None:
        frame = compress(bytes(50_000_000))
        body = b"\1" + len(frame).to_bytes(4, "big") + frame
        bomb = crafted(body + bytes(padded_size(len(body)) - len(body)))
        with pytest.raises(DecompressionBomb):
            opened(bomb, CHUNK_SIZE_BYTES_MAX)

    def test_a_blob_too_large_for_what_is_expected_is_not_even_opened(self) -> None:
        with pytest.raises(IntegrityError):
            opened(sealed(NOISE), 1000)

    def test_the_largest_of_each_kind_stay_within_their_bounds(self) -> None:
        assert blob_size_max(CHUNK_SIZE_BYTES_MAX) <= BLOB_SIZE_BYTES_MAX
        assert blob_size_max(ENTRY_BATCH_BYTES_MAX) <= ENTRY_PAYLOAD_BYTES_MAX


class TestChunkId:
    def test_ids_are_those_of_the_specification(self) -> None:
        ids = {kind.name: chunk_id(KEYS, kind, b"abc").hex() for kind in (BlobKind.CHUNK, BlobKind.MANIFEST)}
        assert ids == VECTORS["chunk_ids"]

    def test_ids_say_nothing_without_the_folders_secret(self) -> None:
        assert chunk_id(KEYS, BlobKind.CHUNK, b"abc") != hashlib.blake2b(b"abc", digest_size=32).digest()
        other = FolderKeys(FOLDER, b"t" * 32, KEYS.epochs, KEYS.current)
        assert chunk_id(KEYS, BlobKind.CHUNK, b"abc") != chunk_id(other, BlobKind.CHUNK, b"abc")

    def test_another_plaintext_behind_a_valid_seal_is_noticed(self) -> None:
        wanted = chunk_id(KEYS, BlobKind.CHUNK, b"abc")
        check_chunk(KEYS, BlobKind.CHUNK, wanted, opened(sealed(b"abc")))
        for kind, plaintext in ((BlobKind.CHUNK, opened(sealed(b"abd"))), (BlobKind.MANIFEST, b"abc")):
            with pytest.raises(ChunkMismatch):
                check_chunk(KEYS, kind, wanted, plaintext)
