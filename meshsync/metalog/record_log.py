"""The relay's log of one folder: records of every kind, and the hash chain over them.

Invariant: `head` after `index` records commits to all of them and their order, so two devices that hold equal heads
have been served equal logs. Records of kinds or versions unknown here are kept, chained and passed on like any other.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Annotated

import msgspec

from meshsync import limits
from meshsync.codec.canonical import Record
from meshsync.crypto.hashing import digest
from meshsync.errors import IntegrityError, PeerOverran
from meshsync.ids import RecordId
from meshsync.metalog.entry import entry_id, parse_entry
from meshsync.metalog.membership_entry import membership_id
from meshsync.metalog.stored import stored_id

GENESIS_HEAD = bytes(32)
"""The head of an empty log. A folder's first record is its genesis, whose id is the folder's."""


class RecordKind(enum.IntEnum):
    """What the bytes of a record are."""

    ENTRY = 1
    STORED = 2
    MEMBERSHIP = 3
    RECEIPT = 4
    CHECKPOINT = 5
    RETIRE = 6
    COLLECTED = 7


class LogRecord(Record, frozen=True):
    """One record as sent and kept. `kind` is a RecordKind, or a number from a newer build."""

    kind: Annotated[int, msgspec.Meta(ge=1, le=127)]
    data: Annotated[bytes, msgspec.Meta(max_length=limits.ENTRY_BYTES_MAX)]


def record_id(record: LogRecord) -> RecordId:
    """Return the record's name: for an entry its EntryId, else the hash of its bytes in its kind's domain.

    Raises MalformedMessage for an entry that is not even framed as one.
    """
    match record.kind:
        case RecordKind.ENTRY:
            return RecordId(entry_id(parse_entry(record.data)))
        case RecordKind.MEMBERSHIP:
            return membership_id(record.data)
        case RecordKind.STORED:
            return stored_id(record.data)
        case kind:
            return RecordId(digest("record", bytes([kind]) + record.data))


def next_head(head: bytes, record: RecordId) -> bytes:
    """Return the 32-byte head after `record` is appended to the log with `head`."""
    return digest("log-head", head + record)


def verify_page(head: bytes, index: int, records: Sequence[LogRecord], claimed_head: bytes) -> int:
    """Return the index after `records`, which continue the log of `index` records with `head`.

    Raises IntegrityError if the head after them is not `claimed_head` (omitted, altered, reordered or foreign records),
    PeerOverran if there are more than a page holds, MalformedMessage for an entry not framed as one.
    """
    if len(records) > limits.RECORDS_PAGE_ITEMS_MAX:
        raise PeerOverran(f"a page of {len(records)} records")
    reached = head
    for record in records:
        reached = next_head(reached, record_id(record))
    if reached != claimed_head:
        raise IntegrityError(f"the records after index {index} do not lead to the claimed log head")
    return index + len(records)
