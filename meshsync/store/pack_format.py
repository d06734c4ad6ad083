"""The bytes of a pack file (`docs/spec/chunk-store.md`). Invariant: every record's body hashes to the id in its header.

A pack is a header, then records, then, once it is closed, a trailer record that lists all others and a footer that
points at the trailer. Integers are big endian.
"""

from __future__ import annotations

import enum
import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from meshsync.crypto.hashing import Buffer, blob_id
from meshsync.errors import FormatUnsupported, IntegrityError
from meshsync.ids import ID_SIZE_BYTES, BlobId
from meshsync.limits import PACK_RECORD_BYTES_MAX

PACK_MAGIC = b"MSPACK\x01\n"  # byte 6 is the version
_PACK_HEADER = struct.Struct(">8sQ")
_RECORD_HEADER = struct.Struct(">4s32sI")
_CRC = struct.Struct(">I")
_LISTED = struct.Struct(">4s32sQI")
_FOOTER = struct.Struct(">QI4s")
_FOOTER_MAGIC = b"MSPF"

PACK_HEADER_BYTES = _PACK_HEADER.size
RECORD_HEADER_BYTES = _RECORD_HEADER.size + _CRC.size
FOOTER_BYTES = _FOOTER.size


class RecordKind(bytes, enum.Enum):
    """The magic of a record. BLOB: sealed bytes. GONE: ids removed before this point. END: the trailer."""

    BLOB = b"BLB1"
    GONE = b"GON1"
    END = b"END1"


_ANY_MAGIC = re.compile(b"|".join(kind.value for kind in RecordKind))
_KINDS = {kind.value: kind for kind in RecordKind}


@dataclass(frozen=True, slots=True)
class Placed:
    """A record's place: `offset` of its body in the pack and `size` of its body, both in bytes."""

    kind: RecordKind
    id: BlobId
    offset: int
    size: int

    @property
    def end(self) -> int:
        """The offset of the byte after the body."""
        return self.offset + self.size


@dataclass(slots=True)
class Scan:
    """What a walk over a pack found. `good` and `damaged` are in file order; `end` is the offset after the last good
    record: what lies beyond it is a torn tail or a trailer."""

    end: int
    good: list[Placed] = field(default_factory=list)
    damaged: list[Placed] = field(default_factory=list)


def pack_header(number: int) -> bytes:
    """Return the first bytes of pack `number`."""
    return _PACK_HEADER.pack(PACK_MAGIC, number)


def check_pack_header(data: Buffer, number: int) -> None:
    """Raise FormatUnsupported for another version, IntegrityError if `data` does not begin pack `number`."""
    if len(data) < PACK_HEADER_BYTES:
        raise IntegrityError(f"pack {number} is shorter than its header")
    magic, stated = _PACK_HEADER.unpack_from(data)
    if magic[:6] == PACK_MAGIC[:6] and magic != PACK_MAGIC:
        raise FormatUnsupported(f"pack {number} has version {magic[6]}; this build knows {PACK_MAGIC[6]}")
    if magic != PACK_MAGIC or stated != number:
        raise IntegrityError(f"pack {number} does not begin with its header")


def record_header(kind: RecordKind, record_id: BlobId, size: int) -> bytes:
    """Return the header of a record with a body of `size` bytes that hashes to `record_id`."""
    head = _RECORD_HEADER.pack(kind.value, record_id, size)
    return head + _CRC.pack(zlib.crc32(head))


def parse_record_header(data: Buffer, at: int) -> Placed | None:
    """Return the record whose header begins at offset `at` of `data`, or None if no valid header is there."""
    if at + RECORD_HEADER_BYTES > len(data):
        return None
    magic, record_id, size = _RECORD_HEADER.unpack_from(data, at)
    (crc,) = _CRC.unpack_from(data, at + _RECORD_HEADER.size)
    kind = _KINDS.get(magic)
    if kind is None or size > PACK_RECORD_BYTES_MAX or crc != zlib.crc32(data[at : at + _RECORD_HEADER.size]):
        return None
    return Placed(kind, BlobId(record_id), at + RECORD_HEADER_BYTES, size)


def gone_body(ids: Iterable[BlobId]) -> bytes:
    """Return the body of a GONE record."""
    return b"".join(ids)


def parse_gone(body: Buffer) -> list[BlobId]:
    """Return the ids in a GONE record's body; a length that is no multiple of 32 drops the rest."""
    whole = len(body) // ID_SIZE_BYTES
    return [BlobId(bytes(body[i * ID_SIZE_BYTES : (i + 1) * ID_SIZE_BYTES])) for i in range(whole)]


def trailer(records: Sequence[Placed], at: int) -> bytes:
    """Return the END record, to be written at offset `at`, that lists `records`, and the footer."""
    body = b"".join(_LISTED.pack(r.kind.value, r.id, r.offset, r.size) for r in records)
    head = record_header(RecordKind.END, blob_id(body), len(body))
    place = struct.pack(">Q", at)
    return head + body + _FOOTER.pack(at, zlib.crc32(place), _FOOTER_MAGIC)


def parse_trailer(data: Buffer) -> list[Placed] | None:
    """Return the records that the trailer of the whole pack `data` lists, or None if it has no valid trailer."""
    if len(data) < PACK_HEADER_BYTES + RECORD_HEADER_BYTES + FOOTER_BYTES:
        return None
    at, crc, magic = _FOOTER.unpack_from(data, len(data) - FOOTER_BYTES)
    if magic != _FOOTER_MAGIC or crc != zlib.crc32(struct.pack(">Q", at)):
        return None
    end = parse_record_header(data, at)
    if end is None or end.kind is not RecordKind.END or end.end != len(data) - FOOTER_BYTES:
        return None
    body = data[end.offset : end.end]
    if len(body) % _LISTED.size or blob_id(body) != end.id:
        return None
    return [
        Placed(_KINDS[kind], BlobId(record_id), offset, size)
        for kind, record_id, offset, size in _LISTED.iter_unpack(body)
        if kind in _KINDS
    ]


def scan(data: Buffer, start: int) -> Scan:
    """Walk the records of the pack `data` from offset `start` and check every body. Never raises.

    A header that does not check is searched past, byte by byte, for a record that does: damage in the middle costs
    one record, not the rest. After such a search GONE records no longer count, because a body could contain one.
    """
    found = Scan(end=start)
    at, in_step = start, True
    while at + RECORD_HEADER_BYTES <= len(data):
        record = parse_record_header(data, at)
        whole = record is not None and record.end <= len(data)
        good = whole and record is not None and blob_id(data[record.offset : record.end]) == record.id
        if record is not None and good:
            if record.kind is RecordKind.END:
                break
            if in_step or record.kind is RecordKind.BLOB:
                found.good.append(record)
            at = found.end = record.end
        elif record is not None and whole and in_step:
            found.damaged.append(record)
            at = record.end
        else:
            in_step = False
            at = _next_magic(data, at + 1)
    found.damaged = [record for record in found.damaged if record.end <= found.end]
    return found


def _next_magic(data: Buffer, start: int) -> int:
    """Return the offset of the next bytes at or after `start` that may begin a record, or the length of `data`."""
    hit = _ANY_MAGIC.search(data, start)
    return hit.start() if hit else len(data)
