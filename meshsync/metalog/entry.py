"""One signed entry of a device's chain: a clear envelope, and a sealed batch of operations that stays closed here.

Invariant: an `OpenedEntry` exists only for bytes whose bounds, canonical form, payload hash and signature were checked.
The envelope is readable without folder keys (`semantics.md` 1.4); its hash is the entry's id.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec

from meshsync import limits
from meshsync.codec.canonical import Record, decode, encode
from meshsync.crypto.hashing import digest
from meshsync.crypto.identity import DeviceKeys
from meshsync.crypto.signing import verify
from meshsync.errors import IntegrityError, MalformedMessage
from meshsync.ids import ID_SIZE_BYTES, ChainId, DeviceId, Dot, EntryId, EpochId, FolderId, RecordId, dot, short
from meshsync.metalog.fields import (
    RECORD_VERSION,
    ChainHead,
    Device,
    Epoch,
    Folder,
    Hash,
    LogId,
    RelaySeen,
    Seq,
    Signature,
    check_ascending,
    check_version,
)

SIGNATURE_KIND = "entry"
_IdOrNone = Annotated[bytes, msgspec.Meta(max_length=ID_SIZE_BYTES)]


class Envelope(Record, frozen=True):
    """The clear part of an entry.

    `chain` and `prev` are empty in a chain's first entry (`seq` 1), whose own id then names the chain. `membership` is
    the newest membership entry that the author knew. `seen` lists, in ascending order, the heads of other chains that
    changed since the author's previous entry; `relay_seen` the relay log heads that it verified, one for each relay.
    `payload_hash` and `payload_size` (bytes) are of the sealed payload, which holds `op_count` operations.
    """

    version: Seq
    folder: Folder
    device: Device
    seq: Seq
    chain: _IdOrNone
    prev: _IdOrNone
    membership: LogId
    epoch: Epoch
    seen: Annotated[tuple[ChainHead, ...], msgspec.Meta(max_length=limits.SEEN_MAX)]
    relay_seen: Annotated[tuple[RelaySeen, ...], msgspec.Meta(max_length=limits.FOLDER_RELAYS_MAX)]
    payload_hash: Hash
    payload_size: Annotated[int, msgspec.Meta(ge=1, le=limits.ENTRY_PAYLOAD_BYTES_MAX)]
    op_count: Annotated[int, msgspec.Meta(ge=1, le=limits.ENTRY_OPS_MAX)]


class SignedEntry(Record, frozen=True):
    """An entry as sent and kept. Its outer shape is the same for every version of the envelope."""

    envelope: Annotated[bytes, msgspec.Meta(max_length=limits.ENTRY_ENVELOPE_BYTES_MAX)]
    signature: Signature
    payload: Annotated[bytes, msgspec.Meta(max_length=limits.ENTRY_PAYLOAD_BYTES_MAX)]


@dataclass(frozen=True, slots=True)
class OpenedEntry:
    """A verified entry. `chain` is the chain's id, also for its first entry."""

    id: EntryId
    chain: ChainId
    envelope: Envelope
    signed: SignedEntry

    @property
    def device(self) -> DeviceId:
        """The author."""
        return self.envelope.device

    @property
    def head(self) -> ChainHead:
        """The entry's place."""
        return ChainHead(self.chain, self.envelope.seq, self.id)

    @property
    def size_bytes(self) -> int:
        """The bytes that the entry keeps in memory, about."""
        return len(self.signed.envelope) + len(self.signed.payload)

    def past(self) -> tuple[ChainHead, ...]:
        """Return what must be delivered before this entry: its previous entry, then what it has seen."""
        envelope = self.envelope
        if envelope.seq == 1:
            return envelope.seen
        return (ChainHead(self.chain, envelope.seq - 1, EntryId(envelope.prev)), *envelope.seen)

    def dot(self, index: int) -> Dot:
        """Return the name of the operation at `index`, below `op_count`."""
        return dot(self.chain, self.envelope.seq, index)


def entry_id(signed: SignedEntry) -> EntryId:
    """Return the hash of the envelope bytes as sent."""
    return EntryId(digest("entry", signed.envelope))


def make_envelope(
    keys: DeviceKeys,
    folder: FolderId,
    *,
    after: ChainHead | None,
    membership: RecordId,
    epoch: EpochId,
    payload: bytes,
    op_count: int,
    seen: tuple[ChainHead, ...] = (),
    relay_seen: tuple[RelaySeen, ...] = (),
) -> Envelope:
    """Return the envelope of the next entry after `after` (None opens a new chain) with the sealed `payload`.

    `seen` and `relay_seen` come in any order, without duplicates.
    """
    return Envelope(
        version=RECORD_VERSION,
        folder=folder,
        device=keys.device,
        seq=1 if after is None else after.seq + 1,
        chain=b"" if after is None else after.chain,
        prev=b"" if after is None else after.entry,
        membership=membership,
        epoch=epoch,
        seen=tuple(sorted(seen)),
        relay_seen=tuple(sorted(relay_seen)),
        payload_hash=digest("payload", payload),
        payload_size=len(payload),
        op_count=op_count,
    )


def make_entry(keys: DeviceKeys, envelope: Envelope, payload: bytes) -> OpenedEntry:
    """Sign `envelope` over the sealed `payload`.

    Raises MalformedMessage if the envelope is out of bounds, IntegrityError if it does not describe `payload`.
    """
    assert envelope.device == keys.device, "an entry is signed by the device that it names"
    data = encode(envelope)
    signed = SignedEntry(data, keys.sign(SIGNATURE_KIND, data), payload)
    return _checked(signed, envelope.folder)


def parse_entry(data: bytes) -> SignedEntry:
    """Return the frame in `data`, unverified. Raises MalformedMessage."""
    return decode(SignedEntry, data, limits.ENTRY_BYTES_MAX)


def open_entry(signed: SignedEntry, folder: FolderId) -> OpenedEntry:
    """Return `signed` with its envelope, verified; the payload stays sealed.

    Raises MalformedMessage (bounds, canonical form, contradicting fields), FormatUnsupported (a newer version),
    SignatureInvalid, IntegrityError (another folder, or a payload that is not the one described). Whether the author
    may write is for `admission` to tell.
    """
    opened = _checked(signed, folder)
    verify(opened.device, SIGNATURE_KIND, signed.envelope, signed.signature)
    return opened


def _checked(signed: SignedEntry, folder: FolderId) -> OpenedEntry:
    check_version(signed.envelope, SIGNATURE_KIND)
    envelope = decode(Envelope, signed.envelope, limits.ENTRY_ENVELOPE_BYTES_MAX)
    where = {"device": short(envelope.device), "folder": short(folder)}
    if envelope.folder != folder:
        raise IntegrityError(f"an entry of another folder ({short(envelope.folder)})", **where)
    own = entry_id(signed)
    chain = own if envelope.seq == 1 else envelope.chain
    _check_place(envelope)
    if envelope.payload_size != len(signed.payload) or envelope.payload_hash != digest("payload", signed.payload):
        raise IntegrityError("an entry's payload is not the one its envelope describes", **where)
    return OpenedEntry(own, ChainId(chain), envelope, signed)


def _check_place(envelope: Envelope) -> None:
    id_size = 0 if envelope.seq == 1 else ID_SIZE_BYTES
    if len(envelope.chain) != id_size or len(envelope.prev) != id_size:
        raise MalformedMessage(f"an entry with seq {envelope.seq} names its chain and previous entry wrongly")
    check_ascending(envelope.seen, "the heads seen by an entry")
    if any(head.chain == envelope.chain for head in envelope.seen):
        raise MalformedMessage("an entry lists its own chain as seen")
    check_ascending(tuple(seen.relay for seen in envelope.relay_seen), "the relays seen by an entry")
