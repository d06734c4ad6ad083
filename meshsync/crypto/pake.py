"""CPace (draft-irtf-cfrg-cpace-21), suite CPACE-X25519-SHA512: a shared key from a short password, over libsodium.

Invariant: what leaves this module of a password is one public share, which tells nothing about it; whoever does not
know it can test one guess per run, and only by taking part. The secret point is never returned.

How libsodium gives the draft's group: its Elligator 2 map multiplies the point by the cofactor 8, and every X25519
scalar is a multiple of 8, so `scalar · map` of the draft is `(scalar / 8) · (8 · map)` here. Its vectors hold.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from nacl.bindings import (
    crypto_core_ed25519_from_uniform,
    crypto_scalarmult,
    crypto_scalarmult_ed25519_noclamp,
    crypto_sign_ed25519_pk_to_curve25519,
)
from nacl.exceptions import CryptoError
from nacl.exceptions import RuntimeError as LibraryError

from meshsync.errors import AuthenticationFailed

SHARE_SIZE_BYTES = 32
SCALAR_SIZE_BYTES = 32
KEY_SIZE_BYTES = 64
CONFIRMATION_SIZE_BYTES = 64

_SUITE = b"CPace255"
_HASH_BLOCK_BYTES = 128


@dataclass(frozen=True, slots=True)
class Said:
    """What one party sends: its public `share` (32 bytes) and the `data` that goes with it."""

    share: bytes
    data: bytes


def joined(*parts: bytes) -> bytes:
    """Return `parts`, each after its length (the draft's `lv_cat`): no two lists give one result."""
    return b"".join(_length(len(part)) + part for part in parts)


def make_share(password: bytes, channel: bytes, session: bytes, scalar: bytes) -> bytes:
    """Return the public share of the party that chose `scalar`, 32 fresh random bytes that are used for one run only.

    `channel` and `session` are what both parties must see alike: who they are, and a name that no other run has.
    """
    generator = crypto_core_ed25519_from_uniform(_field_element(password, channel, session))
    clamped = bytearray(scalar)
    clamped[0] &= 248
    clamped[31] = clamped[31] & 127 | 64
    eighth = (int.from_bytes(clamped, "little") >> 3).to_bytes(SCALAR_SIZE_BYTES, "little")
    return crypto_sign_ed25519_pk_to_curve25519(crypto_scalarmult_ed25519_noclamp(eighth, generator))


def shared_key(scalar: bytes, session: bytes, first: Said, second: Said, other: bytes) -> bytes:
    """Return the 64 bytes that both parties have if they used one password, one channel and one session.

    `first` and `second` are what the party that speaks first and the other one said; `other` is the share of the two
    that is not this party's. Raises AuthenticationFailed for a share that no honest party sends.
    """
    try:
        point = crypto_scalarmult(scalar, other)
    except (LibraryError, CryptoError) as error:
        raise AuthenticationFailed("a share of the key exchange is a point of low order") from error
    transcript = joined(first.share, first.data) + joined(second.share, second.data)
    return hashlib.sha512(joined(_SUITE + b"_ISK", session, point) + transcript).digest()


def confirmation(key: bytes, session: bytes, said: Said) -> bytes:
    """Return the 64 bytes by which a party that said `said` shows that it has `key`."""
    mac_key = hashlib.sha512(b"CPaceMac" + session + key).digest()
    return hmac.digest(mac_key, joined(said.share, said.data), "sha512")


def confirms(key: bytes, session: bytes, said: Said, given: bytes) -> bool:
    """Whether `given` is the confirmation of the party that said `said`; the time tells nothing."""
    return hmac.compare_digest(confirmation(key, session, said), given)


def _field_element(password: bytes, channel: bytes, session: bytes) -> bytes:
    filling = max(0, _HASH_BLOCK_BYTES - len(joined(password)) - len(joined(_SUITE)) - 1)
    hashed = hashlib.sha512(joined(_SUITE, password, bytes(filling), channel, session)).digest()[:32]
    return hashed[:31] + bytes([hashed[31] & 127])


def _length(size: int) -> bytes:
    encoded = bytearray()
    while size >= 128:
        encoded.append(size & 127 | 128)
        size >>= 7
    encoded.append(size)
    return bytes(encoded)
