"""The relay's word that what a stored record names is durable.

Invariant: signed only after every blob of the record and the log up to `index` are fsynced in `replicas` places; with
the log head it also commits the relay to the order of everything before.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from meshsync import limits
from meshsync.crypto.identity import DeviceKeys
from meshsync.ids import FolderId, RecordId
from meshsync.metalog.fields import RECORD_VERSION, Hash, LogId, Seq
from meshsync.metalog.signed import Statement, open_statement, sign_statement

SIGNATURE_KIND = "receipt"


class Receipt(Statement, frozen=True):
    """`device` (a relay) keeps the stored record `record`, the `index`-th of its log (from 1), with the head `head`.

    All blobs that the record lists are durable in `replicas` places.
    """

    record: LogId
    index: Seq
    head: Hash
    replicas: Annotated[int, msgspec.Meta(ge=1, le=limits.REPLICAS_MAX)]


def make_receipt(
    keys: DeviceKeys, folder: FolderId, *, record: RecordId, index: int, head: bytes, replicas: int
) -> bytes:
    """Return the signed receipt of the relay with `keys`."""
    receipt = Receipt(RECORD_VERSION, folder, keys.device, record, index, head, replicas)
    return sign_statement(keys, SIGNATURE_KIND, receipt)


def open_receipt(data: bytes, folder: FolderId) -> Receipt:
    """Return the verified receipt; the caller checks that `device` is one of the folder's relays.

    Raises MalformedMessage, FormatUnsupported, SignatureInvalid, IntegrityError (another folder).
    """
    return open_statement(data, SIGNATURE_KIND, Receipt, folder, limits.RECEIPT_BYTES_MAX)
