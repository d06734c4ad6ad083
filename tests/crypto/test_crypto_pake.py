"""The password-authenticated key exchange. Spec: docs/spec/crypto.md 8; vectors of draft-irtf-cfrg-cpace-21."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.crypto.pake import Said, confirmation, confirms, joined, make_share, shared_key
from meshsync.errors import AuthenticationFailed

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "cpace.json").read_text())
SCALARS = st.binary(min_size=32, max_size=32)
TEXTS = st.binary(max_size=200)


def vector(name: str) -> bytes:
    return bytes.fromhex(VECTORS[name])


def run(one: bytes, other: bytes, secrets: tuple[bytes, bytes], channels: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """Let a party with each password and channel run; return the key that each has."""
    shares = [
        make_share(word, place, b"s", scalar)
        for word, place, scalar in zip((one, other), channels, secrets, strict=True)
    ]
    first, second = Said(shares[0], b"first"), Said(shares[1], b"second")
    return (
        shared_key(secrets[0], b"s", first, second, second.share),
        shared_key(secrets[1], b"s", first, second, first.share),
    )


def test_shares_and_key_are_those_of_the_draft() -> None:
    shares = [make_share(vector("password"), vector("channel"), vector("session"), vector(f"scalar_{p}")) for p in "ab"]
    assert [share.hex() for share in shares] == [VECTORS["share_a"], VECTORS["share_b"]]
    first, second = Said(shares[0], vector("data_a")), Said(shares[1], vector("data_b"))
    keys = {
        shared_key(vector("scalar_a"), vector("session"), first, second, second.share).hex(),
        shared_key(vector("scalar_b"), vector("session"), first, second, first.share).hex(),
    }
    assert keys == {VECTORS["key"]}


@pytest.mark.parametrize("share", VECTORS["low_order_shares"])
def test_a_share_of_low_order_is_refused(share: str) -> None:
    said = Said(bytes.fromhex(share), b"")
    with pytest.raises(AuthenticationFailed):
        shared_key(vector("low_order_scalar"), b"s", said, said, said.share)


@given(password=TEXTS, secrets=st.tuples(SCALARS, SCALARS), channel=TEXTS)
def test_one_password_gives_one_key_that_both_confirm(
    password: bytes, secrets: tuple[bytes, bytes], channel: bytes
) -> None:
    key, same = run(password, password, secrets, (channel, channel))
    assert key == same
    said = Said(b"s" * 32, b"data")
    assert confirms(key, b"s", said, confirmation(same, b"s", said))


@given(one=TEXTS, other=TEXTS, secrets=st.tuples(SCALARS, SCALARS), channels=st.tuples(TEXTS, TEXTS))
def test_another_password_or_channel_gives_another_key(
    one: bytes, other: bytes, secrets: tuple[bytes, bytes], channels: tuple[bytes, bytes]
) -> None:
    key, theirs = run(one, other, secrets, channels)
    assert (key == theirs) == (one == other and channels[0] == channels[1])


@given(data=st.data(), key=st.binary(min_size=64, max_size=64), share=SCALARS)
def test_a_confirmation_is_of_one_key_one_session_and_one_party(data: st.DataObject, key: bytes, share: bytes) -> None:
    given_ = confirmation(key, b"session", Said(share, b"joiner"))
    assert not confirms(key, b"session", Said(share, b"inviter"), given_)
    assert not confirms(key, b"another", Said(share, b"joiner"), given_)
    bit = data.draw(st.integers(0, len(given_) * 8 - 1))
    flipped = bytearray(given_)
    flipped[bit // 8] ^= 1 << bit % 8
    assert not confirms(key, b"session", Said(share, b"joiner"), bytes(flipped))


@given(st.lists(TEXTS, max_size=4), st.lists(TEXTS, max_size=4))
def test_no_two_lists_are_joined_to_one(one: list[bytes], other: list[bytes]) -> None:
    assert (joined(*one) == joined(*other)) == (one == other)


def test_lengths_are_those_of_the_draft() -> None:
    assert [joined(bytes(size))[:2].hex() for size in (0, 1, 127, 128, 129)] == ["00", "0100", "7f00", "8001", "8101"]
