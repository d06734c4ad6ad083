"""The index of a simulated machine: SQLite in memory, which after a crash holds what the last commit left.

SQLite promises that of a crash at any moment, power cuts included; it is not tried here: `tests/index` and the tests
that kill processes do. A machine may refuse a commit, or the statement that begins a transaction, as a full or broken
disk does; a broken one refuses to be read too. Invariant: a dead process changes nothing, and a transaction it was in,
or that was refused, is undone.
"""

from __future__ import annotations

import contextlib
import errno
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from meshsync.index.database import Database
from tests.sim.process import Process


class KeptIndex:
    """The durable part. Begins as a copy of `template`, the bytes of a database."""

    def __init__(self, template: bytes) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.deserialize(template)

    def open(self, process: Process) -> Database:
        """Open it for one process."""
        return _SimDatabase(self.connection, process)

    def crash(self) -> None:
        """Undo what was not committed."""
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def image(self) -> bytes:
        """Return its bytes. No process may be in a transaction."""
        return self.connection.serialize()

    def restore(self, image: bytes) -> None:
        """Become what it was when `image` was taken. No process may have it open."""
        self.connection.close()
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.deserialize(image)

    def close(self) -> None:
        """Free the memory."""
        self.connection.close()


class _SimDatabase(Database):
    """`Database` on a connection that outlives it."""

    def __init__(self, connection: sqlite3.Connection, process: Process) -> None:
        self.path = Path("index")
        self._lock = threading.RLock()
        self._depth = 0
        self._connection: Any = _Doorway(connection, process)
        with self._errors():
            self._upgrade()


class _Doorway:
    """The connection as one process sees it: every commit may be its last act, or be refused."""

    def __init__(self, connection: sqlite3.Connection, process: Process) -> None:
        self._connection, self._process = connection, process

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def execute(self, sql: str, values: Iterable[Any] = ()) -> sqlite3.Cursor:
        if sql == "COMMIT":
            with refusing(self._connection):
                self._process.step("commit")
            done = self._connection.execute(sql)
            self._process.step("committed")
            return done
        if not self._connection.in_transaction:
            with refusing(self._connection):
                self._process.step("select" if sql[:6] == "SELECT" else "statement")
        elif not self._process.alive:
            self._process.step("dead")
        return self._connection.execute(sql, values)  # type: ignore[arg-type]

    def executemany(self, sql: str, rows: Iterable[Any]) -> sqlite3.Cursor:
        self._process.step("statements")
        return self._connection.executemany(sql, rows)

    def executescript(self, sql: str) -> sqlite3.Cursor:
        self._process.step("script")
        return self._connection.executescript(sql)

    def close(self) -> None:
        pass


ERRORS = {
    errno.ENOSPC: (sqlite3.SQLITE_FULL, "SQLITE_FULL", "database or disk is full"),
    errno.EIO: (sqlite3.SQLITE_IOERR, "SQLITE_IOERR", "disk I/O error"),
}
"""What SQLite tells of a system's error: code, its name, text."""


@contextlib.contextmanager
def refusing(connection: sqlite3.Connection) -> Iterator[None]:
    """Answer a refusal inside as SQLite does: it undoes the transaction by itself and raises OperationalError."""
    try:
        yield
    except OSError as refusal:
        assert refusal.errno is not None
        code, name, text = ERRORS[refusal.errno]
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        error = sqlite3.OperationalError(text)
        error.sqlite_errorcode, error.sqlite_errorname = code, name
        raise error from refusal


def template(fill: Any) -> bytes:
    """Return the bytes of a database that `fill(database)` has written to."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    database = _SimDatabase(connection, Process())
    with database.transaction():
        fill(database)
    data = connection.serialize()
    connection.close()
    return data
