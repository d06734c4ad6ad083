"""Small named values of a folder's index."""

from __future__ import annotations

from meshsync.index.database import Database


class Meta:
    """Key to bytes. Keys are fixed words of this build."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def get(self, key: str) -> bytes | None:
        """Return the value of `key`, or None."""
        rows = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,))
        return bytes(rows[0][0]) if rows else None

    def set(self, key: str, value: bytes) -> None:
        """Set `key` to `value`."""
        self._db.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (key, value)
        )

    def delete(self, key: str) -> None:
        """Forget `key`."""
        self._db.execute("DELETE FROM meta WHERE key = ?", (key,))
