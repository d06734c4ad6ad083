"""Where content is stored: a member's statement that these blobs hold what these dots need (`semantics.md` 1.5).

Invariant: names no chunk id in the clear. It stands apart from entries, so that publishing never waits for an upload;
a wrong sealed pair is caught by the chunk id when the chunk is opened.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from meshsync import limits
from meshsync.crypto.hashing import digest
from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import MalformedMessage
from meshsync.ids import BlobId, Dot, FolderId, RecordId
from meshsync.metalog.fields import RECORD_VERSION, Blob, LogId, OperationDot, check_ascending
from meshsync.metalog.signed import Statement, open_statement, read_statement, sign_statement

SIGNATURE_KIND = "stored"
_Dots = Annotated[tuple[OperationDot, ...], msgspec.Meta(max_length=limits.STORED_DOTS_MAX)]
_Parts = Annotated[tuple[LogId, ...], msgspec.Meta(max_length=limits.STORED_PARTS_MAX)]


class StoredRecord(Statement, frozen=True):
    """`device`, a member that may read, uploaded all that the operations `dots` need.

    `gone` are dots of the author's own versions overwritten before they were stored: nobody waits for them. `blobs`
    are the sealed blobs needed, new or already there; `parts` are the ids of earlier stored records whose blobs, and
    those of their own parts, are needed as well. A record without dots is such a part: one manifest list of a large
    file and what lies below it, so that the next version of the file names again only what changed. `sealed` is the
    list (chunk id, blob id, epoch, delta base) of `blobs`, sealed by the caller. `membership` is the newest membership
    entry the uploader knew. Lists ascend.
    """

    membership: LogId
    dots: _Dots
    gone: _Dots
    blobs: Annotated[tuple[Blob, ...], msgspec.Meta(max_length=limits.STORED_BLOBS_MAX)]
    parts: _Parts
    sealed: Annotated[bytes, msgspec.Meta(max_length=limits.STORED_SEALED_BYTES_MAX)]


def make_stored(
    keys: DeviceKeys,
    folder: FolderId,
    *,
    membership: RecordId,
    dots: tuple[Dot, ...] = (),
    gone: tuple[Dot, ...] = (),
    blobs: tuple[BlobId, ...] = (),
    parts: tuple[RecordId, ...] = (),
    sealed: bytes = b"",
) -> bytes:
    """Return the signed record. The lists come in any order; duplicates fall away. Raises MalformedMessage if empty.

    `parts` are ids of stored records by which the log knows them (`record_log.record_id`).
    """
    record = StoredRecord(
        version=RECORD_VERSION,
        folder=folder,
        device=keys.device,
        membership=membership,
        dots=tuple(sorted(set(dots))),
        gone=tuple(sorted(set(gone))),
        blobs=tuple(sorted(set(blobs))),
        parts=tuple(sorted(set(parts))),
        sealed=sealed,
    )
    _check(record)
    return sign_statement(keys, SIGNATURE_KIND, record)


def open_stored(data: bytes, folder: FolderId) -> StoredRecord:
    """Return the verified record.

    Raises MalformedMessage, FormatUnsupported, SignatureInvalid, IntegrityError (another folder). Whether the device
    may state it, `admission.may_append_stored` tells.
    """
    record = open_statement(data, SIGNATURE_KIND, StoredRecord, folder, limits.STORED_RECORD_BYTES_MAX)
    _check(record)
    return record


def read_stored(data: bytes) -> StoredRecord:
    """Return a record that `open_stored` verified when it was taken: looking through a log verifies nothing again."""
    return read_statement(data, StoredRecord, limits.STORED_RECORD_BYTES_MAX)


def stored_id(data: bytes) -> RecordId:
    """Return the id of a signed stored record, which a receipt names."""
    return RecordId(digest("stored", data))


def _check(record: StoredRecord) -> None:
    if not (record.dots or record.gone or record.blobs or record.parts):
        raise MalformedMessage("a stored record about nothing")
    check_ascending(record.dots, "the dots of a stored record")
    check_ascending(record.gone, "the gone dots of a stored record")
    check_ascending(record.blobs, "the blobs of a stored record")
    check_ascending(record.parts, "the parts of a stored record")
    if not set(record.dots).isdisjoint(record.gone):
        raise MalformedMessage("a stored record that says of one dot both stored and gone")
