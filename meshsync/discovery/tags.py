"""Rotating tags: how members recognise each other in an announcement that tells others nothing.

Invariant: a tag is a keyed hash over a fresh nonce, so without the key two announcements cannot be linked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from meshsync.crypto.hashing import keyed
from meshsync.discovery.base import Found

TAG_SIZE_BYTES = 8
NONCE_SIZE_BYTES = 8

K = TypeVar("K")


def make_tag(key: bytes, nonce: bytes, port: int) -> bytes:
    """Return the 8-byte tag of the 32-byte `key` for an announcement with `nonce` (8 bytes) and UDP `port`."""
    return keyed(key, nonce + port.to_bytes(2, "big"))[:TAG_SIZE_BYTES]


def make_tags(keys: Sequence[bytes], nonce: bytes, port: int) -> tuple[bytes, ...]:
    """Return the tags of `keys`, in an order that says nothing about the keys."""
    return tuple(sorted(make_tag(key, nonce, port) for key in keys))


def match_tags(keys: Mapping[K, bytes], found: Found) -> list[K]:
    """Return the names in `keys` (name → 32-byte key) that `found` carries a tag of, in the order of `keys`."""
    tags = set(found.tags)
    return [name for name, key in keys.items() if make_tag(key, found.nonce, found.port) in tags]
