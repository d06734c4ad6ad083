"""What owners let go of at each relay, as its log tells."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from meshsync.ids import DeviceId, RecordId
from meshsync.index.database import Database


class RetireState(enum.IntEnum):
    """What became of a retire record."""

    WAITS = 0
    CARRIED_OUT = 1
    CANCELLED = 2


@dataclass(frozen=True, slots=True)
class RetireRow:
    """One retire record. `since_ns`: when it was read here, by this device's clock, for display. `position`: how many
    records the relay's log held before it.
    """

    id: RecordId
    data: bytes
    since_ns: int
    state: RetireState
    position: int


class RetireRows:
    """Rows by relay, in the order of its log."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, relay: DeviceId, position: int, record: RecordId, data: bytes, since_ns: int) -> None:
        """Note a retire record; one that is there already stays as it is."""
        self._db.execute(
            "INSERT OR IGNORE INTO retire (relay, position, id, data, since_ns) VALUES (?, ?, ?, ?, ?)",
            (relay, position, record, data, since_ns),
        )

    def get(self, relay: DeviceId, record: RecordId) -> RetireRow | None:
        """Return one, or None."""
        rows = self._select("relay = ? AND id = ?", (relay, record))
        return rows[0] if rows else None

    def waiting(self, relay: DeviceId) -> list[RetireRow]:
        """Return those that are neither carried out nor cancelled."""
        return self._select("relay = ? AND state = 0", (relay,))

    def all(self, relay: DeviceId) -> list[RetireRow]:
        """Return all of them."""
        return self._select("relay = ?", (relay,))

    def end(self, relay: DeviceId, record: RecordId, state: RetireState) -> None:
        """Note what became of one."""
        self._db.execute("UPDATE retire SET state = ? WHERE relay = ? AND id = ?", (int(state), relay, record))

    def let_go(self, relay: DeviceId, records: Iterable[RecordId]) -> None:
        """Note that these stored records keep nothing at `relay` any more."""
        self._db.execute_many("INSERT OR IGNORE INTO let_go VALUES (?, ?)", ((relay, record) for record in records))

    def revive(self, relay: DeviceId, record: RecordId, position: int) -> bool:
        """Note that this stored record keeps at `relay` what it lists, as a receipt says before which its log held
        `position` records; return whether it did not before.
        """
        if not self._db.execute("DELETE FROM let_go WHERE relay = ? AND id = ? RETURNING 1", (relay, record)):
            return False
        self._db.execute("INSERT OR REPLACE INTO revived VALUES (?, ?, ?)", (relay, record, position))
        return True

    def revived(self, relay: DeviceId) -> dict[RecordId, int]:
        """Return the stored records that live again, and where the relay's log said so."""
        rows = self._db.execute("SELECT id, position FROM revived WHERE relay = ?", (relay,))
        return {RecordId(name): position for name, position in rows}

    def _select(self, where: str, values: tuple[object, ...]) -> list[RetireRow]:
        rows = self._db.execute(
            f"SELECT id, data, since_ns, state, position FROM retire WHERE {where} ORDER BY position", values
        )
        return [
            RetireRow(RecordId(name), bytes(data), since, RetireState(state), position)
            for name, data, since, state, position in rows
        ]
