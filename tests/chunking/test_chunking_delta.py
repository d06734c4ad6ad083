"""Deltas and capped frames. Spec: docs/spec/content.md 2, 5."""

from __future__ import annotations

import contextlib
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.chunking import delta
from meshsync.chunking.frames import compress, decompress, zstd
from meshsync.errors import DecompressionBomb, IntegrityError

BASE = random.Random(1).randbytes(64 * 1024)


class TestDelta:
    @given(st.binary(max_size=400), st.binary(max_size=400))
    def test_base_and_delta_give_the_target(self, base: bytes, target: bytes) -> None:
        assert delta.apply(base, delta.make(base, target), len(target)) == target

    @pytest.mark.parametrize("at", [0, 1, 30_000, 65_000])
    @pytest.mark.parametrize("size", [64 * 1024, 256 * 1024])
    def test_a_small_edit_anywhere_in_a_chunk_costs_about_50_bytes(self, at: int, size: int) -> None:
        base = random.Random(2).randbytes(size)
        target = base[:at] + b"twelve bytes" + base[at:]
        assert len(delta.make(base, target)) < 100

    def test_a_delta_of_the_first_format_opens_for_ever(self) -> None:
        base = b"the base of a delta, the oldest one that there is, 1"
        made = bytes.fromhex("28b52ffd203d9500004820616e64206d6f726502005d15202c0504")
        assert delta.apply(base, made, 100) == base + b" and more"
        alone = bytes.fromhex("28b52ffd2016b10000612064656c746120776974686f757420612062617365")
        assert delta.apply(b"", alone, 100) == b"a delta without a base"

    def test_a_target_longer_than_allowed_is_not_built(self) -> None:
        with pytest.raises(DecompressionBomb):
            delta.apply(BASE, delta.make(BASE, BASE * 2), len(BASE))

    @given(st.data())
    def test_a_damaged_delta_raises_or_gives_no_more_than_allowed(self, data: st.DataObject) -> None:
        damaged = bytearray(delta.make(BASE, BASE[:20_000] + b"edit" + BASE[20_000:]))
        bit = data.draw(st.integers(0, len(damaged) * 8 - 1))
        damaged[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(IntegrityError):
            assert len(delta.apply(BASE, bytes(damaged), 100_000)) <= 100_000


class TestFrame:
    @given(st.binary(max_size=2000))
    def test_what_was_compressed_opens_at_its_exact_size(self, data: bytes) -> None:
        assert decompress(compress(data), len(data)) == data

    def test_a_bomb_is_refused_by_its_declared_size(self) -> None:
        with pytest.raises(DecompressionBomb):
            decompress(compress(bytes(100_000_000)), 256 * 1024)

    def test_a_frame_that_hides_its_size_is_refused(self) -> None:
        stream = zstd.ZstdCompressor()
        with pytest.raises(DecompressionBomb):
            decompress(stream.compress(bytes(10_000_000)) + stream.flush(), 256 * 1024)

    def test_a_frame_that_understates_its_size_gives_nothing(self) -> None:
        # Byte 4 describes the header; with one segment and a size below 256, byte 5 is the size.
        frame = bytearray(compress(bytes(200)))
        assert frame[4] == 0x20 and frame[5] == 200
        frame[5] = 100
        with pytest.raises(IntegrityError):
            decompress(bytes(frame), 150)

    def test_a_frame_that_asks_for_a_large_window_is_refused(self) -> None:
        # One run of 100,000 zeros; the descriptor 0x88 asks for a window of 2^27 bytes, 0x38 for 2^17.
        run = (100_000 << 3 | 0b011).to_bytes(3, "little") + b"\0"
        small, large = (b"\x28\xb5\x2f\xfd\x80" + w + (100_000).to_bytes(4, "little") + run for w in (b"\x38", b"\x88"))
        assert decompress(small, 100_000) == bytes(100_000)
        with pytest.raises(IntegrityError):
            decompress(large, 100_000)

    @pytest.mark.parametrize(
        "spoil",
        [lambda f: f[:-1], lambda f: f + b"x", lambda f: f + f, lambda f: b"", lambda f: f[1:], lambda f: f[:5]],
    )
    def test_anything_but_exactly_one_frame_is_refused(self, spoil) -> None:
        with pytest.raises(IntegrityError):
            decompress(spoil(compress(BASE)), 200_000)

    @given(st.binary(max_size=100))
    def test_junk_never_crashes(self, junk: bytes) -> None:
        for data in (junk, b"\x28\xb5\x2f\xfd" + junk):
            with contextlib.suppress(IntegrityError):
                decompress(data, 1000)

    def test_threads_share_compressors_without_mixing(self) -> None:
        texts = [bytes([at % 256]) * (at * 37 % 5000) for at in range(400)]
        with ThreadPoolExecutor(8) as pool:
            frames = list(pool.map(compress, texts))
        assert [decompress(frame, 5000) for frame in frames] == texts
