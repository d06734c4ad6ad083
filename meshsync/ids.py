"""The ids that everything else is named by. Invariant: an id is bytes of one fixed length, and never changes.

Ids are plain `bytes` at run time (hashable, ordered, usable as database keys) and distinct types to mypy.
"""

from __future__ import annotations

import struct
from typing import NewType

from meshsync.errors import MalformedMessage

DeviceId = NewType("DeviceId", bytes)
"""32 bytes: the device's Ed25519 public key, for life."""

FolderId = NewType("FolderId", bytes)
"""32 bytes: hash of the folder's signed genesis entry."""

EntryId = NewType("EntryId", bytes)
"""32 bytes: hash of an entry's envelope bytes."""

ChainId = NewType("ChainId", bytes)
"""32 bytes: the id of the first entry of a device's chain."""

RecordId = NewType("RecordId", bytes)
"""32 bytes: hash of any record in the relay's log (for an entry, its EntryId)."""

EpochId = NewType("EpochId", bytes)
"""32 bytes: commitment to an epoch key."""

ChunkId = NewType("ChunkId", bytes)
"""32 bytes: keyed hash of a chunk's plaintext. Appears only inside sealed payloads and member links."""

BlobId = NewType("BlobId", bytes)
"""32 bytes: hash of sealed bytes. Anyone can verify it."""

Dot = NewType("Dot", bytes)
"""44 bytes: chain (32) + sequence number (u64, big endian) + index in the batch (u32, big endian).
Names one operation; versions and placements are named by the dot of the operation that made them."""

NodeId = NewType("NodeId", bytes)
"""44 bytes (the dot of the creating operation), 32 bytes (hash, for a conflict copy), or 0 bytes (the root)."""

ROOT = NodeId(b"")
ID_SIZE_BYTES = 32
DOT_SIZE_BYTES = 44

_TAIL = struct.Struct(">QI")


def dot(chain: ChainId, seq: int, index: int) -> Dot:
    """Name the operation at `index` (from 0) of entry `seq` (from 1) of `chain`."""
    return Dot(chain + _TAIL.pack(seq, index))


def dot_parts(value: Dot) -> tuple[ChainId, int, int]:
    """Return (chain, seq, index). Raises MalformedMessage if `value` is not 44 bytes."""
    if len(value) != DOT_SIZE_BYTES:
        raise MalformedMessage(f"a dot has {DOT_SIZE_BYTES} bytes, not {len(value)}")
    seq, index = _TAIL.unpack_from(value, ID_SIZE_BYTES)
    return ChainId(value[:ID_SIZE_BYTES]), seq, index


def short(value: bytes) -> str:
    """Return the first 10 hex digits of an id, for messages to people."""
    return value[:5].hex()
