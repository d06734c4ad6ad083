"""The metadata log in memory: the twin of `SqliteLog`. Invariant: it answers as the other does, call for call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from meshsync.ids import BlobId, DeviceId, FolderId, RecordId
from meshsync.metalog.record_log import RecordKind
from relay.drivers.base import NOTHING, FolderState, Known, LetGo, Moved, NotHeld, OpenRetire, OverQuota, Row


@dataclass(slots=True)
class _Blob:
    size: int
    device: DeviceId
    leased_until_s: int
    pinned: bool = False


@dataclass(slots=True)
class _Folder:
    allowed: int
    rows: list[Row] = field(default_factory=list)
    known: dict[RecordId, Known] = field(default_factory=dict)
    blobs: dict[BlobId, _Blob] = field(default_factory=dict)
    charges: dict[DeviceId, int] = field(default_factory=dict)
    retires: dict[RecordId, int] = field(default_factory=dict)

    @property
    def free(self) -> int:
        return max(0, self.allowed - sum(self.charges.values()))

    def charge(self, device: DeviceId, size: int) -> None:
        self.charges[device] = self.charges.get(device, 0) + size

    def insert(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self.rows.append(row)
            self.known[row.id] = Known(row.index, row.kind, row.place)
            if row.place is not None:
                self.charge(row.place.device, len(row.data))
            if row.kind == RecordKind.RETIRE:
                self.retires[row.id] = row.wait_s


class MemoryLog:
    """A `MetadataLog` whose contents the caller may keep over a restart by passing `folders` on."""

    def __init__(self, folders: dict[FolderId, _Folder] | None = None) -> None:
        self.contents = {} if folders is None else folders

    async def create_folder(self, folder: FolderId, creator: DeviceId, bytes_max: int, first: Row) -> bool:
        if folder in self.contents:
            return False
        self.contents[folder] = _Folder(bytes_max)
        self.contents[folder].insert([first])
        return True

    async def folders(self) -> list[FolderId]:
        return sorted(self.contents)

    async def state(self, folder: FolderId) -> FolderState | None:
        held = self.contents.get(folder)
        if held is None:
            return None
        return FolderState(len(held.rows), held.rows[-1].head, sum(held.charges.values()), held.allowed)

    async def append(
        self,
        folder: FolderId,
        after: int,
        rows: Sequence[Row],
        pins: Sequence[BlobId] = (),
        let_go: LetGo = NOTHING,
        revived: Sequence[RecordId] = (),
    ) -> Moved | OverQuota | NotHeld | None:
        held = self.contents[folder]
        if len(held.rows) != after:
            return Moved(len(held.rows))
        if sum(len(row.data) for row in rows if row.place is not None) > held.free:
            return OverQuota(held.free)
        lost = set(pins) - held.blobs.keys()
        if lost:
            return NotHeld(tuple(sorted(lost)))
        held.insert(rows)
        for retire in let_go.retires:
            held.retires.pop(retire, None)
        for dead, records in ((True, let_go.records), (False, revived)):
            for record in records:
                held.known[record] = replace(held.known[record], dead=dead)
        for blob in let_go.blobs:
            if blob in held.blobs:
                held.blobs[blob].pinned = False
        for blob in pins:
            held.blobs[blob].pinned = True
        return None

    async def retires(self, folder: FolderId) -> list[OpenRetire]:
        return [OpenRetire(name, left_s) for name, left_s in self._held(folder).retires.items()]

    async def wait(self, seconds: int) -> None:
        for held in self.contents.values():
            held.retires = {name: max(0, left_s - seconds) for name, left_s in held.retires.items()}

    async def read(
        self, folder: FolderId, start: int, bytes_max: int, items_max: int, kinds: Sequence[int] = ()
    ) -> list[Row]:
        page: list[Row] = []
        total = 0
        for row in self._held(folder).rows[max(0, start - 1) :]:
            if kinds and row.kind not in kinds:
                continue
            total += len(row.data)
            if len(page) == items_max or (page and total > bytes_max):
                break
            page.append(row)
        return page

    async def find(self, folder: FolderId, records: Iterable[RecordId]) -> dict[RecordId, Known]:
        known = self._held(folder).known
        return {record: known[record] for record in records if record in known}

    async def places(self, folder: FolderId, places: Iterable[tuple[bytes, int]]) -> set[tuple[bytes, int]]:
        held = {(row.place.chain, row.place.seq) for row in self._held(folder).rows if row.place and row.place.seq}
        return held.intersection(places)

    async def blobs(self, folder: FolderId, blobs: Iterable[BlobId]) -> dict[BlobId, int]:
        held = self._held(folder).blobs
        return {blob: held[blob].size for blob in blobs if blob in held}

    async def pinned(self, folder: FolderId, after: bytes, items_max: int) -> list[BlobId]:
        held = self._held(folder).blobs
        return sorted(blob for blob, at in held.items() if at.pinned and blob > after)[:items_max]

    async def add_blobs(
        self, folder: FolderId, device: DeviceId, blobs: Mapping[BlobId, int], leased_until_s: int
    ) -> OverQuota | None:
        held = self.contents[folder]
        new = {blob: size for blob, size in blobs.items() if blob not in held.blobs}
        if sum(new.values()) > held.free:
            return OverQuota(held.free)
        held.charge(device, sum(new.values()))
        held.blobs |= {blob: _Blob(size, device, leased_until_s) for blob, size in new.items()}
        await self.lease(folder, blobs, leased_until_s)
        return None

    async def enrolled(self, device: DeviceId, after: bytes, items_max: int) -> list[FolderId]:
        found = (name for name, held in self.contents.items() if any(row.enrols == device for row in held.rows))
        return sorted(name for name in found if name > after)[:items_max]

    async def lease(self, folder: FolderId, blobs: Iterable[BlobId], leased_until_s: int) -> None:
        held = self.contents[folder].blobs
        for blob in blobs:
            if blob in held:
                held[blob].leased_until_s = max(held[blob].leased_until_s, leased_until_s)

    async def unleased(self, folder: FolderId, now_s: int, items_max: int) -> list[BlobId]:
        held = self._held(folder).blobs
        free = [blob for blob, at in held.items() if not at.pinned and at.leased_until_s < now_s]
        return free[:items_max]

    async def drop_blobs(self, folder: FolderId, blobs: Iterable[BlobId], now_s: int) -> list[BlobId]:
        held, orphans = self.contents[folder], []
        for blob in blobs:
            at = held.blobs.get(blob)
            if at is None or at.pinned or at.leased_until_s >= now_s:
                continue
            del held.blobs[blob]
            held.charge(at.device, -at.size)
            if not any(blob in other.blobs for other in self.contents.values()):
                orphans.append(blob)
        return orphans

    async def claimed(self, blobs: Sequence[BlobId]) -> set[BlobId]:
        return {blob for blob in blobs if any(blob in held.blobs for held in self.contents.values())}

    async def charged(self, folder: FolderId, device: DeviceId) -> int:
        return self._held(folder).charges.get(device, 0)

    async def close(self) -> None:
        """Nothing is held."""

    def _held(self, folder: FolderId) -> _Folder:
        return self.contents.get(folder) or _Folder(0)
