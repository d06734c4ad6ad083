"""Sealing and boxes. Spec: docs/spec/crypto.md 5, 6."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_scalarmult_base
from nacl.public import PrivateKey, PublicKey, SealedBox

from meshsync.crypto.envelope import BOX_OVERHEAD_BYTES, box, unbox
from meshsync.crypto.sealing import OVERHEAD_BYTES, seal, unseal
from meshsync.errors import AuthenticationFailed, MalformedMessage

KEY, NONCE_KEY = b"k" * 32, b"n" * 32
SECRET, EPHEMERAL = b"r" * 32, b"e" * 32
PUBLIC = crypto_scalarmult_base(SECRET)
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "crypto.json").read_text())


class TestSeal:
    def test_bytes_are_those_of_the_specification(self) -> None:
        assert seal(KEY, NONCE_KEY, b"associated", b"plaintext").hex() == VECTORS["sealed"]

    @given(plaintext=st.binary(max_size=300), associated=st.binary(max_size=40), prefix=st.binary(max_size=3))
    def test_what_was_sealed_opens(self, plaintext: bytes, associated: bytes, prefix: bytes) -> None:
        sealed = seal(KEY, NONCE_KEY, associated, plaintext, prefix)
        assert len(sealed) == len(prefix) + len(plaintext) + OVERHEAD_BYTES and sealed.startswith(prefix)
        assert unseal(KEY, associated, sealed, len(prefix)) == plaintext

    @given(plaintext=st.binary(max_size=100), data=st.data())
    def test_any_flipped_bit_is_noticed(self, plaintext: bytes, data: st.DataObject) -> None:
        sealed = bytearray(seal(KEY, NONCE_KEY, b"a", plaintext))
        bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
        sealed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(AuthenticationFailed):
            unseal(KEY, b"a", bytes(sealed))

    def test_equal_input_gives_equal_bytes_and_a_nonce_never_meets_two_messages(self) -> None:
        def nonce(associated: bytes, plaintext: bytes) -> bytes:
            return seal(KEY, NONCE_KEY, associated, plaintext)[:24]

        assert seal(KEY, NONCE_KEY, b"a", b"p") == seal(KEY, NONCE_KEY, b"a", b"p")
        # The same bytes split otherwise between associated data and plaintext are another message.
        assert len({nonce(b"ab", b"c"), nonce(b"a", b"bc"), nonce(b"", b"abc"), nonce(b"abc", b"")}) == 4

    def test_another_key_or_purpose_does_not_open(self) -> None:
        sealed = seal(KEY, NONCE_KEY, b"a", b"p")
        for key, associated in ((NONCE_KEY, b"a"), (KEY, b"b"), (KEY, b"")):
            with pytest.raises(AuthenticationFailed):
                unseal(key, associated, sealed)

    @pytest.mark.parametrize("size", range(0, OVERHEAD_BYTES))
    def test_too_few_bytes_are_refused(self, size: int) -> None:
        with pytest.raises(AuthenticationFailed):
            unseal(KEY, b"", bytes(size))


class TestBox:
    def test_bytes_are_those_of_the_specification(self) -> None:
        assert box(PUBLIC, EPHEMERAL, b"folder keys").hex() == VECTORS["box"]

    @given(st.binary(max_size=200))
    def test_libsodium_opens_ours_and_we_open_libsodiums(self, plaintext: bytes) -> None:
        ours = box(PUBLIC, EPHEMERAL, plaintext)
        assert len(ours) == len(plaintext) + BOX_OVERHEAD_BYTES
        assert SealedBox(PrivateKey(SECRET)).decrypt(ours) == plaintext == unbox(SECRET, ours)
        assert unbox(SECRET, SealedBox(PublicKey(PUBLIC)).encrypt(plaintext)) == plaintext

    @given(st.data())
    def test_any_flipped_bit_is_noticed(self, data: st.DataObject) -> None:
        boxed = bytearray(box(PUBLIC, EPHEMERAL, b"folder keys"))
        bit = data.draw(st.integers(0, len(boxed) * 8 - 1))
        boxed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(AuthenticationFailed):
            unbox(SECRET, bytes(boxed))

    def test_another_device_or_a_stump_does_not_open(self) -> None:
        boxed = box(PUBLIC, EPHEMERAL, b"folder keys")
        for secret, stump in ((EPHEMERAL, boxed), (SECRET, boxed[:47]), (SECRET, b"")):
            with pytest.raises(AuthenticationFailed):
                unbox(secret, stump)

    @pytest.mark.parametrize("public", [b"", bytes(31), bytes(32), b"\x01" + bytes(31)])
    def test_a_key_of_wrong_length_or_low_order_gets_no_box(self, public: bytes) -> None:
        with pytest.raises(MalformedMessage):
            box(public, EPHEMERAL, b"folder keys")
