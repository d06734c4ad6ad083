"""Field types that the records of the log share, and the version check that every record begins with.

Invariant: every record is a MessagePack array whose first item is its version, so that a build tells a record that is
newer than itself (kept and passed on) from one that is broken (refused).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any

import msgspec

from meshsync import limits
from meshsync.codec.canonical import Record
from meshsync.errors import FormatUnsupported, MalformedMessage
from meshsync.ids import DOT_SIZE_BYTES, BlobId, ChainId, DeviceId, Dot, EntryId, EpochId, FolderId, RecordId

RECORD_VERSION = 1

_ID = msgspec.Meta(min_length=32, max_length=32)

Device = Annotated[DeviceId, _ID]
Folder = Annotated[FolderId, _ID]
Entry = Annotated[EntryId, _ID]
Chain = Annotated[ChainId, _ID]
LogId = Annotated[RecordId, _ID]
Epoch = Annotated[EpochId, _ID]
Blob = Annotated[BlobId, _ID]
OperationDot = Annotated[Dot, msgspec.Meta(min_length=DOT_SIZE_BYTES, max_length=DOT_SIZE_BYTES)]
Hash = Annotated[bytes, _ID]
Key = Annotated[bytes, _ID]
Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
Seq = Annotated[int, msgspec.Meta(ge=1, le=limits.COUNTER_MAX)]
Count = Annotated[int, msgspec.Meta(ge=0, le=limits.COUNTER_MAX)]
SealedName = Annotated[bytes, msgspec.Meta(max_length=limits.SEALED_NAME_BYTES_MAX)]
KeyBox = Annotated[bytes, msgspec.Meta(min_length=1, max_length=limits.KEY_BOX_BYTES_MAX)]
Address = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.ADDRESS_CHARS_MAX)]
Addresses = Annotated[tuple[Address, ...], msgspec.Meta(max_length=limits.ADDRESSES_MAX)]


class ChainHead(Record, frozen=True, order=True):
    """One entry by its place: the newest of a branch, a thing seen, a pin. Ordered by chain, seq, entry."""

    chain: Chain
    seq: Seq
    entry: Entry


class RelaySeen(Record, frozen=True, order=True):
    """The log head of a relay as a device last verified it: `index` records, chained to `head`."""

    relay: Device
    index: Count
    head: Hash


def check_version(data: bytes, what: str) -> None:
    """Return if `data` begins as a record of this build's version.

    Raises FormatUnsupported for a newer version, MalformedMessage for an older one or anything else. `what` names the
    record for people.
    """
    match data[:1]:
        case b"\xdc":
            version = data[3:4]
        case first if first and 0x90 <= first[0] <= 0x9F:
            version = data[1:2]
        case _:
            version = b""
    if not version or version[0] > 0x7F:
        raise MalformedMessage(f"a {what} without a version")
    if version[0] > RECORD_VERSION:
        raise FormatUnsupported(f"a {what} of version {version[0]} needs a newer build")
    if version[0] < RECORD_VERSION:
        raise MalformedMessage(f"a {what} of the refused version {version[0]}")


def check_ascending(items: tuple[Any, ...], what: str) -> None:
    """Return if `items` ascend strictly, so that a set has one encoding; raise MalformedMessage otherwise."""
    if any(first >= second for first, second in pairwise(items)):
        raise MalformedMessage(f"{what} do not ascend strictly")
