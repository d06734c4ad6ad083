"""docs/spec/wire.md 1: u32 length ‖ u8 type ‖ body."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.errors import MalformedMessage, PeerOverran
from meshsync.wire.frames import FrameDecoder, encode_frame, frame_header

VECTORS = {
    "empty body": ((0, b""), "0000000100"),
    "one byte": ((7, b"\xaa"), "0000000207aa"),
    "highest type": ((255, b"mesh"), "00000005ff6d657368"),
}


@pytest.mark.parametrize("name", VECTORS)
def test_vectors(name: str) -> None:
    (kind, body), encoded = VECTORS[name]
    assert encode_frame(kind, body).hex() == encoded
    assert frame_header(kind, len(body)) + body == bytes.fromhex(encoded)
    assert FrameDecoder(4).feed(bytes.fromhex(encoded)) == [(kind, body)]


@given(
    frames=st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40))),
    cuts=st.lists(st.integers(1, 50), min_size=1),
)
def test_frames_come_out_alike_wherever_the_stream_is_cut(frames: list[tuple[int, bytes]], cuts: list[int]) -> None:
    stream = b"".join(encode_frame(kind, body) for kind, body in frames)
    decoder = FrameDecoder(40)
    out: list[tuple[int, bytes]] = []
    turn = 0
    while stream:
        size = cuts[turn % len(cuts)]
        piece, stream = stream[:size], stream[size:]
        out += decoder.feed(piece)
        turn += 1
    assert out == frames
    assert decoder.at_boundary


def test_a_frame_at_the_bound_passes_and_one_byte_more_is_refused_by_its_header() -> None:
    assert FrameDecoder(10).feed(encode_frame(1, bytes(10))) == [(1, bytes(10))]
    with pytest.raises(PeerOverran):
        FrameDecoder(10).feed(encode_frame(1, bytes(11))[:5])


def test_a_frame_without_a_type_is_refused() -> None:
    with pytest.raises(MalformedMessage):
        FrameDecoder(10).feed(bytes(5))


def test_an_unfinished_frame_is_not_a_boundary() -> None:
    decoder = FrameDecoder(10)
    assert decoder.feed(b"\0\0") == []
    assert not decoder.at_boundary


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_typed_errors(data: bytes) -> None:
    with contextlib.suppress(MalformedMessage, PeerOverran):
        FrameDecoder(100).feed(data)


@pytest.mark.benchmark
def test_rate_at_which_chunk_frames_are_decoded() -> None:
    stream = encode_frame(1, bytes(65_536)) * 400
    decoder = FrameDecoder(65_536)
    start = time.perf_counter()
    count = sum(len(decoder.feed(stream[at : at + 1400])) for at in range(0, len(stream), 1400))
    rate = len(stream) / 1e6 / (time.perf_counter() - start)
    print(f"{rate:.0f} MB/s")
    assert count == 400
