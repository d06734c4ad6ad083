"""A relay's signed log head.

Invariant: a head answers the head that the asker showed (`after`), so an older log served later contradicts itself
(`metalog.evidence`).
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from meshsync import limits
from meshsync.crypto.hashing import digest
from meshsync.crypto.identity import DeviceKeys
from meshsync.ids import ID_SIZE_BYTES, FolderId
from meshsync.metalog.fields import RECORD_VERSION, Count, Hash, RelaySeen
from meshsync.metalog.signed import Statement, open_statement, sign_statement

SIGNATURE_KIND = "log-head"


class LogHead(Statement, frozen=True):
    """The log of `device`, a relay, holds `index` records chained to `head`.

    `after` is the hash of the signed head that the asker had shown (`head_hash`), or empty.
    """

    index: Count
    head: Hash
    after: Annotated[bytes, msgspec.Meta(max_length=ID_SIZE_BYTES)]

    @property
    def seen(self) -> RelaySeen:
        """What an envelope says of this head."""
        return RelaySeen(self.device, self.index, self.head)


def sign_head(keys: DeviceKeys, folder: FolderId, *, index: int, head: bytes, after: bytes = b"") -> bytes:
    """Return the signed head of the relay with `keys`; `after` is the asker's `head_hash`, or empty."""
    return sign_statement(keys, SIGNATURE_KIND, LogHead(RECORD_VERSION, folder, keys.device, index, head, after))


def open_head(data: bytes, folder: FolderId) -> LogHead:
    """Return the verified head; the caller checks that `device` is one of the folder's relays.

    Raises MalformedMessage, FormatUnsupported, SignatureInvalid, IntegrityError (another folder).
    """
    return open_statement(data, SIGNATURE_KIND, LogHead, folder, limits.RECEIPT_BYTES_MAX)


def head_hash(data: bytes) -> bytes:
    """Return the 32 bytes by which a later head names the signed head `data`."""
    return digest("shown-head", data)
