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
from meshsync.metalog.signed import Statement, open_statement, sign_statement

SIGNATURE_KIND = "stored"
_Dots = Annotated[tuple[OperationDot, ...], msgspec.Meta(max_length=limits.STORED_DOTS_MAX)]


class StoredRecord(Statement, frozen=True):
    """`device`, a member that may read, uploaded all that the operations `dots` need.

    `gone` are dots of the author's own versions overwritten before they were stored: nobody waits for them. `blobs`
    are all sealed blobs needed, new or already there. `sealed` is the list (chunk id, blob id, epoch, delta base),
    sealed by the caller. `membership` is the newest membership entry the uploader knew. Lists ascend.
    """

    membership: LogId
    dots: _Dots
    gone: _Dots
    blobs: Annotated[tuple[Blob, ...], msgspec.Meta(max_length=limits.STORED_BLOBS_MAX)]
    sealed: Annotated[bytes, msgspec.Meta(max_length=limits.STORED_SEALED_BYTES_MAX)]


def make_stored(
    keys: DeviceKeys,
    folder: FolderId,
    *,
    membership: RecordId,
    dots: tuple[Dot, ...] = (),
    gone: tuple[Dot, ...] = (),
    blobs: tuple[BlobId, ...] = (),
    sealed: bytes = b"",
) -> bytes:
    """Return the signed record. The lists come in any order; duplicates fall away. Raises MalformedMessage if empty."""
    record = StoredRecord(
        version=RECORD_VERSION,
        folder=folder,
        device=keys.device,
        membership=membership,
        dots=tuple(sorted(set(dots))),
        gone=tuple(sorted(set(gone))),
        blobs=tuple(sorted(set(blobs))),
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


def stored_id(data: bytes) -> RecordId:
    """Return the id of a signed stored record, which a receipt names."""
    return RecordId(digest("stored", data))


def _check(record: StoredRecord) -> None:
    if not record.dots and not record.gone:
        raise MalformedMessage("a stored record about nothing")
    check_ascending(record.dots, "the dots of a stored record")
    check_ascending(record.gone, "the gone dots of a stored record")
    check_ascending(record.blobs, "the blobs of a stored record")
    if not set(record.dots).isdisjoint(record.gone):
        raise MalformedMessage("a stored record that says of one dot both stored and gone")
