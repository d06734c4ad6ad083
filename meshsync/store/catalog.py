"""Where each blob lies: a SQLite table over the packs. Invariant: it only says what the packs say, so it may be lost.

A row is added after its record is durable in a pack. The catalog itself is not synced at each commit: after a power
cut it may be older than the packs, never newer, and the tail that it does not know is read again at start.
Every `Catalog` call is made under the store's lock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshsync.errors import IndexCorrupt, StorageFull
from meshsync.ids import BlobId
from meshsync.limits import STORE_LOOKUP_ITEMS_MAX
from meshsync.store.pack_format import PACK_HEADER_BYTES

SCHEMA_VERSION = 1
_IDS_PAGE_ITEMS = 1000  # ids fetched at a time while iterating
_SCHEMA = """
CREATE TABLE packs(number INTEGER PRIMARY KEY, length INTEGER NOT NULL, closed INTEGER NOT NULL,
                   live_blobs INTEGER NOT NULL DEFAULT 0, live_bytes INTEGER NOT NULL DEFAULT 0);
CREATE TABLE blobs(id BLOB PRIMARY KEY, pack INTEGER NOT NULL, offset INTEGER NOT NULL, size INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE UNIQUE INDEX blobs_by_place ON blobs(pack, offset);
CREATE TABLE damaged(id BLOB PRIMARY KEY, pack INTEGER NOT NULL, offset INTEGER NOT NULL, size INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE TABLE state(clean INTEGER NOT NULL, scrub_pack INTEGER NOT NULL, scrub_offset INTEGER NOT NULL);
INSERT INTO state VALUES(1, 0, 0);
CREATE TRIGGER blob_added AFTER INSERT ON blobs BEGIN
    UPDATE packs SET live_blobs = live_blobs + 1, live_bytes = live_bytes + new.size WHERE number = new.pack; END;
CREATE TRIGGER blob_removed AFTER DELETE ON blobs BEGIN
    UPDATE packs SET live_blobs = live_blobs - 1, live_bytes = live_bytes - old.size WHERE number = old.pack; END;
"""


@dataclass(frozen=True, slots=True)
class Row:
    """Where a blob's body lies: pack number, offset and size in bytes."""

    id: BlobId
    pack: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class PackRow:
    """A pack: bytes known to be durable, whether it has its trailer, and what of it is live."""

    number: int
    length: int
    closed: bool
    live_blobs: int
    live_bytes: int


class Catalog:
    """The open catalog. `fresh` says that it was made empty by this start, so that the packs must be read."""

    def __init__(self, path: Path) -> None:
        """Open the catalog at `path`; one that is missing, damaged or of another version is made anew."""
        self.fresh = False
        self._path = path
        with _typed(path):
            try:
                self._db = self._open()
            except sqlite3.DatabaseError:
                self._discard()
                self._db = self._open()
            self._db.execute("UPDATE state SET clean = 0")

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                self.fresh = True
                db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
            elif version != SCHEMA_VERSION:
                raise sqlite3.DatabaseError(f"schema version {version}")
            (clean,) = db.execute("SELECT clean FROM state").fetchone()
            if not clean and db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("quick_check failed")
        except (sqlite3.Error, TypeError) as error:
            db.close()
            raise sqlite3.DatabaseError(str(error)) from error
        return db

    def _discard(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def close(self) -> None:
        """Mark the catalog as whole and close it."""
        with _typed(self._path):
            self._db.execute("UPDATE state SET clean = 1")
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all changes inside happen together, or none if the block raises."""
        with _typed(self._path):
            self._db.execute("BEGIN")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    # --- packs

    def packs(self) -> dict[int, PackRow]:
        """Return all packs by number."""
        rows = self._all("SELECT number, length, closed, live_blobs, live_bytes FROM packs ORDER BY number")
        return {n: PackRow(n, length, bool(closed), blobs, size) for n, length, closed, blobs, size in rows}

    def set_pack(self, number: int, length: int, closed: bool) -> None:
        """State how much of a pack is durable."""
        self._many(
            "INSERT INTO packs(number, length, closed) VALUES(?, ?, ?)"
            " ON CONFLICT DO UPDATE SET length = excluded.length, closed = excluded.closed",
            [(number, length, closed)],
        )

    def forget_pack(self, number: int) -> None:
        """Remove a pack that no longer exists; blobs that were said to lie in it are in quarantine then."""
        self.set_aside(self.rows_beyond(number, 0))
        self._many("DELETE FROM packs WHERE number = ?", [(number,)])

    # --- blobs

    def place(self, blob: BlobId) -> Row | None:
        """Return where `blob` lies, None if it is not stored."""
        rows = self._all("SELECT pack, offset, size FROM blobs WHERE id = ?", blob)
        return Row(blob, *rows[0]) if rows else None

    def has(self, blobs: Iterable[BlobId]) -> set[BlobId]:
        """Return those of `blobs` that are stored."""
        asked = list(blobs)
        found: set[BlobId] = set()
        for start in range(0, len(asked), STORE_LOOKUP_ITEMS_MAX):
            group = asked[start : start + STORE_LOOKUP_ITEMS_MAX]
            marks = ",".join("?" * len(group))
            found.update(BlobId(row[0]) for row in self._all(f"SELECT id FROM blobs WHERE id IN ({marks})", *group))
        return found

    def add(self, rows: Sequence[Row]) -> None:
        """State that blobs lie durably at these places; an earlier place of the same id is forgotten."""
        ids = [(row.id,) for row in rows]
        self._many("DELETE FROM blobs WHERE id = ?", ids)
        self._many("DELETE FROM damaged WHERE id = ?", ids)
        self._many("INSERT INTO blobs VALUES(?, ?, ?, ?)", [(r.id, r.pack, r.offset, r.size) for r in rows])

    def remove(self, blobs: Iterable[BlobId], pack: int, offset: int) -> None:
        """State that `blobs`, as far as they lie before this place, are not stored."""
        places = [(blob, pack, offset) for blob in blobs]
        self._many("DELETE FROM blobs WHERE id = ? AND (pack, offset) < (?, ?)", places)
        self._many("DELETE FROM damaged WHERE id = ? AND (pack, offset) < (?, ?)", places)

    def set_aside(self, rows: Iterable[Row]) -> None:
        """Move blobs into quarantine, unless they have meanwhile been stored elsewhere."""
        for row in rows:
            place = (row.id, row.pack, row.offset)
            if self._all("DELETE FROM blobs WHERE id = ? AND pack = ? AND offset = ? RETURNING id", *place):
                self._many("INSERT OR REPLACE INTO damaged VALUES(?, ?, ?, ?)", [(*place, row.size)])

    def note_damage(self, row: Row) -> None:
        """Record a damaged blob met while reading packs, unless a good one is known."""
        if self.place(row.id) is None:
            values = (row.id, row.pack, row.offset, row.size)
            self._many("INSERT OR REPLACE INTO damaged VALUES(?, ?, ?, ?)", [values])

    def damaged(self) -> list[BlobId]:
        """Return the ids in quarantine, ascending."""
        return [BlobId(row[0]) for row in self._all("SELECT id FROM damaged ORDER BY id")]

    def is_damaged(self, blob: BlobId) -> bool:
        """Tell whether `blob` is in quarantine."""
        return bool(self._all("SELECT 1 FROM damaged WHERE id = ?", blob))

    def ids_after(self, last: bytes) -> list[BlobId]:
        """Return the next page of ids above `last`, ascending; empty at the end."""
        rows = self._all("SELECT id FROM blobs WHERE id > ? ORDER BY id LIMIT ?", last, _IDS_PAGE_ITEMS)
        return [BlobId(row[0]) for row in rows]

    def rows_after(self, pack: int, offset: int) -> list[Row]:
        """Return the next page of rows beyond a place, in order of place; empty at the end."""
        rows = self._all(
            "SELECT id, pack, offset, size FROM blobs WHERE (pack, offset) > (?, ?) ORDER BY pack, offset LIMIT ?",
            pack,
            offset,
            STORE_LOOKUP_ITEMS_MAX,
        )
        return [Row(BlobId(row[0]), *row[1:]) for row in rows]

    def rows_in(self, pack: int) -> list[Row]:
        """Return the rows of `pack` in order of place."""
        return sorted(self.rows_beyond(pack, 0), key=lambda row: row.offset)

    def rows_beyond(self, pack: int, length: int) -> list[Row]:
        """Return the rows of `pack` whose bodies end after `length` bytes."""
        rows = self._all("SELECT id, pack, offset, size FROM blobs WHERE pack = ? AND offset + size > ?", pack, length)
        return [Row(BlobId(row[0]), *row[1:]) for row in rows]

    # --- scrub

    def scrub_cursor(self) -> tuple[int, int]:
        """Return the (pack, offset) after which the next scrub step begins."""
        pack, offset = self._all("SELECT scrub_pack, scrub_offset FROM state")[0]
        return pack, offset

    def set_scrub_cursor(self, pack: int, offset: int) -> None:
        """Remember where the next scrub step begins."""
        self._many("UPDATE state SET scrub_pack = ?, scrub_offset = ?", [(pack, offset)])

    def _all(self, sql: str, *values: object) -> list[Any]:
        with _typed(self._path):
            return self._db.execute(sql, values).fetchall()

    def _many(self, sql: str, values: Sequence[tuple[object, ...]]) -> None:
        with _typed(self._path):
            self._db.executemany(sql, values)


def first_place() -> tuple[int, int]:
    """Return a place before every record."""
    return 0, PACK_HEADER_BYTES - 1


@contextmanager
def _typed(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise StorageFull("no space left for the catalog of blobs", path=str(path)) from error
        raise IndexCorrupt(
            f"the catalog of blobs failed: {error}", path=str(path), next_step="Restart: it is rebuilt from the packs"
        ) from error
