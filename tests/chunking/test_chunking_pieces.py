"""Piece deltas: a small edit costs about one piece, and hostile deltas are refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync import limits
from meshsync.chunking.pieces import difference, piece_hashes, rebuild
from meshsync.errors import MalformedMessage

KEY = bytes(range(32))
BASE = b"".join(bytes([i & 255, i >> 8 & 255]) * 3 + str(i * 7919).encode() for i in range(8000))


@given(st.binary(max_size=5000), st.binary(max_size=5000))
def test_any_target_is_rebuilt_from_any_base(base: bytes, target: bytes) -> None:
    delta = difference(KEY, piece_hashes(KEY, base), target)
    assert rebuild(base, delta, limits.CHUNK_SIZE_BYTES_MAX) == target


@pytest.mark.parametrize("edit", [b"", b"twelve bytes", b"x" * 500])
def test_a_small_edit_costs_a_few_pieces(edit: bytes) -> None:
    target = BASE[:40_000] + edit + BASE[40_012:]
    delta = difference(KEY, piece_hashes(KEY, BASE), target)
    assert rebuild(BASE, delta, len(target)) == target
    assert len(delta) < 2 * limits.PIECE_SIZE_BYTES_MAX + len(edit) + 64


@given(st.binary(max_size=200))
def test_a_hostile_delta_is_refused_or_stays_in_bounds(delta: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        assert len(rebuild(BASE, delta, 10_000)) <= 10_000


def test_a_delta_that_would_grow_beyond_the_bound_is_refused() -> None:
    copy_all = (1 << 31 | 40).to_bytes(4, "little")
    with pytest.raises(MalformedMessage):
        rebuild(BASE, copy_all * 1000, limits.CHUNK_SIZE_BYTES_MAX)


def test_hashes_of_a_wrong_length_are_refused() -> None:
    with pytest.raises(MalformedMessage):
        difference(KEY, b"123", BASE)
