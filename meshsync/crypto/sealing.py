"""XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03, libsodium) with a synthetic nonce.

Invariant: the nonce is a keyed hash of exactly what is encrypted and authenticated, so under one key a nonce never
meets two messages, and equal input gives equal bytes. Opening needs no nonce key.
"""

from __future__ import annotations

from blake3 import blake3
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt, crypto_aead_xchacha20poly1305_ietf_encrypt
from nacl.exceptions import CryptoError

from meshsync.errors import AuthenticationFailed

NONCE_SIZE_BYTES = 24
TAG_SIZE_BYTES = 16
OVERHEAD_BYTES = NONCE_SIZE_BYTES + TAG_SIZE_BYTES


def seal(key: bytes, nonce_key: bytes, associated: bytes, plaintext: bytes, prefix: bytes = b"") -> bytes:
    """Return prefix ‖ nonce (24) ‖ ciphertext ‖ tag (16), in bytes.

    `key` and `nonce_key` have 32 bytes. `associated` is authenticated and not sent. `prefix` goes before the result
    as it is, unauthenticated: it saves the caller a copy of the whole.
    """
    hasher = blake3(len(associated).to_bytes(8, "big") + associated, key=nonce_key)
    nonce = hasher.update(plaintext).digest(NONCE_SIZE_BYTES)
    return b"".join((prefix, nonce, crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, associated, nonce, key)))


def unseal(key: bytes, associated: bytes, sealed: bytes, start: int = 0) -> bytes:
    """Return the plaintext of what `seal` returned, which begins at byte `start` of `sealed`.

    Raises AuthenticationFailed if a byte was altered or `key` or `associated` differ.
    """
    body = start + NONCE_SIZE_BYTES
    if len(sealed) < start + OVERHEAD_BYTES:
        raise AuthenticationFailed(f"{len(sealed) - start} bytes are too few to be sealed bytes")
    try:
        return crypto_aead_xchacha20poly1305_ietf_decrypt(sealed[body:], associated, sealed[start:body], key)
    except CryptoError as error:
        raise AuthenticationFailed("sealed bytes do not open with this key and purpose") from error
