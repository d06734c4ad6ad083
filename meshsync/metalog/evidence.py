"""The proof that a relay showed two logs, made of its own signatures.

Invariant: what verifies here convicts the relay off-line, before anyone who knows its key, without folder keys, clock
or network; an honest relay, whatever its links, members and restarts do, signs nothing of which it could be made.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from meshsync import limits
from meshsync.codec.canonical import Record, decode, encode
from meshsync.errors import IntegrityError, MalformedMessage
from meshsync.ids import ID_SIZE_BYTES, DeviceId, FolderId, RecordId, short
from meshsync.metalog.fields import RECORD_VERSION, Folder
from meshsync.metalog.head import LogHead, head_hash, open_head
from meshsync.metalog.receipt import Receipt, open_receipt
from meshsync.metalog.record_log import next_head

Word = LogHead | Receipt
"""What a relay signs of its log: after `index` records it has the head `head`."""

SignedWord = Annotated[bytes, msgspec.Meta(max_length=limits.RECEIPT_BYTES_MAX)]
NO_CONTRADICTION = "what the relay signed here can all be true"


class Fault(enum.IntEnum):
    """What two signed words of one relay prove."""

    FORK = 1
    """Two logs that differ in the records up to one index: some were left out, put in, altered or reordered."""

    ROLLBACK = 2
    """A shorter log signed in answer to a longer one."""


class Evidence(Record, frozen=True):
    """Two signed words of one relay and folder that cannot both be true.

    Rollback: `second` answers `first` with a lower index; `base` and `ids` are empty. Fork: `second` is not the lower
    one; at the index of `first` the log behind it has the head `base`, from which the record ids `ids`, 32 bytes each,
    lead to its own.
    """

    version: Annotated[int, msgspec.Meta(ge=RECORD_VERSION, le=RECORD_VERSION)]
    folder: Folder
    first: SignedWord
    second: SignedWord
    base: Annotated[bytes, msgspec.Meta(max_length=ID_SIZE_BYTES)] = b""
    ids: Annotated[bytes, msgspec.Meta(max_length=ID_SIZE_BYTES * limits.EVIDENCE_RECORDS_MAX)] = b""


@dataclass(frozen=True, slots=True)
class Proven:
    """What verified evidence says."""

    fault: Fault
    relay: DeviceId
    folder: FolderId
    first: Word
    second: Word


def open_word(data: bytes, folder: FolderId) -> Word:
    """Return a verified signed head or receipt. Raises as `open_head`."""
    try:
        return open_head(data, folder)
    except MalformedMessage:
        return open_receipt(data, folder)


def compare_heads(first: bytes, second: bytes, folder: FolderId) -> Evidence | None:
    """Return evidence if two signed heads, in either order, contradict each other by themselves; None if they do not.

    Raises as `open_head` for a head that does not verify.
    """
    for one, other in ((first, second), (second, first)):
        a, b = open_head(one, folder), open_head(other, folder)
        if a.device == b.device and a.index == b.index and a.head != b.head:
            return Evidence(RECORD_VERSION, folder, one, other, b.head)
        if a.device == b.device and b.after == head_hash(one) and b.index < a.index:
            return Evidence(RECORD_VERSION, folder, one, other)
    return None


def compare_along(
    first: bytes,
    second: bytes,
    folder: FolderId,
    head_at: Callable[[int], bytes | None],
    ids_after: Callable[[int, int], Sequence[RecordId]],
) -> Evidence | None:
    """Return evidence if the log behind `second` is not the one behind `first`, which is no longer; None if it is.

    `head_at` and `ids_after` (from that index, excluded, to that one) tell of the records that were read of the log
    behind `second`; None also where these do not reach that far, or too far for one file.
    """
    a, b = open_word(first, folder), open_word(second, folder)
    base = head_at(a.index)
    if base is None or base == a.head or not a.index <= b.index <= a.index + limits.EVIDENCE_RECORDS_MAX:
        return None
    evidence = Evidence(RECORD_VERSION, folder, first, second, base, b"".join(ids_after(a.index, b.index)))
    return evidence if _fault(evidence, a, b) is Fault.FORK else None


def encode_evidence(evidence: Evidence) -> bytes:
    """Return the bytes of an evidence file."""
    return encode(evidence)


def verify_evidence(data: bytes) -> Proven:
    """Return what an evidence file proves. Needs no key, clock or network.

    Raises MalformedMessage, FormatUnsupported, SignatureInvalid, or IntegrityError if both words can be true.
    """
    evidence = decode(Evidence, data, limits.EVIDENCE_BYTES_MAX)
    first, second = open_word(evidence.first, evidence.folder), open_word(evidence.second, evidence.folder)
    fault = _fault(evidence, first, second)
    if fault is None:
        raise IntegrityError(NO_CONTRADICTION, folder=short(evidence.folder))
    return Proven(fault, first.device, evidence.folder, first, second)


def _fault(evidence: Evidence, a: Word, b: Word) -> Fault | None:
    if a.device != b.device:
        return None
    if not evidence.base:
        answers = isinstance(a, LogHead) and isinstance(b, LogHead) and b.after == head_hash(evidence.first)
        return Fault.ROLLBACK if answers and not evidence.ids and b.index < a.index else None
    if len(evidence.ids) != ID_SIZE_BYTES * (b.index - a.index) or evidence.base == a.head:
        return None
    reached = evidence.base
    for at in range(0, len(evidence.ids), ID_SIZE_BYTES):
        reached = next_head(reached, RecordId(evidence.ids[at : at + ID_SIZE_BYTES]))
    return Fault.FORK if reached == b.head and len(evidence.base) == ID_SIZE_BYTES else None
