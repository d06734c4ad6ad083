"""Boxes: bytes for one X25519 key, from nobody in particular. The bytes of libsodium's `crypto_box_seal`.

Invariant: a box says nothing about its sender; who delivers keys in one must commit to them in a signed entry.
The ephemeral secret comes from the caller, because libsodium's own randomness cannot be replayed from a seed.
"""

from __future__ import annotations

import hashlib

from nacl.bindings import crypto_box_easy, crypto_box_seal_open, crypto_scalarmult_base
from nacl.exceptions import CryptoError

from meshsync.errors import AuthenticationFailed, MalformedMessage

BOX_OVERHEAD_BYTES = 48  # ephemeral public key (32) and tag (16)


def box(recipient_public: bytes, ephemeral_secret: bytes, plaintext: bytes) -> bytes:
    """Return ephemeral public key (32) ‖ tag (16) ‖ ciphertext.

    `recipient_public` is an X25519 key from outside: MalformedMessage if it is not 32 bytes or of low order.
    `ephemeral_secret` is 32 fresh random bytes, used for this box only and forgotten by the caller.
    """
    ephemeral_public = crypto_scalarmult_base(ephemeral_secret)
    nonce = hashlib.blake2b(ephemeral_public + recipient_public, digest_size=24).digest()
    try:
        return ephemeral_public + crypto_box_easy(plaintext, nonce, recipient_public, ephemeral_secret)
    except (CryptoError, ValueError) as error:
        raise MalformedMessage("not an X25519 public key") from error


def unbox(secret: bytes, boxed: bytes) -> bytes:
    """Return the plaintext of a box for the 32-byte X25519 `secret`.

    Raises AuthenticationFailed if it was made for another key or altered.
    """
    if len(boxed) < BOX_OVERHEAD_BYTES:
        raise AuthenticationFailed(f"{len(boxed)} bytes are too few to be a box")
    try:
        return crypto_box_seal_open(boxed, crypto_scalarmult_base(secret), secret)
    except CryptoError as error:
        raise AuthenticationFailed("the box does not open with this device's key") from error
