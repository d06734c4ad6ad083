"""Decides which records enter a folder's log, and in which place. Pure: facts in, rows out.

Invariant: a record is accepted only after everything that it names, by an author whom the membership at that place
allows to sign it; and a STORED record only with the relay's receipt directly after it, so that both are durable or
neither is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from meshsync.errors import FormatUnsupported, MalformedMessage, MeshsyncError
from meshsync.ids import BlobId, DeviceId, FolderId, RecordId
from meshsync.limits import HAVE_ITEMS_MAX, RETIRES_OPEN_MAX
from meshsync.metalog.admission import Reason, Refusal, may_append_entry, may_append_stored
from meshsync.metalog.checkpoint import Checkpoint
from meshsync.metalog.entry import OpenedEntry
from meshsync.metalog.membership import Membership
from meshsync.metalog.membership_entry import Admit, Enrol, OpenedMembership
from meshsync.metalog.record_log import LogRecord, RecordKind, next_head, record_id
from meshsync.metalog.retention_policy import FOREVER, open_policy
from meshsync.metalog.retire import Retire
from meshsync.metalog.stored import StoredRecord
from meshsync.roles import Role
from meshsync.wire.relay_messages import (
    AlreadyThere,
    Appended,
    Code,
    MissingBlobs,
    MissingPast,
    Outcome,
    RecordRefused,
)
from relay.drivers.base import Known, Place, Row
from relay.records import Parsed, refuse

SignReceipt = Callable[[RecordId, int, bytes], bytes]
"""(stored record, its index, the head there) → the signed receipt."""

_CODES = {
    Reason.NOT_A_MEMBER: Code.UNKNOWN,
    Reason.ROLE_FORBIDS: Code.ROLE_FORBIDS,
    Reason.BEYOND_PIN: Code.BEYOND_PIN,
    Reason.EPOCH_UNKNOWN: Code.INTEGRITY,
}


@dataclass(frozen=True, slots=True)
class FolderView:
    """A folder's log at `index` records: its `head` and the membership that the records add up to."""

    folder: FolderId
    index: int
    head: bytes
    membership: Membership


@dataclass(frozen=True, slots=True)
class Facts:
    """What storage says about the records of one request.

    `relay` is who keeps the log. `known`: those records of the log that the request names. `places`: (chain, sequence
    number) of entries in the log, of those that STORED records speak of. `absent`: per record, listed blobs that are
    not durable here. `presenter`: the device that sent the request; `now_s`: seconds since 1970, for tickets.
    `open_retires` are not carried out yet; what is retired waits `grace_s` seconds, longer if the policy says so.
    """

    relay: DeviceId
    known: Mapping[RecordId, Known]
    places: frozenset[tuple[bytes, int]]
    absent: Mapping[RecordId, tuple[BlobId, ...]]
    presenter: DeviceId
    now_s: int
    grace_s: int
    open_retires: frozenset[RecordId] = frozenset()


class Sequencer:
    """Decides one request, record by record. `view`, `rows`, `pins`, `cancelled` retire records and `revived` stored
    records then say what is to be written."""

    def __init__(self, view: FolderView, facts: Facts, sign_receipt: SignReceipt) -> None:
        self.view = view
        self.rows: list[Row] = []
        self.pins: list[BlobId] = []
        self.cancelled: list[RecordId] = []
        self.revived: list[RecordId] = []
        self._facts, self._sign_receipt = facts, sign_receipt
        self._known = dict(facts.known)
        self._places = set(facts.places)
        self._open_retires = set(facts.open_retires)

    def decide(self, parsed: Parsed) -> Outcome:
        """Accept `parsed` after all accepted before it, or say why not. Never raises."""
        known = self._known.get(parsed.id)
        if known is not None and not known.dead:
            return AlreadyThere(known.index)
        match parsed.body:
            case OpenedEntry() as entry:
                return self._entry(parsed, entry)
            case StoredRecord() as stored:
                refusal = may_append_stored(self.view.membership, stored.device)
                return self._durable(parsed, stored, refusal)
            case Checkpoint() as checkpoint:
                return self._checkpoint(parsed, checkpoint)
            case OpenedMembership() as membership:
                return self._membership(parsed, membership)
            case Retire() as retire:
                return self._retire(parsed, retire)
            case None:
                return self._opaque(parsed)

    def _entry(self, parsed: Parsed, entry: OpenedEntry) -> Outcome:
        refusal = may_append_entry(self.view.membership, entry)
        if refusal is not None and self._is_past_of_a_member(refusal, entry):
            refusal = None
        missing = self._missing(parsed, entry.envelope.membership, refusal)
        if missing is not None:
            return missing
        if refusal is not None:
            return _refused(refusal)
        for at in entry.past():
            place = self._known[RecordId(at.entry)].place
            if place is None or (place.chain, place.seq) != (at.chain, at.seq):
                return RecordRefused(Code.INTEGRITY, "the entry misplaces an entry that it names")
            if at.chain == entry.chain and place.device != entry.device:
                return RecordRefused(Code.INTEGRITY, "the entry continues a chain of another device")
        self._places.add((entry.chain, entry.envelope.seq))
        return self._accept(parsed, Place(entry.device, entry.chain, entry.envelope.seq))

    def _is_past_of_a_member(self, refusal: Refusal, entry: OpenedEntry) -> bool:
        """Whether a member brings what a removed device had signed beyond its pin.

        Others may have built on it before they heard of the removal, and their entries cannot be taken without it. It
        changes nothing anywhere: every device keeps it in quarantine (`semantics.md` 4.5).
        """
        presenter = self._facts.presenter
        beyond = refusal.reason is Reason.BEYOND_PIN
        return beyond and presenter != entry.device and self.view.membership.may_write(presenter)

    def _durable(self, parsed: Parsed, stored: StoredRecord, refusal: Refusal | None) -> Outcome:
        missing = self._missing(parsed, stored.membership, refusal)
        if missing is not None:
            return missing
        if refusal is not None:
            return _refused(refusal)
        unknown = sorted({chain for chain, seq in parsed.places() if (chain, seq) not in self._places})
        if unknown:
            return MissingPast(tuple(unknown[:HAVE_ITEMS_MAX]))
        if any(self._known[part].kind != RecordKind.STORED for part in stored.parts):
            return RecordRefused(Code.INTEGRITY, "a part of a stored record is another kind of record")
        let_go = [part for part in stored.parts if self._known[part].dead]
        if let_go:  # they are to be stored once more
            return MissingPast(tuple(let_go))
        absent = self._facts.absent.get(parsed.id, ())
        if absent:
            return MissingBlobs(absent[:HAVE_ITEMS_MAX])
        self.pins += stored.blobs
        known = self._known.get(parsed.id)
        if known is None:
            self._accept(parsed, Place(stored.device, b"", 0))
        else:
            self._known[parsed.id] = replace(known, dead=False)
            self.revived.append(parsed.id)
        index = self.view.index
        receipt = self._sign_receipt(parsed.id, index, self.view.head)
        record = LogRecord(RecordKind.RECEIPT, receipt)
        self._accept(Parsed(record, record_id(record), None), None)
        return Appended(index, receipt)

    def _retire(self, parsed: Parsed, retire: Retire) -> Outcome:
        """An owner lets go of versions; what that frees is collected later, when nobody has objected."""
        missing = self._missing(parsed, retire.membership)
        if missing is not None:
            return missing
        if self.view.membership.role(retire.device) is not Role.OWNER:
            return RecordRefused(Code.ROLE_FORBIDS, "only an owner lets go of versions")
        if retire.relay != self._facts.relay or retire.index > self.view.index:
            return RecordRefused(Code.INTEGRITY, "the record speaks of another log")
        if any(self._known[name].kind != RecordKind.STORED for name in retire.records):
            return RecordRefused(Code.INTEGRITY, "what lists no content cannot be let go of")
        if any(self._known[name].kind != RecordKind.RETIRE for name in retire.cancels):
            return RecordRefused(Code.INTEGRITY, "what retires nothing cannot be cancelled")
        cancelled = self._open_retires.intersection(retire.cancels)
        names_more = bool(retire.dots or retire.records)
        if names_more and len(self._open_retires) - len(cancelled) >= RETIRES_OPEN_MAX:
            return RecordRefused(Code.BUSY, "too many retire records wait to be carried out")
        self._open_retires -= cancelled
        self.cancelled += sorted(cancelled)
        if names_more:
            self._open_retires.add(parsed.id)
        else:
            self.cancelled.append(parsed.id)
        return self._accept(parsed, None, self._grace_s())  # charged to nobody: it is how a full folder gets room

    def _grace_s(self) -> int:
        try:
            floor_s = open_policy(self.view.membership.policy).floor_s
        except (MalformedMessage, FormatUnsupported):
            floor_s = FOREVER
        return max(self._facts.grace_s, floor_s)

    def _checkpoint(self, parsed: Parsed, checkpoint: Checkpoint) -> Outcome:
        missing = self._missing(parsed, checkpoint.membership)
        if missing is not None:
            return missing
        if not self.view.membership.may_write(checkpoint.device):
            return RecordRefused(Code.ROLE_FORBIDS, "only a writer makes a checkpoint")
        absent = self._facts.absent.get(parsed.id, ())
        if absent:
            return MissingBlobs(absent[:HAVE_ITEMS_MAX])
        self.pins += checkpoint.state
        return self._accept(parsed, Place(checkpoint.device, b"", 0))

    def _membership(self, parsed: Parsed, entry: OpenedMembership) -> Outcome:
        membership = self.view.membership
        if entry.body.seq > membership.seq and RecordId(entry.body.prev) not in self._known:
            return MissingPast((entry.body.prev,))
        if not membership.follows(entry):
            return RecordRefused(Code.CONFLICT, "the membership chain has moved: read it and propose again")
        presented = entry.author == self._facts.presenter
        try:
            after = membership.apply(entry, self._facts.now_s if presented else None)
        except MeshsyncError as error:
            return refuse(error)
        accepted = self._accept(parsed, None)
        self.view = FolderView(self.view.folder, self.view.index, self.view.head, after)
        return accepted

    def _opaque(self, parsed: Parsed) -> Outcome:
        """A kind from a newer build is kept and passed on; its sender pays. What a relay signs, this relay signs."""
        if parsed.record.kind in (RecordKind.RECEIPT, RecordKind.COLLECTED):
            return RecordRefused(Code.ROLE_FORBIDS, "only a relay signs this, into its own log")
        if not self.view.membership.may_write(self._facts.presenter):
            return RecordRefused(Code.ROLE_FORBIDS, "only a writer sends records of a new kind")
        return self._accept(parsed, Place(self._facts.presenter, b"", 0))

    def _missing(self, parsed: Parsed, membership: RecordId, refusal: Refusal | None = None) -> MissingPast | None:
        """The membership comes first: without it nothing else about the record can be judged.

        Unless there is no `refusal` by the membership as it is: then the one that the author knew may be an entry that
        lost against another owner's, and will never be here.
        """
        lacking = parsed.references() - self._known.keys() - {parsed.id}
        if refusal is None:
            lacking.discard(membership)
        if not lacking:
            return None
        ordered = sorted(lacking, key=lambda record: (record != membership, record))
        return MissingPast(tuple(ordered[:HAVE_ITEMS_MAX]))

    def _accept(self, parsed: Parsed, place: Place | None, wait_s: int = 0) -> Appended:
        view = self.view
        index, head = view.index + 1, next_head(view.head, parsed.id)
        self.view = FolderView(view.folder, index, head, view.membership)
        record = parsed.record
        self.rows.append(Row(index, parsed.id, record.kind, record.data, head, place, _enrols(parsed), wait_s))
        self._known[parsed.id] = Known(index, parsed.record.kind, place)
        return Appended(index)


def _enrols(parsed: Parsed) -> DeviceId | None:
    change = parsed.body.change if isinstance(parsed.body, OpenedMembership) else None
    return DeviceId(change.device) if isinstance(change, Enrol) else None


def only_admission(parsed: Iterable[Parsed]) -> bool:
    """Whether all of `parsed` are what the bearer of a ticket may append: its own admission."""
    return all(isinstance(one.body, OpenedMembership) and isinstance(one.body.change, Admit) for one in parsed)


def _refused(refusal: Refusal) -> RecordRefused:
    return RecordRefused(_CODES[refusal.reason], refusal.what)
