"""What the safeguards remember: which files were taken away lately, which holds there are, what was released.

Invariant: rows only; what they mean stands in `meshsync.sync.safety` and `meshsync.agent.safeguard`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from meshsync.ids import DeviceId, NodeId
from meshsync.index.database import Database


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """A file that a device took away on one side; `released`: it has not been yet, and the user lets it pass."""

    side: str
    change: str
    device: DeviceId
    node: NodeId
    released: bool


@dataclass(frozen=True, slots=True)
class HoldRow:
    """A hold. `since_ns` is for display; `count` of `total` files were concerned when it was last written."""

    id: str
    side: str
    change: str
    device: DeviceId
    why: str
    since_ns: int
    count: int
    total: int


class SafeguardRows:
    """Rows of one folder's safeguards."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def changes(self) -> list[ChangeRow]:
        """Return all files that count or were released."""
        rows = self._db.execute("SELECT side, change, device, node, released FROM lately ORDER BY device, node")
        return [
            ChangeRow(side, change, DeviceId(device), NodeId(node), bool(released))
            for side, change, device, node, released in rows
        ]

    def put_changes(self, rows: Iterable[ChangeRow]) -> None:
        """Add files; a later row for the same file and cause wins."""
        self._db.execute_many(
            "INSERT INTO lately VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET released = excluded.released",
            ((row.side, row.change, row.device, row.node, int(row.released)) for row in rows),
        )

    def forget_changes(self, rows: Iterable[ChangeRow]) -> None:
        """Remove files, each only as it is given: counted, or released."""
        self._db.execute_many(
            "DELETE FROM lately WHERE side = ? AND change = ? AND device = ? AND node = ? AND released = ?",
            ((row.side, row.change, row.device, row.node, int(row.released)) for row in rows),
        )

    def holds(self) -> list[HoldRow]:
        """Return all holds, oldest first."""
        rows = self._db.execute(
            "SELECT id, side, change, device, why, since_ns, count, total FROM hold ORDER BY since_ns, id"
        )
        return [HoldRow(row[0], row[1], row[2], DeviceId(row[3]), *row[4:]) for row in rows]

    def put_hold(self, row: HoldRow) -> None:
        """Add a hold, or replace the one with its id."""
        values = (row.id, row.side, row.change, row.device, row.why, row.since_ns, row.count, row.total)
        self._db.execute("INSERT OR REPLACE INTO hold VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)

    def end_hold(self, hold: str) -> None:
        """Remove a hold."""
        self._db.execute("DELETE FROM hold WHERE id = ?", (hold,))
