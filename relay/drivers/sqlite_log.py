"""The metadata log in one SQLite file: WAL, synchronous FULL, group commit.

Invariant: a change first looks, then writes or answers; so changes of many callers share one transaction and one sync,
and none can undo another's.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from meshsync.ids import BlobId, DeviceId, FolderId, RecordId
from meshsync.limits import RELAY_COMMIT_CHANGES_MAX, STORE_LOOKUP_ITEMS_MAX
from meshsync.metalog.record_log import RecordKind
from meshsync.runtime import Runtime
from relay.drivers import sqlite_blobs
from relay.drivers.base import (
    NOTHING,
    FolderState,
    Known,
    LetGo,
    Moved,
    NotHeld,
    OpenRetire,
    OverQuota,
    Place,
    Row,
)
from relay.drivers.batching import Batcher
from relay.drivers.sqlite_schema import open_database, typed

T = TypeVar("T")
Change = Callable[[sqlite3.Connection], Any]
_ROW = "idx, id, kind, data, head, device, chain, seq"


class SqliteLog:
    """A `MetadataLog` for one machine."""

    def __init__(self, path: Path, runtime: Runtime) -> None:
        """Open the log at `path`. Raises as `open_database`."""
        self._path, self._runtime = path, runtime
        self._writer = open_database(path)
        self._reader = open_database(path)
        self._reading = threading.Lock()
        self._commits: Batcher[Change, Any] = Batcher(
            runtime, "metadata log writer", self._commit, RELAY_COMMIT_CHANGES_MAX
        )

    async def create_folder(self, folder: FolderId, creator: DeviceId, bytes_max: int, first: Row) -> bool:
        def change(db: sqlite3.Connection) -> bool:
            if _number(db, folder) is not None:
                return False
            db.execute(
                "INSERT INTO folders(id, last, head, used, allowed) VALUES(?, 0, ?, 0, ?)",
                (folder, first.head, bytes_max),
            )
            _insert(db, _known_number(db, folder), [first])
            return True

        return await self._change(change)

    async def folders(self) -> list[FolderId]:
        return [FolderId(row[0]) for row in await self._read("SELECT id FROM folders ORDER BY id")]

    async def state(self, folder: FolderId) -> FolderState | None:
        rows = await self._read("SELECT last, head, used, allowed FROM folders WHERE id = ?", folder)
        return FolderState(*rows[0]) if rows else None

    async def append(
        self,
        folder: FolderId,
        after: int,
        rows: Sequence[Row],
        pins: Sequence[BlobId] = (),
        let_go: LetGo = NOTHING,
        revived: Sequence[RecordId] = (),
    ) -> Moved | OverQuota | NotHeld | None:
        def change(db: sqlite3.Connection) -> Moved | OverQuota | NotHeld | None:
            number = _known_number(db, folder)
            last, free = db.execute("SELECT last, allowed - used FROM folders WHERE number = ?", (number,)).fetchone()
            if last != after:
                return Moved(last)
            if sum(len(row.data) for row in rows if row.place is not None) > free:
                return OverQuota(max(0, free))
            lost = set(pins) - sqlite_blobs.sizes(db, number, pins).keys()
            if lost:
                return NotHeld(tuple(sorted(lost)))
            _insert(db, number, rows)
            _end(db, number, let_go, revived)
            sqlite_blobs.pin(db, number, pins)
            return None

        return await self._change(change)

    async def retires(self, folder: FolderId) -> list[OpenRetire]:
        sql = "SELECT id, left_s FROM retires WHERE folder = (SELECT number FROM folders WHERE id = ?) ORDER BY idx"
        return [OpenRetire(RecordId(name), left_s) for name, left_s in await self._read(sql, folder)]

    async def wait(self, seconds: int) -> None:
        def change(db: sqlite3.Connection) -> None:
            db.execute("UPDATE retires SET left_s = max(0, left_s - ?) WHERE left_s > 0", (seconds,))

        await self._change(change)

    async def read(
        self, folder: FolderId, start: int, bytes_max: int, items_max: int, kinds: Sequence[int] = ()
    ) -> list[Row]:
        return await self._look(lambda db: _page(db, _number(db, folder), start, bytes_max, items_max, kinds))

    async def find(self, folder: FolderId, records: Iterable[RecordId]) -> dict[RecordId, Known]:
        asked, found = list(records), {}
        for start in range(0, len(asked), STORE_LOOKUP_ITEMS_MAX):
            group = asked[start : start + STORE_LOOKUP_ITEMS_MAX]
            marks = ",".join("?" * len(group))
            for record, index, kind, device, chain, seq, dead in await self._read(
                "SELECT id, idx, kind, device, chain, seq, dead FROM records"
                f" WHERE folder = (SELECT number FROM folders WHERE id = ?) AND id IN ({marks})",
                folder,
                *group,
            ):
                found[RecordId(record)] = Known(index, kind, _place(device, chain, seq), bool(dead))
        return found

    async def places(self, folder: FolderId, places: Iterable[tuple[bytes, int]]) -> set[tuple[bytes, int]]:
        asked = list(places)

        def look(db: sqlite3.Connection) -> set[tuple[bytes, int]]:
            number = _number(db, folder)
            sql = "SELECT 1 FROM records WHERE folder = ? AND chain = ? AND seq = ? AND seq > 0 LIMIT 1"
            return {place for place in asked if db.execute(sql, (number, *place)).fetchone()}

        return await self._look(look)

    async def blobs(self, folder: FolderId, blobs: Iterable[BlobId]) -> dict[BlobId, int]:
        asked = list(blobs)
        return await self._look(lambda db: sqlite_blobs.sizes(db, _number(db, folder), asked))

    async def pinned(self, folder: FolderId, after: bytes, items_max: int) -> list[BlobId]:
        sql = (
            "SELECT id FROM blobs WHERE folder = (SELECT number FROM folders WHERE id = ?) AND id > ? AND pinned = 1"
            " ORDER BY id LIMIT ?"
        )
        return [BlobId(row[0]) for row in await self._read(sql, folder, after, items_max)]

    async def add_blobs(
        self, folder: FolderId, device: DeviceId, blobs: Mapping[BlobId, int], leased_until_s: int
    ) -> OverQuota | None:
        return await self._change(
            lambda db: sqlite_blobs.add(db, _known_number(db, folder), device, blobs, leased_until_s)
        )

    async def enrolled(self, device: DeviceId, after: bytes, items_max: int) -> list[FolderId]:
        sql = "SELECT folder FROM enrolled WHERE device = ? AND folder > ? ORDER BY folder LIMIT ?"
        return [FolderId(row[0]) for row in await self._read(sql, device, after, items_max)]

    async def lease(self, folder: FolderId, blobs: Iterable[BlobId], leased_until_s: int) -> None:
        asked = list(blobs)
        await self._change(lambda db: sqlite_blobs.lease(db, _known_number(db, folder), asked, leased_until_s))

    async def unleased(self, folder: FolderId, now_s: int, items_max: int) -> list[BlobId]:
        return await self._look(lambda db: sqlite_blobs.unleased(db, _number(db, folder), now_s, items_max))

    async def drop_blobs(self, folder: FolderId, blobs: Iterable[BlobId], now_s: int) -> list[BlobId]:
        asked = list(blobs)
        return await self._change(lambda db: sqlite_blobs.drop(db, _known_number(db, folder), asked, now_s))

    async def claimed(self, blobs: Sequence[BlobId]) -> set[BlobId]:
        return await self._look(lambda db: sqlite_blobs.claimed(db, blobs))

    async def charged(self, folder: FolderId, device: DeviceId) -> int:
        rows = await self._read(
            "SELECT bytes FROM charges WHERE folder = (SELECT number FROM folders WHERE id = ?) AND device = ?",
            folder,
            device,
        )
        return rows[0][0] if rows else 0

    async def close(self) -> None:
        await self._commits.idle()

        def end() -> None:
            with self._reading, typed(self._path):  # a read whose asker was cancelled may still be under way
                self._writer.close()
                self._reader.close()

        await self._runtime.in_thread(end)

    # --- plumbing

    async def _change(self, change: Callable[[sqlite3.Connection], T]) -> T:
        return cast(T, await self._commits.do(change, 1))

    def _commit(self, changes: Sequence[Change]) -> list[Any]:
        with typed(self._path):
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                results = [change(self._writer) for change in changes]
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise
        return results

    async def _look(self, question: Callable[[sqlite3.Connection], T]) -> T:
        def ask() -> T:
            with self._reading, typed(self._path):
                return question(self._reader)

        return await self._runtime.in_thread(ask)

    async def _read(self, sql: str, *values: object) -> list[Any]:
        return await self._look(lambda db: db.execute(sql, values).fetchall())


def _place(device: bytes | None, chain: bytes | None, seq: int | None) -> Place | None:
    return None if device is None or chain is None or seq is None else Place(DeviceId(device), chain, seq)


def _page(
    db: sqlite3.Connection, number: int | None, start: int, bytes_max: int, items_max: int, kinds: Sequence[int]
) -> list[Row]:
    """Look at the sizes first, so that no more than the page is read."""
    where = f"folder = ? AND idx >= ?{' AND kind IN (' + ','.join('?' * len(kinds)) + ')' if kinds else ''}"
    indices: list[int] = []
    total = 0
    for index, size in db.execute(
        f"SELECT idx, length(data) FROM records WHERE {where} ORDER BY idx LIMIT ?", (number, start, *kinds, items_max)
    ):
        total += size
        if indices and total > bytes_max:
            break
        indices.append(index)
    if not indices:
        return []
    rows = db.execute(
        f"SELECT {_ROW} FROM records WHERE {where} AND idx <= ? ORDER BY idx", (number, start, *kinds, indices[-1])
    )
    return [Row(index, RecordId(id_), kind, data, head, _place(*at)) for index, id_, kind, data, head, *at in rows]


def _number(db: sqlite3.Connection, folder: FolderId) -> int | None:
    row = db.execute("SELECT number FROM folders WHERE id = ?", (folder,)).fetchone()
    return row[0] if row else None


def _known_number(db: sqlite3.Connection, folder: FolderId) -> int:
    number = _number(db, folder)
    assert number is not None, "the service asks only about folders that exist"
    return number


def _insert(db: sqlite3.Connection, number: int, rows: Sequence[Row]) -> None:
    """Write rows that continue the folder's log, and charge the entries among them."""
    for row in rows:
        at = (row.place.device, row.place.chain, row.place.seq) if row.place else (None, None, None)
        db.execute(
            "INSERT INTO records(folder, idx, id, kind, head, device, chain, seq, data) VALUES(?,?,?,?,?,?,?,?,?)",
            (number, row.index, row.id, row.kind, row.head, *at, row.data),
        )
        if row.place is not None:
            sqlite_blobs.charge(db, number, row.place.device, len(row.data))
        if row.kind == RecordKind.RETIRE:
            db.execute("INSERT INTO retires VALUES(?, ?, ?, ?)", (number, row.id, row.index, row.wait_s))
        if row.enrols is not None:
            db.execute(
                "INSERT OR IGNORE INTO enrolled(device, folder) SELECT ?, id FROM folders WHERE number = ?",
                (row.enrols, number),
            )
    if rows:
        last = rows[-1]
        db.execute("UPDATE folders SET last = ?, head = ? WHERE number = ?", (last.index, last.head, number))


def _end(db: sqlite3.Connection, number: int, let_go: LetGo, revived: Sequence[RecordId]) -> None:
    """Carry out what an append ends, and what it makes alive again."""
    db.executemany("DELETE FROM retires WHERE folder = ? AND id = ?", [(number, name) for name in let_go.retires])
    for dead, records in ((1, let_go.records), (0, revived)):
        db.executemany(
            "UPDATE records SET dead = ? WHERE folder = ? AND id = ?", [(dead, number, name) for name in records]
        )
    sqlite_blobs.unpin(db, number, let_go.blobs)
