"""How far each relay's log was read, and which of our records it has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from meshsync.ids import ChunkId, DeviceId, RecordId
from meshsync.index.database import Database


@dataclass(frozen=True, slots=True)
class RelayCursor:
    """Records up to `index` were read; `head` is the log's head there, `membership` that of the membership chain.

    `signed` is the relay's newest signed head.
    """

    index: int
    head: bytes
    signed: bytes
    membership: bytes = b""


class RelayRows:
    """Cursors and record ids, by relay device."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def cursor(self, relay: DeviceId) -> RelayCursor | None:
        """Return how far `relay` was read, or None if never."""
        rows = self._db.execute("SELECT cursor, head, signed, membership FROM relay WHERE device = ?", (relay,))
        return RelayCursor(*rows[0]) if rows else None

    def advance(self, relay: DeviceId, cursor: RelayCursor, seen: Iterable[RecordId]) -> None:
        """Set the cursor and note that the relay's log holds `seen`."""
        self._db.execute(
            "INSERT INTO relay VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET cursor = excluded.cursor,"
            " head = excluded.head, signed = excluded.signed, membership = excluded.membership",
            (relay, cursor.index, cursor.head, cursor.signed, cursor.membership),
        )
        self.mark_seen(relay, seen)

    def mark_seen(self, relay: DeviceId, seen: Iterable[RecordId]) -> None:
        """Note that the relay's log holds `seen`."""
        self._db.execute_many("INSERT OR IGNORE INTO relay_seen VALUES (?, ?)", ((relay, record) for record in seen))

    def unseen_membership(self, relay: DeviceId) -> list[bytes]:
        """Return membership entries that the relay lacks, in order."""
        return [
            entry
            for (entry,) in self._db.execute(
                "SELECT entry FROM membership m WHERE NOT EXISTS"
                " (SELECT 1 FROM relay_seen s WHERE s.relay = ? AND s.id = m.id) ORDER BY position",
                (relay,),
            )
        ]

    def unseen_entries(self, relay: DeviceId, limit: int) -> list[tuple[bytes, bytes, bytes, bytes]]:
        """Return (id, envelope, signature, payload) of up to `limit` entries that the relay lacks, in causal order."""
        return [
            (entry, envelope, signature, payload)
            for entry, envelope, signature, payload in self._db.execute(
                "SELECT id, envelope, signature, payload FROM entry e WHERE NOT EXISTS"
                " (SELECT 1 FROM relay_seen s WHERE s.relay = ? AND s.id = e.id) ORDER BY number LIMIT ?",
                (relay, limit),
            )
        ]

    def stored_at(self, relay: DeviceId) -> list[tuple[RecordId, bytes]]:
        """Return (id, bytes) of the stored records in the relay's log that keep what they list."""
        return [
            (RecordId(record), bytes(data))
            for record, data in self._db.execute(
                "SELECT t.id, t.data FROM relay_seen s JOIN stored t ON t.id = s.id WHERE s.relay = ?1"
                " AND NOT EXISTS (SELECT 1 FROM let_go g WHERE g.relay = ?1 AND g.id = s.id)",
                (relay,),
            )
        ]

    def part(self, relay: DeviceId, name: ChunkId) -> RecordId | None:
        """Return the stored record by which `relay` has the manifest list `name` and all below it, or None."""
        rows = self._db.execute("SELECT record FROM stored_part WHERE relay = ? AND list = ?", (relay, name))
        return RecordId(rows[0][0]) if rows else None

    def put_parts(self, relay: DeviceId, parts: Iterable[tuple[ChunkId, RecordId]]) -> None:
        """Note which stored record `relay` has of each manifest list."""
        self._db.execute_many(
            "INSERT OR REPLACE INTO stored_part VALUES (?, ?, ?)", ((relay, name, record) for name, record in parts)
        )

    def forget_parts(self, relay: DeviceId, records: Iterable[RecordId]) -> None:
        """Forget these stored records as parts: `relay` does not have them."""
        self._db.execute_many(
            "DELETE FROM stored_part WHERE relay = ? AND record = ?", ((relay, record) for record in records)
        )
