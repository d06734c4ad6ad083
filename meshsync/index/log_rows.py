"""The local copy of a folder's log: membership chain, entries in causal order, stored records with receipts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from meshsync.ids import ChainId, DeviceId, EntryId, RecordId
from meshsync.index.database import Database


@dataclass(frozen=True, slots=True)
class EntryRow:
    """One delivered entry: parts as sent, and what was computed of them (`time`: Lamport)."""

    id: EntryId
    chain: ChainId
    device: DeviceId
    seq: int
    time: int
    prev: bytes
    envelope: bytes
    signature: bytes
    payload: bytes


class LogRows:
    """Rows of the log. Invariant: an entry's past is in the table before it."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def append_membership(self, position: int, record: RecordId, entry: bytes) -> None:
        """Set the membership entry at `position` (0 = genesis)."""
        self._db.execute("INSERT OR REPLACE INTO membership VALUES (?, ?, ?)", (position, record, entry))

    def truncate_membership(self, count: int) -> None:
        """Keep the first `count` membership entries."""
        self._db.execute("DELETE FROM membership WHERE position >= ?", (count,))

    def membership(self) -> list[bytes]:
        """Return all membership entries in order."""
        return [entry for (entry,) in self._db.execute("SELECT entry FROM membership ORDER BY position")]

    def append_entries(self, rows: Iterable[EntryRow]) -> None:
        """Add delivered entries in causal order. One that is there already is left as it is."""
        numbers: dict[ChainId, int] = {}  # for this call only: a transaction that is undone takes its chains with it
        for row in rows:
            number = numbers.get(row.chain)
            if number is None:
                number = numbers[row.chain] = self._chain_number(row)
            self._db.execute(
                "INSERT OR IGNORE INTO entry (id, chain, seq, time, prev, envelope, signature, payload)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (row.id, number, row.seq, row.time, row.prev, row.envelope, row.signature, row.payload),
            )

    def _chain_number(self, row: EntryRow) -> int:
        known = self._db.execute("SELECT number FROM chain WHERE id = ?", (row.chain,))
        if known:
            return int(known[0][0])
        return self._db.insert("INSERT INTO chain (id, device) VALUES (?, ?)", (row.chain, row.device))

    _SELECT = (
        "SELECT e.id, c.id, c.device, e.seq, e.time, e.prev, e.envelope, e.signature, e.payload, e.number"
        " FROM entry e JOIN chain c ON c.number = e.chain "
    )

    def entries(self) -> Iterator[EntryRow]:
        """Yield all entries in causal order, a page at a time."""
        after = 0
        while True:
            rows = self._db.execute(self._SELECT + "WHERE e.number > ? ORDER BY e.number LIMIT 500", (after,))
            for row in rows:
                yield EntryRow(*row[:9])
            if not rows:
                return
            after = rows[-1][9]

    def count_entries(self) -> int:
        """Return how many entries there are."""
        return int(self._db.execute("SELECT count(*) FROM entry")[0][0])

    def entry(self, entry: EntryId) -> EntryRow | None:
        """Return one entry, or None."""
        rows = self._db.execute(self._SELECT + "WHERE e.id = ?", (entry,))
        return EntryRow(*rows[0][:9]) if rows else None

    def entry_links(self) -> list[tuple[DeviceId, ChainId, int, EntryId, bytes, int]]:
        """Return (device, chain, seq, id, prev, time) of all entries in causal order."""
        return [
            (DeviceId(device), ChainId(chain), seq, EntryId(entry), prev, time)
            for device, chain, seq, entry, prev, time in self._db.execute(
                "SELECT c.device, c.id, e.seq, e.id, e.prev, e.time FROM entry e JOIN chain c ON c.number = e.chain"
                " ORDER BY e.number"
            )
        ]

    def put_stored(self, record: RecordId, data: bytes) -> None:
        """Keep a stored record."""
        self._db.execute("INSERT OR IGNORE INTO stored (id, data) VALUES (?, ?)", (record, data))

    def put_receipt(self, record: RecordId, receipt: bytes) -> None:
        """Keep the receipt of a stored record."""
        self._db.execute("UPDATE stored SET receipt = ? WHERE id = ?", (receipt, record))

    def stored(self, record: RecordId) -> bytes | None:
        """Return a stored record's bytes, or None."""
        rows = self._db.execute("SELECT data FROM stored WHERE id = ?", (record,))
        return bytes(rows[0][0]) if rows else None

    def stored_ids(self) -> list[RecordId]:
        """Return the ids of all stored records."""
        return [RecordId(record) for (record,) in self._db.execute("SELECT id FROM stored")]
