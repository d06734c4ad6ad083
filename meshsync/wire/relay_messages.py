"""Messages between a device and a relay (`docs/spec/relay.md`): one frozen record each, with its frame type and bounds.

Invariant: a stream that begins with `Attach` or `CreateFolder` concerns that one folder; the device asks, the relay
answers in order, and nothing is acknowledged that is not durable. Only `LogGrew` and `BlobsLost` come unasked, after
`Follow`. One that begins with `OpenSlot` or `EnterSlot` ends at another device.
"""

from __future__ import annotations

import enum
from typing import Annotated, ClassVar

import msgspec

from meshsync import limits
from meshsync.codec.canonical import Record, decode, encode
from meshsync.crypto.hashing import derive, keyed
from meshsync.errors import (
    FormatUnsupported,
    IntegrityError,
    MalformedMessage,
    MeshsyncError,
    NotAMember,
    RoleForbids,
    StorageFull,
    TicketInvalid,
    TransientError,
)
from meshsync.ids import DeviceId, FolderId
from meshsync.metalog.record_log import LogRecord

TICKET_PROOF_KIND = "relay-attach"

Id = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
IdOrNone = Annotated[bytes, msgspec.Meta(max_length=32)]
SignedHead = Annotated[bytes, msgspec.Meta(max_length=limits.RECEIPT_BYTES_MAX)]
Text = Annotated[str, msgspec.Meta(max_length=limits.REFUSAL_TEXT_CHARS_MAX)]
Index = Annotated[int, msgspec.Meta(ge=0, le=limits.COUNTER_MAX)]
Position = Annotated[int, msgspec.Meta(ge=0, lt=limits.WANT_ITEMS_MAX)]
Positions = Annotated[tuple[Position, ...], msgspec.Meta(max_length=limits.WANT_ITEMS_MAX)]
SomeIds = Annotated[tuple[Id, ...], msgspec.Meta(max_length=limits.HAVE_ITEMS_MAX)]
BlobSize = Annotated[int, msgspec.Meta(ge=0, le=limits.BLOB_SIZE_BYTES_MAX)]
BlobBytes = Annotated[bytes, msgspec.Meta(max_length=limits.BLOB_SIZE_BYTES_MAX)]


class Code(enum.IntEnum):
    """Why a relay refuses, by what the device does next."""

    UNKNOWN = 1  # the folder is not here, or this device is not in it: create the folder, or be admitted
    ROLE_FORBIDS = 2  # the author's role does not allow it: do not ask again
    INVITATION = 3  # the invitation's secret is wrong or was withdrawn
    STORAGE_FULL = 4  # a quota or the relay's disk: tell the user, wait
    CONFLICT = 5  # the membership chain has moved: read it, propose again
    BEYOND_PIN = 6  # after the last accepted entry of a removed device
    TICKET = 7  # the ticket is unknown, used, expired or revoked
    INTEGRITY = 8  # a signature or hash does not verify, or a record contradicts what it names
    UNSUPPORTED = 9  # a record of a version that this relay does not know
    BUSY = 10  # retry with backoff


_ERRORS: dict[Code, type[MeshsyncError]] = {
    Code.UNKNOWN: NotAMember,
    Code.ROLE_FORBIDS: RoleForbids,
    Code.INVITATION: TicketInvalid,
    Code.STORAGE_FULL: StorageFull,
    Code.CONFLICT: TransientError,
    Code.BEYOND_PIN: RoleForbids,
    Code.TICKET: TicketInvalid,
    Code.INTEGRITY: IntegrityError,
    Code.UNSUPPORTED: FormatUnsupported,
    Code.BUSY: TransientError,
}


_NEXT_STEPS: dict[Code, str] = {
    Code.STORAGE_FULL: "Have its operator make room; it is tried again by itself, at once after: meshsync resume",
}


class Message(Record, frozen=True):
    """Base of all messages on a stream; `TYPE` is the frame type."""

    TYPE: ClassVar[int]


# --- the first message, and refusals


class Attach(Message, frozen=True):
    """First on a stream: requests about `folder` follow. Answered by Attached or Refused.

    `shown`: `head_hash` of the newest signed head of this relay that the device holds, or empty. A device that is no
    member yet proves a ticket: `ticket` is its public key, `signature` its signature (domain TICKET_PROOF_KIND) over
    `ticket_statement`; it may then read the membership chain and append its admission, nothing else.
    """

    TYPE = 96
    folder: Id
    shown: IdOrNone = b""
    ticket: IdOrNone = b""
    signature: Annotated[bytes, msgspec.Meta(max_length=64)] = b""


class CreateFolder(Message, frozen=True):
    """First on a stream: found the folder of the signed `genesis` here, if it is not here yet, then as Attach.

    `proof` is `creation_proof` by the relay's invitation.
    """

    TYPE = 97
    genesis: Annotated[bytes, msgspec.Meta(max_length=limits.MEMBERSHIP_ENTRY_BYTES_MAX)]
    proof: Id


class Attached(Message, frozen=True):
    """`head`: the folder's log head signed by the relay (`metalog.head`), which holds the index."""

    TYPE = 98
    head: SignedHead


class Refused(Message, frozen=True):
    """The request was not done; nothing changed. As the answer to a stream's first message it ends the stream."""

    TYPE = 99
    code: Code
    text: Text


# --- the log


class Append(Message, frozen=True):
    """Append records, past first. Idempotent by record id. Answered by AppendResult or Refused."""

    TYPE = 100
    records: Annotated[tuple[LogRecord, ...], msgspec.Meta(min_length=1, max_length=limits.RECORDS_PAGE_ITEMS_MAX)]


class Appended(Record, frozen=True, tag=1):
    """The record is durable at `index`. For a STORED record, `receipt` is the signed receipt, kept at `index` + 1."""

    index: Index
    receipt: Annotated[bytes, msgspec.Meta(max_length=limits.RECEIPT_BYTES_MAX)] = b""


class AlreadyThere(Record, frozen=True, tag=2):
    """The record was appended before, at `index`; it is durable. `receipt` as in Appended."""

    index: Index
    receipt: Annotated[bytes, msgspec.Meta(max_length=limits.RECEIPT_BYTES_MAX)] = b""


class RecordRefused(Record, frozen=True, tag=3):
    """The record may not enter."""

    code: Code
    text: Text


class MissingPast(Record, frozen=True, tag=4):
    """The record names records that are not in the log (the first HAVE_ITEMS_MAX of them): append them before it."""

    ids: SomeIds


class MissingBlobs(Record, frozen=True, tag=5):
    """Blobs that the record lists are not durable here (the first HAVE_ITEMS_MAX): upload them, append again."""

    ids: SomeIds


Outcome = Appended | AlreadyThere | RecordRefused | MissingPast | MissingBlobs


class AppendResult(Message, frozen=True):
    """One outcome for each record of the Append, in its order, and the signed log head after it."""

    TYPE = 101
    outcomes: Annotated[tuple[Outcome, ...], msgspec.Meta(max_length=limits.RECORDS_PAGE_ITEMS_MAX)]
    head: SignedHead


class Read(Message, frozen=True):
    """Send records from `start` on (the first is 1), about `bytes_max` bytes at most. Answered by Page or Refused."""

    TYPE = 102
    start: Annotated[int, msgspec.Meta(ge=1, le=limits.COUNTER_MAX)]
    bytes_max: Annotated[int, msgspec.Meta(ge=1, le=limits.RECORDS_PAGE_BYTES_MAX)] = limits.RECORDS_PAGE_BYTES_MAX
    shown: IdOrNone = b""


class Page(Message, frozen=True):
    """Consecutive records from `start` on; empty if there are none.

    `reached` is the log head after the last of them (`record_log.verify_page`; 32 zero bytes if `start` is 1 and there
    are none); `head` the relay's signed head now.
    """

    TYPE = 103
    start: Index
    records: Annotated[tuple[LogRecord, ...], msgspec.Meta(max_length=limits.RECORDS_PAGE_ITEMS_MAX)]
    reached: Id
    head: SignedHead


class Follow(Message, frozen=True):
    """Last request on a stream: send LogGrew whenever the log is longer than `index`, until the stream ends."""

    TYPE = 104
    index: Index
    shown: IdOrNone = b""


class LogGrew(Message, frozen=True):
    """The log has grown; of several growths in a row only the last is told. Each head answers the one sent before."""

    TYPE = 105
    head: SignedHead


class BlobsLost(Message, frozen=True):
    """After `Follow`: the relay has found that it holds no more what it had acknowledged. Members bring it again."""

    TYPE = 126
    blobs: Annotated[tuple[Id, ...], msgspec.Meta(min_length=1, max_length=limits.LOST_BLOBS_MAX)]


class ReadMembership(Message, frozen=True):
    """Send membership entries at log indices from `start` on. Also for bearers of a ticket."""

    TYPE = 113
    start: Annotated[int, msgspec.Meta(ge=1, le=limits.COUNTER_MAX)]


class MembershipRecord(Record, frozen=True):
    """A signed membership entry and its index in the log."""

    index: Index
    data: Annotated[bytes, msgspec.Meta(max_length=limits.MEMBERSHIP_ENTRY_BYTES_MAX)]


class MembershipPage(Message, frozen=True):
    """Membership entries in order; `more` if asking again from after the last would give more."""

    TYPE = 114
    records: Annotated[tuple[MembershipRecord, ...], msgspec.Meta(max_length=limits.RECORDS_PAGE_ITEMS_MAX)]
    more: bool


# --- blobs


class Offered(Record, frozen=True):
    """A sealed blob that the device holds, with its size in bytes."""

    blob: Id
    size: BlobSize


class Offer(Message, frozen=True):
    """The device can send these blobs, WANT_BYTES_MAX bytes in all. Answered by Wanted or Refused."""

    TYPE = 106
    items: Annotated[tuple[Offered, ...], msgspec.Meta(max_length=limits.WANT_ITEMS_MAX)]


class Wanted(Message, frozen=True):
    """Send exactly these of the offered blobs, as BlobUpload, in this order; the others are here, and leased.

    StoredBlobs or Refused follows when all have arrived, at once if there are none.
    """

    TYPE = 107
    positions: Positions


class BlobUpload(Message, frozen=True):
    """One wanted blob."""

    TYPE = 108
    position: Position
    data: BlobBytes


class StoredBlobs(Message, frozen=True):
    """`count` wanted blobs are durable. Those at `corrupt` did not hash to their ids and were thrown away."""

    TYPE = 109
    count: Annotated[int, msgspec.Meta(ge=0, le=limits.WANT_ITEMS_MAX)]
    corrupt: Positions


class Fetch(Message, frozen=True):
    """Send these blobs, each answered by one BlobFrame or BlobAbsent, in this order."""

    TYPE = 110
    blobs: Annotated[tuple[Id, ...], msgspec.Meta(max_length=limits.WANT_ITEMS_MAX)]


class BlobFrame(Message, frozen=True):
    """One sealed blob; it hashes to the id that was asked for at `position`."""

    TYPE = 111
    position: Position
    data: BlobBytes


class Absence(enum.IntEnum):
    """Why a blob is not sent."""

    ABSENT = 1  # not in this folder
    DAMAGED = 2  # it is here but no longer hashes to its id: any member may upload it again
    LATER = 3  # the answers before it reached WANT_BYTES_MAX: ask again


class BlobAbsent(Message, frozen=True):
    """The blob at `position` is not sent."""

    TYPE = 112
    position: Position
    reason: Absence


# --- slots: where two devices that share a short code meet


Number = Annotated[int, msgspec.Meta(ge=1, le=limits.CODE_NUMBER_MAX)]


class OpenSlot(Message, frozen=True):
    """First on a stream: let whoever enters slot `number` talk to this device, once. Answered by SlotOpened or Refused.

    SlotEntered follows when somebody has entered; then SlotData goes both ways until either side ends its stream.
    """

    TYPE = 115
    number: Number


class SlotOpened(Message, frozen=True):
    """The slot is this device's until its stream ends, and for SLOT_KEEP_S after somebody was there."""

    TYPE = 116


class EnterSlot(Message, frozen=True):
    """First on a stream: talk to the device that opened slot `number`. Answered by SlotEntered or Refused."""

    TYPE = 117
    number: Number


class SlotEntered(Message, frozen=True):
    """Both devices are there. Who the other is, the relay does not say: it is not to be believed about that."""

    TYPE = 118


class SlotData(Message, frozen=True):
    """Bytes for the other device, which the relay passes on as they are."""

    TYPE = 119
    data: Annotated[bytes, msgspec.Meta(min_length=1, max_length=limits.SLOT_MESSAGE_BYTES_MAX)]


# --- recovery: which folders a key that was kept off-line can open


class ListFolders(Message, frozen=True):
    """First on a stream: of which folders is this link's device a member that was enrolled, its secrets kept off-line?

    `after` is empty, or the last folder of the page before. Answered by FolderList or Refused.
    """

    TYPE = 124
    after: IdOrNone = b""


class FolderList(Message, frozen=True):
    """The first such folders above `after`, ascending; fewer than FOLDERS_LISTED_MAX are the last."""

    TYPE = 125
    folders: Annotated[tuple[Id, ...], msgspec.Meta(max_length=limits.FOLDERS_LISTED_MAX)]


_TYPES: dict[int, type[Message]] = {
    kind.TYPE: kind
    for kind in (
        Attach,
        CreateFolder,
        Attached,
        Refused,
        Append,
        AppendResult,
        Read,
        Page,
        Follow,
        LogGrew,
        BlobsLost,
        Offer,
        Wanted,
        BlobUpload,
        StoredBlobs,
        Fetch,
        BlobFrame,
        BlobAbsent,
        ReadMembership,
        MembershipPage,
        OpenSlot,
        SlotOpened,
        EnterSlot,
        SlotEntered,
        SlotData,
        ListFolders,
        FolderList,
    )
}


def is_relay_frame(kind: int | None) -> bool:
    """Whether frames of type `kind` are of these messages; None is of none."""
    return kind in _TYPES


def pack(message: Message) -> tuple[int, bytes]:
    """Return (frame type, body)."""
    return message.TYPE, encode(message)


def unpack(kind: int, body: bytes) -> Message:
    """Return the message in a frame. Raises MalformedMessage for an unknown type or a bad body."""
    shape = _TYPES.get(kind)
    if shape is None:
        raise MalformedMessage(f"unknown message type {kind}")
    return decode(shape, body, limits.FRAME_BYTES_MAX)


def refused(code: Code, text: str) -> Refused:
    """Return a refusal; `text` is cut to REFUSAL_TEXT_CHARS_MAX."""
    return Refused(code, text[: limits.REFUSAL_TEXT_CHARS_MAX])


def refusal_error(refusal: Refused | RecordRefused) -> MeshsyncError:
    """Return the typed error that a refusal stands for, for a device that cannot go on."""
    return _ERRORS[refusal.code](f"the relay refused: {refusal.text}", next_step=_NEXT_STEPS.get(refusal.code, ""))


def ticket_statement(folder: FolderId, relay: DeviceId, device: DeviceId) -> bytes:
    """Return what a ticket's key signs so that `device`, as the link proves, may attach to `folder` at `relay`."""
    return folder + relay + device


def creation_proof(secret: bytes, relay: DeviceId, device: DeviceId, folder: FolderId) -> bytes:
    """Return the proof that `device` knows an invitation's `secret` (16 bytes), good for `folder` at `relay` only."""
    return keyed(derive(secret, b"relay-invitation"), relay + device + folder)
