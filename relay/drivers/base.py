"""What the relay needs of its storage: a metadata log, a chunk store, a hint bus. Chosen by URL in `relay.config`.

Invariant: a call that returned is durable. Shard key is the folder: every call but `folders`, `claimed`, `enrolled` and
`wait` concerns one folder and is one transaction. One contract suite
(`tests/contracts/test_relay_drivers_contract.py`) holds every driver.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from meshsync.ids import BlobId, DeviceId, FolderId, RecordId
from meshsync.store.base import ScrubReport, Usage


@dataclass(frozen=True, slots=True)
class Place:
    """Who signed a record and, of an entry, where it stands: chain and sequence number (else empty and 0)."""

    device: DeviceId
    chain: bytes
    seq: int


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a folder's log. `index` counts from 1; `head` is the chained hash that includes this record.

    `enrols` is the device that a membership entry makes a member although it is never there. `wait_s`: of a retire
    record, for how many seconds it is not carried out.
    """

    index: int
    id: RecordId
    kind: int
    data: bytes
    head: bytes
    place: Place | None = None
    enrols: DeviceId | None = None
    wait_s: int = 0


@dataclass(frozen=True, slots=True)
class Known:
    """What is kept of a record to answer questions about it; `dead` is a stored record that keeps nothing any more."""

    index: int
    kind: int
    place: Place | None
    dead: bool = False


@dataclass(frozen=True, slots=True)
class OpenRetire:
    """A retire record that is neither carried out nor cancelled; it is not carried out for another `left_s` seconds."""

    id: RecordId
    left_s: int


@dataclass(frozen=True, slots=True)
class LetGo:
    """What an append ends: `retires` are carried out or cancelled, the stored records `records` keep nothing any more,
    `blobs` are kept for as long as they are leased."""

    retires: tuple[RecordId, ...] = ()
    records: tuple[RecordId, ...] = ()
    blobs: tuple[BlobId, ...] = ()


NOTHING: Final = LetGo()


@dataclass(frozen=True, slots=True)
class FolderState:
    """A folder's log: `index` of its last record and the `head` there. Bytes of blobs and records, used and allowed."""

    index: int
    head: bytes
    bytes_used: int
    bytes_max: int


@dataclass(frozen=True, slots=True)
class Moved:
    """Nothing was written: the log has grown meanwhile to `index`. Decide again."""

    index: int


@dataclass(frozen=True, slots=True)
class OverQuota:
    """Nothing was written: `bytes_free` is less than what was asked for."""

    bytes_free: int


@dataclass(frozen=True, slots=True)
class NotHeld:
    """Nothing was written: the folder no longer holds these blobs."""

    blobs: tuple[BlobId, ...]


class MetadataLog(Protocol):
    """The authoritative log of every folder, and which blobs a folder holds."""

    async def create_folder(self, folder: FolderId, creator: DeviceId, bytes_max: int, first: Row) -> bool:
        """Create `folder` with `first` at index 1 and a quota. Returns False, with nothing changed, if it exists."""

    async def folders(self) -> list[FolderId]:
        """Return all folders in ascending order."""

    async def state(self, folder: FolderId) -> FolderState | None:
        """Return the folder's state, None if it does not exist."""

    async def append(
        self,
        folder: FolderId,
        after: int,
        rows: Sequence[Row],
        pins: Sequence[BlobId] = (),
        let_go: LetGo = NOTHING,
        revived: Sequence[RecordId] = (),
    ) -> Moved | OverQuota | NotHeld | None:
        """Append `rows`, numbered from `after` + 1, if `after` is still the folder's last index; None on success.

        Rows with a place are charged to the folder and to their author. `pins` are the blobs that STORED records among
        `rows`, and the dead ones `revived`, list: they are kept until `let_go` names them; if one is not held, nothing
        is written. All of it happens or nothing does.
        """

    async def retires(self, folder: FolderId) -> list[OpenRetire]:
        """Return the open retire records of `folder`, in the order of the log."""

    async def wait(self, seconds: int) -> None:
        """Count `seconds`, during which the relay ran, towards what open retire records of all folders wait for."""

    async def read(
        self, folder: FolderId, start: int, bytes_max: int, items_max: int, kinds: Sequence[int] = ()
    ) -> list[Row]:
        """Return rows from index `start` on: at least one if there is one, then as many as the bounds allow.

        With `kinds`, only rows of these kinds.
        """

    async def find(self, folder: FolderId, records: Iterable[RecordId]) -> dict[RecordId, Known]:
        """Return what is known of those of `records` that the folder's log holds."""

    async def places(self, folder: FolderId, places: Iterable[tuple[bytes, int]]) -> set[tuple[bytes, int]]:
        """Return those (chain, sequence number) of `places` at which the log holds an entry."""

    async def blobs(self, folder: FolderId, blobs: Iterable[BlobId]) -> dict[BlobId, int]:
        """Return the sizes in bytes of those of `blobs` that the folder holds."""

    async def pinned(self, folder: FolderId, after: bytes, items_max: int) -> list[BlobId]:
        """Return the first `items_max` blobs above `after`, ascending, that STORED records list; fewer at the end."""

    async def add_blobs(
        self, folder: FolderId, device: DeviceId, blobs: Mapping[BlobId, int], leased_until_s: int
    ) -> OverQuota | None:
        """Note that the folder holds `blobs` (sizes in bytes), leased until then (seconds since 1970).

        New ones are charged to the folder and to `device`; of those already there only the lease is extended.
        """

    async def enrolled(self, device: DeviceId, after: bytes, items_max: int) -> list[FolderId]:
        """Return the first `items_max` folders above `after`, ascending, in whose log a row enrols `device`."""

    async def lease(self, folder: FolderId, blobs: Iterable[BlobId], leased_until_s: int) -> None:
        """Extend the leases of those of `blobs` that the folder holds: they are not collected before."""

    async def unleased(self, folder: FolderId, now_s: int, items_max: int) -> list[BlobId]:
        """Return blobs that no STORED record lists and whose lease ended before `now_s`."""

    async def drop_blobs(self, folder: FolderId, blobs: Iterable[BlobId], now_s: int) -> list[BlobId]:
        """Forget those of `blobs` that are neither pinned nor leased at `now_s`, and give back their bytes.

        Returns those that no folder holds any more.
        """

    async def claimed(self, blobs: Sequence[BlobId]) -> set[BlobId]:
        """Return those of `blobs` that any folder holds."""

    async def charged(self, folder: FolderId, device: DeviceId) -> int:
        """Return the bytes charged to `device` in `folder`."""

    async def close(self) -> None:
        """Finish what was started and release everything."""


class ChunkStore(Protocol):
    """Sealed blobs, whatever folder they belong to. Errors are those of `meshsync.store.base.BlobStore`."""

    async def put(self, blobs: Sequence[tuple[BlobId, bytes]]) -> None:
        """Return when all of `blobs` are durable. Raises StorageFull, ResourceError; BlobCorrupt for wrong bytes."""

    async def get(self, blob: BlobId) -> bytes:
        """Return verified bytes. Raises NotFound, BlobCorrupt (then it is quarantined), ResourceError."""

    async def has(self, blobs: Sequence[BlobId]) -> set[BlobId]:
        """Return those of `blobs` that are durable and not in quarantine."""

    async def delete(self, blobs: Sequence[BlobId]) -> None:
        """Return when `blobs` are durably forgotten."""

    async def ids(self, after: bytes, items_max: int) -> list[BlobId]:
        """Return the first `items_max` ids above `after`, ascending; fewer at the end."""

    async def compact(self, packs_max: int) -> int:
        """Give back the space of deleted blobs, of at most `packs_max` packs; return the bytes freed."""

    async def scrub(self, limit_bytes: int) -> ScrubReport:
        """Verify the next `limit_bytes` at rest."""

    async def usage(self) -> Usage:
        """Return what is held."""

    async def close(self) -> None:
        """Finish what was started and release everything."""


class HintBus(Protocol):
    """Tells that a folder's log has grown. Hints may be lost or merged: the truth is the log's index."""

    def publish(self, folder: FolderId, index: int) -> None:
        """Say that the log of `folder` has reached `index`. Never blocks."""

    def follow(self, folder: FolderId) -> HintStream:
        """Return the coming hints for `folder`."""


class HintStream(Protocol):
    """One follower. It holds at most one hint: the newest."""

    async def next(self) -> int | None:
        """Return the newest index published since the last call, waiting for one if there is none; None once closed."""

    def wake(self) -> None:
        """Have `next` return, although nothing may be new."""

    def close(self) -> None:
        """Stop following. Idempotent."""
