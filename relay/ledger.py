"""Which stored records of a folder still keep their blobs. Rows of the log in, what to let go of out.

Invariant: a blob is let go of only if every stored record that lists it was named by a retire record that is carried
out, and no other record rests on it as a part. The log alone decides: a relay that reads it anew comes to the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from meshsync.ids import BlobId, FolderId, RecordId
from meshsync.limits import RECORDS_PAGE_BYTES_MAX, RECORDS_PAGE_ITEMS_MAX
from meshsync.metalog.checkpoint import open_checkpoint
from meshsync.metalog.receipt import open_receipt
from meshsync.metalog.record_log import RecordKind
from meshsync.metalog.retire import open_collected, open_retire
from meshsync.metalog.stored import read_stored
from relay.drivers.base import MetadataLog, Row

KINDS = (RecordKind.STORED, RecordKind.RECEIPT, RecordKind.RETIRE, RecordKind.COLLECTED)
"""What a ledger is fed with."""

KEEPERS = (RecordKind.STORED, RecordKind.CHECKPOINT)
"""What lists blobs. Checkpoints keep theirs for good."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored record: where it stands, and the records that it rests on."""

    index: int
    parts: tuple[RecordId, ...]


class Ledger:
    """Fed with all rows of `KINDS`, in order. `stored` by id; `dead` are those that keep nothing any more.

    `index` is that of the last row.
    """

    def __init__(self, folder: FolderId) -> None:
        self._folder = folder
        self.index = 0
        self.stored: dict[RecordId, Stored] = {}
        self.dead: set[RecordId] = set()
        self._retires: dict[RecordId, tuple[int, tuple[RecordId, ...]]] = {}
        self._retired: set[RecordId] = set()
        self._revived: dict[RecordId, int] = {}  # index of the receipt; what was retired before counts no more

    def take(self, row: Row) -> None:
        """Take the next row. Raises IntegrityError or MalformedMessage for one that this relay never took."""
        self.index = row.index
        match row.kind:
            case RecordKind.STORED:
                parts = tuple(RecordId(part) for part in read_stored(row.data).parts)
                self.stored[row.id] = Stored(row.index, parts)
            case RecordKind.RETIRE:
                named = open_retire(row.data, self._folder).records
                self._retires[row.id] = row.index, tuple(RecordId(name) for name in named)
            case RecordKind.COLLECTED:
                collected = open_collected(row.data, self._folder)
                self._retired |= self._named(RecordId(name) for name in collected.retires)
                self.dead.update(RecordId(name) for name in collected.records)
            case RecordKind.RECEIPT:
                record = RecordId(open_receipt(row.data, self._folder).record)
                if record in self.dead:
                    self._revived[record] = row.index
                    self._retired.discard(record)
                    self.dead.discard(record)

    def dying(self, due: Iterable[RecordId]) -> set[RecordId]:
        """Return the stored records that keep nothing any more once the retire records `due` are carried out."""
        retired = self._retired | self._named(due)
        needed: set[RecordId] = set()
        waiting = [name for name in self.stored if name not in retired]
        while waiting:
            name = waiting.pop()
            if name not in needed:
                needed.add(name)
                waiting += self.stored[name].parts
        return retired - needed - self.dead

    def _named(self, retires: Iterable[RecordId]) -> set[RecordId]:
        found: set[RecordId] = set()
        for retire in retires:
            index, records = self._retires[retire]
            found.update(name for name in records if self._revived.get(name, 0) < index)
        return found


async def rows_of(
    log: MetadataLog, folder: FolderId, after: int, kinds: Iterable[RecordKind] = KINDS
) -> AsyncIterator[Row]:
    """Yield the rows of `kinds` after index `after`, a page at a time."""
    wanted = list(kinds)
    while page := await log.read(folder, after + 1, RECORDS_PAGE_BYTES_MAX, RECORDS_PAGE_ITEMS_MAX, wanted):
        for row in page:
            yield row
        after = page[-1].index


async def read_ledger(log: MetadataLog, folder: FolderId) -> Ledger:
    """Return what the log of `folder` adds up to now. Raises what reading raises."""
    ledger = Ledger(folder)
    async for row in rows_of(log, folder, 0):
        ledger.take(row)
    return ledger


def listed(row: Row, folder: FolderId) -> tuple[BlobId, ...]:
    """Return the blobs that a row of `KEEPERS` lists."""
    if row.kind == RecordKind.CHECKPOINT:
        return open_checkpoint(row.data, folder).state
    return read_stored(row.data).blobs
