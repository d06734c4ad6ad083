"""Hashes and key derivation. Invariant: no two uses share a domain.

BLAKE3 (O'Connor et al., 2020) names bytes; BLAKE2b (RFC 7693) with key, salt and person derives keys.
"""

from __future__ import annotations

import hashlib
from typing import TypeAlias

from blake3 import blake3

from meshsync.ids import BlobId

Buffer: TypeAlias = bytes | bytearray | memoryview


def digest(kind: str, data: Buffer) -> bytes:
    """Return the 32-byte BLAKE3 hash of `data` in the domain `kind`, a fixed word of the format."""
    return blake3(data, derive_key_context=f"meshsync/1/{kind}").digest()


def blob_id(sealed: Buffer) -> BlobId:
    """Return the id of sealed bytes: plain BLAKE3, so that anyone can check it."""
    return BlobId(blake3(sealed).digest())


def keyed(key: bytes, data: Buffer) -> bytes:
    """Return the 32-byte keyed BLAKE3 hash of `data`. `key` has 32 bytes."""
    return blake3(data, key=key).digest()


def derive(key: bytes, person: bytes, salt: bytes = b"", size: int = 32) -> bytes:
    """Return `size` bytes (at most 64) derived from `key` (at most 64 bytes).

    `person` and `salt` have at most 16 bytes each; `person` names the purpose and is a fixed word of the format.
    """
    return hashlib.blake2b(key=key, salt=salt, person=person, digest_size=size).digest()
