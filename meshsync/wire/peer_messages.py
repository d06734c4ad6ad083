"""Messages between two members' devices: one frozen record each, with its frame type and bounds.

Invariant: nothing is sent that was not asked for, but for `Heads`, which is a hint of bounded size and rate.
A stream carries requests of one kind for one folder; the side that opened it asks, the other answers in order.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from meshsync import limits
from meshsync.codec.canonical import Record, decode, encode
from meshsync.errors import MalformedMessage
from meshsync.metalog.fields import ChainHead

Id = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Blob = Annotated[bytes, msgspec.Meta(max_length=limits.FRAME_BYTES_MAX)]
Text = Annotated[str, msgspec.Meta(max_length=limits.REFUSAL_TEXT_CHARS_MAX)]
Count = Annotated[int, msgspec.Meta(ge=0, le=limits.COUNTER_MAX)]


Heads_ = Annotated[tuple[ChainHead, ...], msgspec.Meta(max_length=limits.HEADS_MAX)]


class RelayHeadSeen(Record, frozen=True):
    """A relay's signed log head as this device last saw it (bytes of `metalog.head`)."""

    signed: Annotated[bytes, msgspec.Meta(max_length=512)]


class Message(Record, frozen=True):
    """Base of all messages on a stream; `TYPE` is the frame type."""

    TYPE: ClassVar[int]
    SIZE_MAX: ClassVar[int] = limits.FRAME_BYTES_MAX


class FollowLog(Message, frozen=True):
    """First on a log stream: tell me this folder's heads, now and whenever they change."""

    TYPE = 32
    folder: Id


class FollowRefused(Message, frozen=True):
    """The folder is not shared between us, as far as this side knows. The stream ends."""

    TYPE = 33
    reason: Text


class Heads(Message, frozen=True):
    """What this side holds: membership chain, entry chains, relay heads seen. `applied` counts entries on disk here."""

    TYPE = 34
    membership_count: Count
    membership_head: Id
    chains: Heads_
    applied: Heads_
    relay_heads: Annotated[tuple[RelayHeadSeen, ...], msgspec.Meta(max_length=16)] = ()


class GetMembership(Message, frozen=True):
    """Send the membership chain from its `start`-th entry (0 = genesis)."""

    TYPE = 35
    start: Count


class MembershipPage(Message, frozen=True):
    """Consecutive membership entries; empty if there are none from `start` on."""

    TYPE = 36
    start: Count
    entries: Annotated[tuple[Blob, ...], msgspec.Meta(max_length=limits.RECORDS_PAGE_ITEMS_MAX)]


class GetEntries(Message, frozen=True):
    """Send entries that a holder of `chains` lacks, in causal order, at most `bytes_max` bytes."""

    TYPE = 37
    chains: Heads_
    bytes_max: Count


class EntriesPage(Message, frozen=True):
    """Entries in causal order; `more` if a further request would get more."""

    TYPE = 38
    entries: Annotated[tuple[Blob, ...], msgspec.Meta(max_length=limits.RECORDS_PAGE_ITEMS_MAX)]
    more: bool


class OpenChunks(Message, frozen=True):
    """First on a chunk stream: requests for this folder's chunks follow."""

    TYPE = 48
    folder: Id


Pieces = Annotated[bytes, msgspec.Meta(max_length=limits.PIECE_HASHES_BYTES_MAX)]


class WantItem(Record, frozen=True):
    """One chunk wanted. `kind` is the blob kind. `pieces`: piece hashes of a chunk the asker holds, as delta base."""

    chunk: Id
    kind: Annotated[int, msgspec.Meta(ge=1, le=255)]
    size: Annotated[int, msgspec.Meta(ge=0, le=limits.CHUNK_SIZE_BYTES_MAX)]
    pieces: Pieces = b""


class Want(Message, frozen=True):
    """Send these chunks, each answered by exactly one ChunkFrame or ChunkAbsent, in this order."""

    TYPE = 49
    items: Annotated[tuple[WantItem, ...], msgspec.Meta(max_length=limits.WANT_ITEMS_MAX)]


class ChunkFrame(Message, frozen=True):
    """One sealed chunk. `index` is the item's position in its Want; `form` 0 = the whole chunk, 1 = piece delta."""

    TYPE = 50
    SIZE_MAX = limits.BLOB_SIZE_BYTES_MAX + 128
    index: Annotated[int, msgspec.Meta(ge=0, lt=limits.WANT_ITEMS_MAX)]
    form: Annotated[int, msgspec.Meta(ge=0, le=1)]
    epoch: Id
    sealed: Annotated[bytes, msgspec.Meta(max_length=limits.BLOB_SIZE_BYTES_MAX)]


class ChunkAbsent(Message, frozen=True):
    """This side does not hold the chunk (now)."""

    TYPE = 51
    index: Annotated[int, msgspec.Meta(ge=0, lt=limits.WANT_ITEMS_MAX)]


class PairRequest(Message, frozen=True):
    """First on a pairing stream: the bearer of a ticket asks for the membership chain.

    `signature` is the ticket key's, domain `pair`, over folder, channel binding and the asker's device id.
    """

    TYPE = 64
    folder: Id
    ticket: Id
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


class PairRefused(Message, frozen=True):
    """The ticket is unknown, used, expired or revoked here."""

    TYPE = 65
    reason: Text


class PairAdmit(Message, frozen=True):
    """The newcomer's admit entry, made on the membership head it was told."""

    TYPE = 66
    entry: Blob


class PairAccepted(Message, frozen=True):
    """The admit entry is part of the membership chain here."""

    TYPE = 67
    membership_count: Count


Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


class CodeAsk(Message, frozen=True):
    """First on a stream, or through a relay's slot: `device` wants to show that it knows the code with this number."""

    TYPE = 68
    number: Annotated[int, msgspec.Meta(ge=1, le=limits.CODE_NUMBER_MAX)]
    device: Id
    nonce: Id


class CodeOffer(Message, frozen=True):
    """Such a code is open here: the inviting device's share of the key exchange (`wire.code_exchange`)."""

    TYPE = 69
    device: Id
    nonce: Id
    share: Id
    signature: Signature


class CodeAnswer(Message, frozen=True):
    """The newcomer's share, and the proof that it knows the words. A wrong one ends the code."""

    TYPE = 70
    share: Id
    confirmation: Signature
    signature: Signature


class CodeTicket(Message, frozen=True):
    """The inviting device's proof, and the ticket sealed under the key that both have now."""

    TYPE = 71
    confirmation: Signature
    sealed: Annotated[bytes, msgspec.Meta(max_length=limits.CODE_SEALED_BYTES_MAX)]


class CodeRefused(Message, frozen=True):
    """There is no such code here, or no longer, or the words were wrong: which of them is not told."""

    TYPE = 72


_TYPES: dict[int, type[Message]] = {
    kind.TYPE: kind
    for kind in (
        FollowLog,
        FollowRefused,
        Heads,
        GetMembership,
        MembershipPage,
        GetEntries,
        EntriesPage,
        OpenChunks,
        Want,
        ChunkFrame,
        ChunkAbsent,
        PairRequest,
        PairRefused,
        PairAdmit,
        PairAccepted,
        CodeAsk,
        CodeOffer,
        CodeAnswer,
        CodeTicket,
        CodeRefused,
    )
}


def pack(message: Message) -> tuple[int, bytes]:
    """Return (frame type, body)."""
    return message.TYPE, encode(message)


def unpack(kind: int, body: bytes | memoryview) -> Message:
    """Return the message in a frame. Raises MalformedMessage for an unknown type or bad body."""
    try:
        record = _TYPES[kind]
    except KeyError:
        raise MalformedMessage(f"unknown message type {kind}") from None
    return decode(record, body, record.SIZE_MAX)
