"""Records as devices send them, opened and verified. Invariant: nothing is decided on an unchecked signature.

Kinds that this build does not know are kept as they are (`body` None); newer versions of kinds that it knows are
refused, because what they rest on cannot be checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from meshsync.errors import (
    AccessError,
    FormatUnsupported,
    IntegrityError,
    MalformedMessage,
    MeshsyncError,
    NotAMember,
    ResourceError,
    TicketInvalid,
)
from meshsync.ids import BlobId, FolderId, RecordId, dot_parts
from meshsync.limits import REFUSAL_TEXT_CHARS_MAX
from meshsync.metalog.checkpoint import Checkpoint, open_checkpoint
from meshsync.metalog.entry import OpenedEntry, open_entry, parse_entry
from meshsync.metalog.membership_entry import OpenedMembership, open_membership
from meshsync.metalog.record_log import LogRecord, RecordKind, record_id
from meshsync.metalog.retire import Retire, open_retire
from meshsync.metalog.stored import StoredRecord, open_stored
from meshsync.wire.relay_messages import Code, RecordRefused

Body: TypeAlias = OpenedEntry | StoredRecord | OpenedMembership | Checkpoint | Retire


@dataclass(frozen=True, slots=True)
class Parsed:
    """A record, its id, and its verified content; None for what a relay signs, or a kind that is unknown here."""

    record: LogRecord
    id: RecordId
    body: Body | None

    def references(self) -> set[RecordId]:
        """Return the records that must be in the log before this one, and this one itself."""
        match self.body:
            case OpenedEntry() as entry:
                past = {RecordId(place.entry) for place in entry.past()}
                return past | {self.id, entry.envelope.membership}
            case StoredRecord() as stored:
                return {self.id, stored.membership, *stored.parts}
            case Checkpoint() as checkpoint:
                return {self.id, checkpoint.membership} | {RecordId(head.entry) for head in checkpoint.vector}
            case OpenedMembership() as membership:
                return {self.id, RecordId(membership.body.prev)}
            case Retire() as retire:
                return {self.id, retire.membership, *retire.records, *retire.cancels}
            case None:
                return {self.id}

    def places(self) -> set[tuple[bytes, int]]:
        """Return the (chain, sequence number) of the entries whose operations a STORED record speaks of."""
        if not isinstance(self.body, StoredRecord):
            return set()
        return {dot_parts(dot)[:2] for dot in self.body.dots}

    def blobs(self) -> tuple[BlobId, ...]:
        """Return the blobs that must be durable before this record is."""
        match self.body:
            case StoredRecord() as stored:
                return stored.blobs
            case Checkpoint() as checkpoint:
                return checkpoint.state
            case _:
                return ()


def parse(record: LogRecord, folder: FolderId) -> Parsed | RecordRefused:
    """Return the verified record, or why it is refused. Never raises."""
    try:
        return Parsed(record, record_id(record), _open(record, folder))
    except MeshsyncError as error:
        return refuse(error)


def _open(record: LogRecord, folder: FolderId) -> Body | None:
    match record.kind:
        case RecordKind.ENTRY:
            return open_entry(parse_entry(record.data), folder)
        case RecordKind.STORED:
            return open_stored(record.data, folder)
        case RecordKind.CHECKPOINT:
            return open_checkpoint(record.data, folder)
        case RecordKind.RETIRE:
            return open_retire(record.data, folder)
        case RecordKind.MEMBERSHIP:
            opened = open_membership(record.data)
            if opened.folder != folder:
                raise IntegrityError("a membership entry of another folder")
            return opened
        case _:
            return None


def refuse(error: MeshsyncError) -> RecordRefused:
    """Return what a device is told about `error`."""
    return RecordRefused(code_of(error), error.what[:REFUSAL_TEXT_CHARS_MAX])


def code_of(error: MeshsyncError) -> Code:
    """Return the refusal code for a typed error."""
    match error:
        case NotAMember():
            return Code.UNKNOWN
        case TicketInvalid():
            return Code.TICKET
        case AccessError():
            return Code.ROLE_FORBIDS
        case FormatUnsupported():
            return Code.UNSUPPORTED
        case IntegrityError() | MalformedMessage():
            return Code.INTEGRITY
        case ResourceError():
            return Code.STORAGE_FULL
        case _:
            return Code.BUSY
