"""What a store of sealed blobs promises. Invariant: a blob is returned whole and verified, or not at all.

One contract suite (`tests/contracts/test_chunk_store_contract.py`) holds every implementation to these docstrings.
All calls block and may be made from any thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from meshsync.crypto.hashing import Buffer
from meshsync.ids import BlobId


@dataclass(frozen=True, slots=True)
class Usage:
    """`blobs` is a count; the rest are bytes: of blobs that can be read, and of all files of the store."""

    blobs: int
    live_bytes: int
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class ScrubReport:
    """What one scrub step found: a count, bytes, the ids quarantined by it, and whether the step reached the end."""

    checked_blobs: int
    checked_bytes: int
    damaged: tuple[BlobId, ...]
    done: bool


class BlobStore(Protocol):
    """Sealed blobs by blob id."""

    def put(self, blobs: Sequence[tuple[BlobId, Buffer]]) -> None:
        """Store `blobs`; on return all of them are durable. Those already there are not stored again.

        Raises BlobCorrupt if one does not hash to its id, MalformedMessage if one is larger than
        STORE_BLOB_BYTES_MAX; nothing is stored then. Raises StorageFull or ResourceError from the disk; some may be
        stored then, each of them whole.
        """

    def get(self, blob: BlobId) -> bytes:
        """Return the verified bytes of `blob`.

        Raises NotFound if it is not there, BlobCorrupt if what is there does not hash to its id; it is then
        quarantined: no longer `has`, listed by `damaged`, and a later `put` of the right bytes replaces it.
        """

    def has(self, blobs: Iterable[BlobId]) -> set[BlobId]:
        """Return those of `blobs` that are durably stored and not known to be damaged."""

    def size(self, blob: BlobId) -> int:
        """Return the size of `blob` in bytes. Raises NotFound."""

    def delete(self, blobs: Sequence[BlobId]) -> None:
        """Forget `blobs`, durably on return; absent ones have no effect. Raises ResourceError."""

    def ids(self, after: bytes = b"") -> Iterator[BlobId]:
        """Yield the ids of all stored blobs above `after`, ascending. Blobs put or deleted meanwhile may be missed."""

    def damaged(self) -> list[BlobId]:
        """Return the ids in quarantine, in ascending order."""

    def scrub(self, limit_bytes: int) -> ScrubReport:
        """Verify blobs from where the last step ended, until `limit_bytes` are checked or the end is reached."""

    def compact(self, packs_max: int) -> int:
        """Give back the space of deleted blobs, of at most `packs_max` packs; return the bytes freed.

        At any time, also after a crash, each live blob is stored. Raises StorageFull or ResourceError.
        """

    def usage(self) -> Usage:
        """Return what the store holds."""

    def close(self) -> None:
        """Release files and locks. The store must not be used afterwards."""
