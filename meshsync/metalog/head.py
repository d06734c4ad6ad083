"""A relay's signed log head, and the proof that a relay showed two logs.

Invariant: evidence is made of the relay's own signatures and verifies off-line, by anyone who knows the relay's key.
A head answers the head that the asker showed (`after`), so an older log served later contradicts itself.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated

import msgspec

from meshsync import limits
from meshsync.codec.canonical import Record, decode, encode
from meshsync.crypto.hashing import digest
from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import IntegrityError
from meshsync.ids import ID_SIZE_BYTES, DeviceId, FolderId, short
from meshsync.metalog.fields import RECORD_VERSION, Count, Folder, Hash, RelaySeen
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


class Fault(enum.IntEnum):
    """What two signed heads of one relay prove."""

    FORK = 1
    """Two logs of equal length that differ."""

    ROLLBACK = 2
    """A shorter log signed after a longer one."""


class Evidence(Record, frozen=True):
    """Two signed heads of one relay and folder that cannot both be true; `first` was signed first in a rollback."""

    version: Annotated[int, msgspec.Meta(ge=RECORD_VERSION, le=RECORD_VERSION)]
    folder: Folder
    first: Annotated[bytes, msgspec.Meta(max_length=limits.RECEIPT_BYTES_MAX)]
    second: Annotated[bytes, msgspec.Meta(max_length=limits.RECEIPT_BYTES_MAX)]


@dataclass(frozen=True, slots=True)
class Proven:
    """What verified evidence says."""

    fault: Fault
    relay: DeviceId
    first: LogHead
    second: LogHead


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


def compare_heads(first: bytes, second: bytes, folder: FolderId) -> Evidence | None:
    """Return evidence if two signed heads, in either order, contradict each other; None if both can be true.

    Raises as `open_head` for a head that does not verify.
    """
    for one, other in ((first, second), (second, first)):
        if _fault(one, other, folder) is not None:
            return Evidence(RECORD_VERSION, folder, one, other)
    return None


def encode_evidence(evidence: Evidence) -> bytes:
    """Return the bytes of an evidence file."""
    return encode(evidence)


def verify_evidence(data: bytes) -> Proven:
    """Return what an evidence file proves. Needs no key, clock or network.

    Raises MalformedMessage, SignatureInvalid, or IntegrityError if both heads can be true.
    """
    evidence = decode(Evidence, data, 3 * limits.RECEIPT_BYTES_MAX)
    fault = _fault(evidence.first, evidence.second, evidence.folder)
    if fault is None:
        raise IntegrityError("these heads do not contradict each other", folder=short(evidence.folder))
    first, second = open_head(evidence.first, evidence.folder), open_head(evidence.second, evidence.folder)
    return Proven(fault, first.device, first, second)


def _fault(first: bytes, second: bytes, folder: FolderId) -> Fault | None:
    a, b = open_head(first, folder), open_head(second, folder)
    if a.device != b.device:
        return None
    if a.index == b.index and a.head != b.head:
        return Fault.FORK
    if b.after == head_hash(first) and b.index < a.index:
        return Fault.ROLLBACK
    return None
