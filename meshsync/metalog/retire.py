"""An owner's word that versions are kept no longer at a relay, and the relay's word that it let go of them.

Invariant: between the two the relay waits (`docs/spec/relay.md` 5), so what is retired by mistake or in bad faith can
be taken back; neither names anything but ids that the log has in the clear already.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from meshsync import limits
from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import MalformedMessage
from meshsync.ids import BlobId, DeviceId, Dot, FolderId, RecordId
from meshsync.metalog.fields import RECORD_VERSION, Blob, Count, Device, LogId, OperationDot, check_ascending
from meshsync.metalog.signed import Statement, open_statement, sign_statement

RETIRE_KIND = "retire"
COLLECTED_KIND = "collected"

_Records = Annotated[tuple[LogId, ...], msgspec.Meta(max_length=limits.RETIRE_RECORDS_MAX)]
_Retires = Annotated[tuple[LogId, ...], msgspec.Meta(max_length=limits.RETIRES_OPEN_MAX)]


class Retire(Statement, frozen=True):
    """`device`, an owner, lets go of the versions `dots` at `relay`: its stored records `records` keep nothing more.

    A part among `records` goes once no other stored record rests on it. `cancels` are earlier retire records that are
    not to be carried out. `index`: the relay's log as its author had read it. `membership` is the newest membership
    entry that the author knew. Lists ascend.
    """

    membership: LogId
    relay: Device
    index: Count
    dots: Annotated[tuple[OperationDot, ...], msgspec.Meta(max_length=limits.STORED_DOTS_MAX)]
    records: _Records
    cancels: _Retires


class Collected(Statement, frozen=True):
    """`device`, the relay, carried out `retires`: of `records` it keeps nothing that others do not need.

    `blobs` are those that no stored record keeps from then on. Lists ascend.
    """

    retires: _Retires
    records: _Records
    blobs: Annotated[tuple[Blob, ...], msgspec.Meta(max_length=limits.STORED_BLOBS_MAX)]


def make_retire(
    keys: DeviceKeys,
    folder: FolderId,
    *,
    membership: RecordId,
    relay: DeviceId,
    index: int,
    dots: tuple[Dot, ...] = (),
    records: tuple[RecordId, ...] = (),
    cancels: tuple[RecordId, ...] = (),
) -> bytes:
    """Return the signed record. The lists come in any order; duplicates fall away. Raises MalformedMessage if empty."""
    retire = Retire(
        RECORD_VERSION,
        folder,
        keys.device,
        membership,
        relay,
        index,
        tuple(sorted(set(dots))),
        tuple(sorted(set(records))),
        tuple(sorted(set(cancels))),
    )
    _check_retire(retire)
    return sign_statement(keys, RETIRE_KIND, retire)


def open_retire(data: bytes, folder: FolderId) -> Retire:
    """Return the verified record; the caller checks that `device` is an owner.

    Raises MalformedMessage, FormatUnsupported, SignatureInvalid, IntegrityError (another folder).
    """
    retire = open_statement(data, RETIRE_KIND, Retire, folder, limits.STORED_RECORD_BYTES_MAX)
    _check_retire(retire)
    return retire


def make_collected(
    keys: DeviceKeys,
    folder: FolderId,
    retires: tuple[RecordId, ...],
    records: tuple[RecordId, ...],
    blobs: tuple[BlobId, ...],
) -> bytes:
    """Return the signed record of the relay with `keys`. The lists come in any order, without duplicates."""
    return sign_statement(
        keys,
        COLLECTED_KIND,
        Collected(
            RECORD_VERSION,
            folder,
            keys.device,
            tuple(sorted(retires)),
            tuple(sorted(records)),
            tuple(sorted(blobs)),
        ),
    )


def open_collected(data: bytes, folder: FolderId) -> Collected:
    """Return the verified record; the caller checks that `device` is the relay of the log.

    Raises MalformedMessage, FormatUnsupported, SignatureInvalid, IntegrityError (another folder).
    """
    collected = open_statement(data, COLLECTED_KIND, Collected, folder, limits.STORED_RECORD_BYTES_MAX)
    check_ascending(collected.retires, "the retire records that were carried out")
    check_ascending(collected.records, "the stored records that were let go of")
    check_ascending(collected.blobs, "the blobs that were let go of")
    return collected


def _check_retire(retire: Retire) -> None:
    if not (retire.dots or retire.records or retire.cancels):
        raise MalformedMessage("a retire record about nothing")
    check_ascending(retire.dots, "the dots of a retire record")
    check_ascending(retire.records, "the stored records of a retire record")
    check_ascending(retire.cancels, "the retire records of a retire record")
