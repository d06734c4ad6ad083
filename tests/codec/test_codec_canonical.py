"""Canonical bytes: one encoding for each value. Spec: docs/spec/crypto.md 1."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.codec.canonical import Record, decode, encode
from meshsync.errors import MalformedMessage


class Pair(Record, frozen=True):
    number: int
    data: bytes


class Nested(Record, frozen=True):
    pairs: tuple[Pair, ...]
    flag: bool
    maybe: bytes | None


pairs = st.builds(Pair, st.integers(-(1 << 63), (1 << 64) - 1), st.binary(max_size=20))
nested = st.builds(Nested, st.lists(pairs, max_size=5).map(tuple), st.booleans(), st.none() | st.binary(max_size=5))


def test_bytes_are_those_of_the_specification() -> None:
    value = Nested((Pair(1, b"ab"), Pair(300, b"")), True, None)
    assert encode(value).hex() == "93929201c402616292cd012cc400c3c0"


@given(nested)
def test_what_was_encoded_decodes(value: Nested) -> None:
    assert decode(Nested, encode(value), 1000) == value


@given(nested, st.data())
def test_whatever_decodes_is_the_encoding_of_what_it_decodes_to(value: Nested, data: st.DataObject) -> None:
    damaged = bytearray(encode(value))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MalformedMessage):
        assert encode(decode(Nested, damaged, 1000)) == damaged


@pytest.mark.parametrize(
    "data",
    [
        "",
        "92",
        "9201",
        "9201c4026162ff",
        "9301c4026162c0",
        "92cc01c4026162",
        "9201c500026162",
        "dc000201c4026162",
        "9201a26162",
        "92cb3ff0000000000000c4026162",
        "82a66e756d62657201a464617461c4026162",
        "92cfffffffffffffffffc6ffffffff",
        "91" * 2000,
        "c1",
    ],
    ids=[
        "empty",
        "stump",
        "short",
        "trailing",
        "extra",
        "long-int",
        "long-bin",
        "long-array",
        "text",
        "float",
        "map",
        "lying-length",
        "depth",
        "unused",
    ],
)
def test_any_other_form_is_refused(data: str) -> None:
    with pytest.raises(MalformedMessage):
        decode(Pair, bytes.fromhex(data), 10_000)


def test_bytes_beyond_the_bound_are_not_looked_at() -> None:
    value = encode(Pair(1, b"ab"))
    assert decode(Pair, value, len(value)) == Pair(1, b"ab")
    with pytest.raises(MalformedMessage):
        decode(Pair, value, len(value) - 1)


@given(st.binary(max_size=60))
def test_junk_never_crashes(junk: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        decode(Nested, junk, 1000)
