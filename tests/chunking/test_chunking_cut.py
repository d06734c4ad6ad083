"""Cut points. Spec: docs/spec/content.md 1."""

from __future__ import annotations

import hashlib
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.chunking.cut import CutParams, Cutter, cut
from meshsync.errors import FormatUnsupported
from meshsync.limits import CHUNK_SIZE_BYTES_MAX, CHUNK_SIZE_BYTES_MEAN, CHUNK_SIZE_BYTES_MIN

SMALL = CutParams(64, 256, 1024)
USUAL = CutParams(CHUNK_SIZE_BYTES_MIN, CHUNK_SIZE_BYTES_MEAN, CHUNK_SIZE_BYTES_MAX)
SEED = 0x1234_5678_9ABC_DEF1

files = st.builds(
    lambda seed, size: random.Random(seed).randbytes(size), st.integers(0, 10**6), st.integers(0, 12_000)
) | st.builds(lambda byte, size: bytes([byte]) * size, st.integers(0, 255), st.integers(0, 5000))


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def chunks(data: bytes, seed: int = SEED, params: CutParams = SMALL) -> list[bytes]:
    result, at = [], 0
    for length in cut(data, seed, params):
        result.append(data[at : at + length])
        at += length
    return result


def test_cut_points_are_those_of_the_specification() -> None:
    data = b"".join(hashlib.sha256(at.to_bytes(4, "big")).digest() for at in range(128))
    assert cut(data, SEED, SMALL) == [386, 301, 263, 256, 272, 257, 313, 297, 273, 416, 257, 464, 337, 4]


@given(files)
def test_chunks_make_up_the_file_and_keep_the_bounds(data: bytes) -> None:
    lengths = cut(data, SEED, SMALL)
    assert sum(lengths) == len(data)
    assert all(SMALL.min <= length <= SMALL.max for length in lengths[:-1])
    assert all(1 <= length <= SMALL.max for length in lengths[-1:])


@given(files, st.lists(st.integers(0, 5000), max_size=8))
def test_windows_do_not_change_the_chunks(data: bytes, sizes: list[int]) -> None:
    cutter, got, at = Cutter(SEED, SMALL), [], 0
    for size in sizes:
        got += [bytes(chunk) for chunk in cutter.feed(data[at : at + size])]
        at = min(len(data), at + size)
    got += [bytes(chunk) for chunk in cutter.feed(data[at:], last=True)]
    assert got == chunks(data)


def test_no_more_than_a_chunk_is_held_between_windows() -> None:
    cutter, fed, given_out = Cutter(SEED, SMALL), 0, 0
    for at in range(200):
        fed += 700
        given_out += sum(len(chunk) for chunk in cutter.feed(noise(700, at)))
        assert fed - given_out < SMALL.max


def test_whole_chunks_inside_a_window_are_views_not_copies() -> None:
    window = noise(10_000)
    assert all(chunk.obj is window for chunk in Cutter(SEED, SMALL).feed(window, last=True))


@given(files, st.integers(0, 60))
def test_cutting_on_from_any_cut_point_gives_the_same_rest(data: bytes, number: int) -> None:
    """Why an edit is local: chunks before it stay, and from the first shared cut point after it on all are equal."""
    lengths = cut(data, SEED, SMALL)
    assert cut(data[sum(lengths[:number]) :], SEED, SMALL) == lengths[number:]


def test_a_local_edit_moves_few_cut_points() -> None:
    """The usual proportions at a sixteenth of the size, 150 edits of at most 40 bytes in files of about 45 chunks."""
    params, source, changed = CutParams(1024, 4096, 16384), random.Random(3), []
    for _ in range(150):
        before = source.randbytes(200_000)
        at, removed, inserted = source.randrange(200_000), source.randrange(40), source.randbytes(source.randrange(40))
        after = before[:at] + inserted + before[at + removed :]
        changed.append(len(set(chunks(after, SEED, params)) - set(chunks(before, SEED, params))))
    assert statistics.mean(changed) <= 1.2 and statistics.quantiles(changed, n=20)[-1] <= 2


def test_folders_cut_the_same_file_differently() -> None:
    data = noise(50_000)
    assert not set(chunks(data, SEED)) & set(chunks(data, SEED ^ 0x55))


def test_the_usual_parameters_give_chunks_of_about_the_mean() -> None:
    lengths = cut(noise(8 << 20), SEED, USUAL)
    assert 0.9 < 8 * 1024 * 1024 / len(lengths) / USUAL.mean < 1.3


@pytest.mark.parametrize(
    "sizes",
    [
        (0, 0, 0),
        (63, 256, 1024),
        (64, 256, 1023),
        (512, 256, 1024),
        (64, 300, 1024),
        (64, 2048, 1024),
        (-1, 256, 1024),
        (16384, 65536, CHUNK_SIZE_BYTES_MAX + 1),
        (64, 128, 1024),
    ],
)
def test_parameters_that_this_build_cannot_cut_with_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(FormatUnsupported):
        CutParams(*sizes)
