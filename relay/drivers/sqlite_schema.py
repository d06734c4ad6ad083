"""The tables of the SQLite metadata log.

Invariant: every row but those of `folders` and `enrolled` names its folder first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from meshsync.errors import FormatUnsupported, IntegrityError, ResourceError, StorageFull, TransientError
from meshsync.limits import RELAY_LOG_BUSY_S

SCHEMA_VERSION = 3
_ENROLLED = """
CREATE TABLE enrolled(device BLOB NOT NULL, folder BLOB NOT NULL, PRIMARY KEY(device, folder)) WITHOUT ROWID;
"""
_RETIRES = """
CREATE TABLE retires(folder INTEGER NOT NULL, id BLOB NOT NULL, idx INTEGER NOT NULL, left_s INTEGER NOT NULL,
                     PRIMARY KEY(folder, idx)) WITHOUT ROWID;
"""
_SCHEMA = """
CREATE TABLE folders(number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, last INTEGER NOT NULL, head BLOB NOT NULL,
                     used INTEGER NOT NULL, allowed INTEGER NOT NULL);
CREATE TABLE records(folder INTEGER NOT NULL, idx INTEGER NOT NULL, id BLOB NOT NULL, kind INTEGER NOT NULL,
                     head BLOB NOT NULL, device BLOB, chain BLOB, seq INTEGER, data BLOB NOT NULL,
                     dead INTEGER NOT NULL DEFAULT 0, UNIQUE(folder, idx), UNIQUE(folder, id));
CREATE INDEX records_by_kind ON records(folder, kind, idx);
CREATE INDEX records_by_place ON records(folder, chain, seq) WHERE seq > 0;
CREATE TABLE blobs(folder INTEGER NOT NULL, id BLOB NOT NULL, size INTEGER NOT NULL, device BLOB NOT NULL,
                   leased_until INTEGER NOT NULL, pinned INTEGER NOT NULL DEFAULT 0,
                   PRIMARY KEY(folder, id)) WITHOUT ROWID;
CREATE INDEX blobs_by_id ON blobs(id);
CREATE INDEX blobs_unpinned ON blobs(folder, leased_until) WHERE pinned = 0;
CREATE TABLE charges(folder INTEGER NOT NULL, device BLOB NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY(folder, device))
    WITHOUT ROWID;
"""

_TO_DEAD = "ALTER TABLE records ADD COLUMN dead INTEGER NOT NULL DEFAULT 0;"


def open_database(path: Path) -> sqlite3.Connection:
    """Open, and create if needed, the log at `path`; every commit on it is durable when it returns.

    Raises FormatUnsupported for another schema version, and what `typed` raises.
    """
    with typed(path):
        db = sqlite3.connect(path, timeout=RELAY_LOG_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                _make(db, _SCHEMA + _ENROLLED + _RETIRES)
            elif version in (1, 2):
                # Nothing in the log of 1 enrols anybody: the relay that wrote it refused the entry.
                _make(db, (_ENROLLED if version == 1 else "") + _TO_DEAD + _RETIRES)
            elif version != SCHEMA_VERSION:
                raise FormatUnsupported(f"the metadata log has schema {version}, not {SCHEMA_VERSION}", path=str(path))
        except (sqlite3.Error, FormatUnsupported):
            db.close()
            raise
    return db


def _make(db: sqlite3.Connection, statements: str) -> None:
    db.executescript(f"BEGIN IMMEDIATE; {statements} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")


@contextmanager
def typed(path: Path) -> Iterator[None]:
    """Turn errors of SQLite into typed ones: StorageFull, TransientError (busy), IntegrityError (damaged file),
    ResourceError (all others)."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        where, what = str(path), f"the metadata log failed: {error}"
        if code == sqlite3.SQLITE_FULL:
            raise StorageFull(what, path=where) from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise TransientError(what, path=where) from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise IntegrityError(what, path=where, next_step="Restore the relay's backup") from error
        raise ResourceError(what, path=where) from error
