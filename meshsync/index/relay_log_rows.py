"""What was read of each relay's log: the ids of its records, by which words of the relay are compared with it.

Invariant: rows of one relay follow each other without a gap from its first record to the cursor; they are written in
the transaction that moves the cursor.
"""

from __future__ import annotations

from collections.abc import Sequence

from meshsync.ids import ID_SIZE_BYTES, DeviceId, RecordId
from meshsync.index.database import Database
from meshsync.metalog.record_log import next_head


class RelayLogRows:
    """One row for each page that was read: the index before its first record, the head there, the ids."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, relay: DeviceId, index: int, head: bytes, ids: Sequence[RecordId]) -> None:
        """Note the records that follow the first `index`, after which the log has the head `head`.

        From its first record on a log is noted anew.
        """
        if not index:
            self._db.execute("DELETE FROM relay_log WHERE relay = ?", (relay,))
        self._db.execute("INSERT INTO relay_log VALUES (?, ?, ?, ?)", (relay, index, head, b"".join(ids)))

    def head_at(self, relay: DeviceId, index: int) -> bytes | None:
        """Return the head after the first `index` records, None where that was not read. Hashes at most one page."""
        rows = self._db.execute(
            "SELECT start, head, ids FROM relay_log WHERE relay = ? AND start <= ? ORDER BY start DESC LIMIT 1",
            (relay, index),
        )
        if not rows:
            return None
        start, head, ids = rows[0]
        wanted = index - start
        if wanted * ID_SIZE_BYTES > len(ids):
            return None
        reached = bytes(head)
        for at in range(wanted):
            reached = next_head(reached, RecordId(ids[at * ID_SIZE_BYTES : (at + 1) * ID_SIZE_BYTES]))
        return reached

    def ids_after(self, relay: DeviceId, after: int, last: int) -> list[RecordId]:
        """Return the ids of the records after index `after` up to `last`, both of which were read."""
        found: list[RecordId] = []
        for start, ids in self._db.execute(
            "SELECT start, ids FROM relay_log WHERE relay = ? AND start < ? AND start + length(ids) / ? > ?"
            " ORDER BY start",
            (relay, last, ID_SIZE_BYTES, after),
        ):
            count = len(ids) // ID_SIZE_BYTES
            first, end = max(0, after - start), min(count, last - start)
            found += (RecordId(ids[at * ID_SIZE_BYTES : (at + 1) * ID_SIZE_BYTES]) for at in range(first, end))
        return found
