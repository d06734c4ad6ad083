"""Chunk ids: the keyed names of plaintext.

Invariant: an id is checked after opening and before use, so no sealed bytes, however made, pass for another chunk.
"""

from __future__ import annotations

from meshsync.content.seal import BlobKind
from meshsync.crypto.folder_keys import FolderKeys
from meshsync.crypto.hashing import Buffer, keyed
from meshsync.errors import ChunkMismatch
from meshsync.ids import ChunkId, short


def chunk_id(keys: FolderKeys, kind: BlobKind, plaintext: Buffer) -> ChunkId:
    """Return the id of a data chunk (CHUNK) or of a manifest list (MANIFEST); the two never share an id."""
    assert kind in (BlobKind.CHUNK, BlobKind.MANIFEST), f"{kind.name} blobs have no chunk id"
    return ChunkId(keyed(keys.chunk_key if kind is BlobKind.CHUNK else keys.manifest_key, plaintext))


def check_chunk(keys: FolderKeys, kind: BlobKind, expected: ChunkId, plaintext: Buffer) -> None:
    """Return if `plaintext` is the chunk `expected`; raise ChunkMismatch otherwise."""
    if chunk_id(keys, kind, plaintext) != expected:
        raise ChunkMismatch(f"opened bytes are not chunk {short(expected)}", folder=short(keys.folder))
