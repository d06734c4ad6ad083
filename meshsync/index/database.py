"""One folder's SQLite index: opening, versions, transactions. The only module that knows `sqlite3`.

Invariant: what a transaction wrote is on disk when it returns (WAL, synchronous=FULL), all of it or nothing.
Calls block; callers run them through `Runtime.in_thread`. One connection, one lock: calls from several threads queue.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from meshsync.errors import FormatUnsupported, IndexCorrupt, ResourceError, StorageFull
from meshsync.index.schema import TABLES, UPGRADES, VERSION

Row = tuple[Any, ...]


_REFUSED: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
"""Primary codes by which the disk, not the caller, refused."""


class Database:
    """A connection to the index at `path`, made if absent.

    Raises FormatUnsupported for an index of a newer build, IndexCorrupt for a damaged one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._depth = 0
        with self._errors():
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._connection.executescript(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-32000;"
            )
            self._upgrade()

    def _upgrade(self) -> None:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise FormatUnsupported(
                f"the index has format {version}, this build knows {VERSION}",
                path=str(self.path),
                next_step="Install the newer meshsync again.",
            )
        if version == 0:
            self._connection.executescript(f"BEGIN;{TABLES}PRAGMA user_version={VERSION};COMMIT;")
        elif version < VERSION:
            steps = "".join(UPGRADES[number] for number in range(version, VERSION))
            self._connection.executescript(f"BEGIN;{steps}PRAGMA user_version={VERSION};COMMIT;")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise StorageFull(
                    "no space left for the index",
                    path=str(self.path),
                    next_step="Free some space there: meshsync goes on by itself.",
                ) from error
            refused = error.sqlite_errorcode & 0xFF in _REFUSED
            raise ResourceError(
                f"the index cannot be used: {error}",
                path=str(self.path),
                next_step="Check the disk and its permissions: meshsync goes on by itself." if refused else "",
            ) from error
        except sqlite3.DatabaseError as error:
            raise IndexCorrupt(
                f"the index is damaged: {error}", path=str(self.path), next_step="Run: meshsync doctor"
            ) from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all calls inside one atomic, durable step; nested ones join the outer. An exception undoes all.

        So does a refused commit: the next transaction begins anew. Raises StorageFull, ResourceError, IndexCorrupt.
        """
        with self._lock, self._errors():
            if self._depth:
                yield
                return
            self._connection.execute("BEGIN IMMEDIATE")
            self._depth = 1
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # of some errors SQLite has undone it by itself
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._depth = 0

    def execute(self, sql: str, values: Iterable[object] = ()) -> list[Row]:
        """Run one statement and return its rows."""
        with self._lock, self._errors():
            return self._connection.execute(sql, tuple(values)).fetchall()

    def execute_many(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Run one statement for each row."""
        with self._lock, self._errors():
            self._connection.executemany(sql, rows)

    def insert(self, sql: str, values: Iterable[object]) -> int:
        """Run one INSERT and return the new row's number."""
        with self._lock, self._errors():
            number = self._connection.execute(sql, tuple(values)).lastrowid
            assert number is not None
            return number

    def check(self) -> list[str]:
        """Return what SQLite's own check finds wrong; empty if nothing."""
        return [text for (text,) in self.execute("PRAGMA quick_check(20)") if text != "ok"]

    def close(self) -> None:
        """Close the connection; a transaction in progress is undone."""
        with self._lock:
            self._connection.close()
