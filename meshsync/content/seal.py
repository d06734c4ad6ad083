"""Blobs: compress, pad, seal; and back.

Invariant: a blob opens only as what it was sealed as: kind, suite, folder and epoch are authenticated with it. Equal
input gives an equal blob within one zstd build, which saves space; nothing depends on it. Spec: docs/spec/content.md 2.
"""

from __future__ import annotations

import enum
from functools import lru_cache

from meshsync.codec.canonical import Record, encode
from meshsync.content.payload import pack, payload_size_max, unpack
from meshsync.crypto.folder_keys import FolderKeys
from meshsync.crypto.hashing import Buffer
from meshsync.crypto.sealing import OVERHEAD_BYTES, seal, unseal
from meshsync.errors import AuthenticationFailed, IntegrityError
from meshsync.ids import EpochId, FolderId, short
from meshsync.limits import ASSOCIATED_CACHED_MAX, SUITE


class BlobKind(enum.IntEnum):
    """What a blob holds. A blob of one kind never opens as another."""

    CHUNK = 1  # a chunk of a file
    MANIFEST = 2  # a list of chunks or of lists
    BATCH = 3  # an entry's operations
    STORED = 4  # the sealed list of a stored record
    DELTA = 5  # a chunk as the difference to another


_VERSION = b"\x01"


class _Associated(Record, frozen=True):
    kind: int
    suite: int
    folder: bytes
    epoch: bytes


def seal_chunk(keys: FolderKeys, epoch: EpochId, kind: BlobKind, plaintext: Buffer) -> bytes:
    """Return the blob: version (1) ‖ nonce (24) ‖ ciphertext ‖ tag (16). Safe from any thread.

    Raises AccessError if the key of `epoch` is not held.
    """
    associated = _associated(kind, keys.folder, epoch)
    return seal(keys.seal_key(epoch), keys.nonce_key(epoch), associated, pack(plaintext), prefix=_VERSION)


def unseal_chunk(keys: FolderKeys, epoch: EpochId, kind: BlobKind, blob: bytes, size_max: int) -> bytes:
    """Return the plaintext, at most `size_max` bytes. Its chunk id is the caller's to check. Safe from any thread.

    Raises AuthenticationFailed if `blob` is altered or was sealed as another kind or for another folder or epoch,
    IntegrityError if what it holds is malformed, DecompressionBomb if too long, AccessError if the key is not held.
    """
    if blob[:1] != _VERSION:
        raise AuthenticationFailed("not a blob of a format that this build knows", folder=short(keys.folder))
    if len(blob) > blob_size_max(size_max):
        raise IntegrityError(f"a blob of {len(blob)} bytes for at most {size_max} bytes", folder=short(keys.folder))
    associated = _associated(kind, keys.folder, epoch)
    return unpack(unseal(keys.seal_key(epoch), associated, blob, start=len(_VERSION)), size_max)


def blob_size_max(size_max: int) -> int:
    """Return the length in bytes that no blob of at most `size_max` bytes of plaintext exceeds."""
    return len(_VERSION) + OVERHEAD_BYTES + payload_size_max(size_max)


@lru_cache(maxsize=ASSOCIATED_CACHED_MAX)
def _associated(kind: BlobKind, folder: FolderId, epoch: EpochId) -> bytes:
    return encode(_Associated(int(kind), SUITE, folder, epoch))
