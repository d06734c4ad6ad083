"""The check before anything is stored. Invariant: no bytes enter a store under an id that they do not hash to."""

from __future__ import annotations

from collections.abc import Sequence

from meshsync.crypto.hashing import Buffer, blob_id
from meshsync.errors import BlobCorrupt, MalformedMessage
from meshsync.ids import BlobId, short
from meshsync.limits import STORE_BLOB_BYTES_MAX


def check_blobs(blobs: Sequence[tuple[BlobId, Buffer]]) -> None:
    """Raise BlobCorrupt if one of `blobs` does not hash to its id, MalformedMessage if one is too large."""
    for blob, data in blobs:
        if len(data) > STORE_BLOB_BYTES_MAX:
            raise MalformedMessage(f"a blob of {len(data)} bytes exceeds the bound of {STORE_BLOB_BYTES_MAX} bytes")
        if blob_id(data) != blob:
            raise BlobCorrupt(f"the bytes sent as blob {short(blob)} do not hash to it")
