"""Takes records into a folder's log. Invariant: an outcome leaves only after the rows that it speaks of are durable."""

from __future__ import annotations

from collections.abc import Sequence

from meshsync.errors import TransientError
from meshsync.ids import BlobId, DeviceId, FolderId, RecordId
from meshsync.limits import RELAY_APPEND_TRIES_MAX, RELAY_LEASE_S
from meshsync.metalog.membership_entry import open_membership
from meshsync.metalog.receipt import make_receipt
from meshsync.metalog.record_log import GENESIS_HEAD, LogRecord, RecordKind, next_head
from meshsync.metalog.retire import Retire
from meshsync.wire.relay_messages import (
    AlreadyThere,
    Appended,
    AppendResult,
    Code,
    Outcome,
    RecordRefused,
    Refused,
    refused,
)
from relay.access import Right, proves_invitation, right_of
from relay.core import RelayCore
from relay.drivers.base import LetGo, Moved, NotHeld, OverQuota, Row
from relay.records import Parsed, parse
from relay.sequencer import Facts, FolderView, Sequencer, SignReceipt, only_admission

REPLICAS = 1  # one machine's disk; drivers over several places will say how many


async def create(core: RelayCore, device: DeviceId, genesis: bytes, proof: bytes) -> FolderId | Refused:
    """Found the folder of `genesis` unless it is here already; return its id.

    Raises MalformedMessage, SignatureInvalid, FormatUnsupported for a genesis that is none.
    """
    entry = open_membership(genesis)
    if not proves_invitation(core.secrets(), proof, core.keys.device, device, entry.folder):
        return refused(Code.INVITATION, "the invitation is wrong or was withdrawn")
    first = Row(1, entry.id, RecordKind.MEMBERSHIP, genesis, next_head(GENESIS_HEAD, entry.id))
    if entry.body.seq:
        return refused(Code.INTEGRITY, "a folder begins with its genesis")
    if await core.log.create_folder(entry.folder, entry.author, core.folder_bytes_max, first):
        core.grew(entry.folder, 1)
    return entry.folder


async def append(
    core: RelayCore, folder: FolderId, device: DeviceId, right: Right, records: Sequence[LogRecord]
) -> AppendResult | Refused:
    """Append what may enter, for a `device` with `right`; each record has its own outcome.

    Raises TransientError if other processes kept moving the log, and what storage raises; then nothing is acknowledged.
    """
    parsed = await core.runtime.in_thread(lambda: [parse(record, folder) for record in records])
    good = [one for one in parsed if isinstance(one, Parsed)]
    if right < Right.UPLOAD and not (right is Right.JOIN and only_admission(good)):
        return refused(Code.ROLE_FORBIDS, "this device may not append this here")
    async with core.views.turn(folder):
        for _ in range(RELAY_APPEND_TRIES_MAX):
            view = await core.views.get(folder)
            if view is None:
                return refused(Code.UNKNOWN, "this relay does not know this folder or this device in it")
            if right is Right.UPLOAD and right_of(view.membership, device) is not Right.UPLOAD:
                return refused(Code.UNKNOWN, "this relay does not know this folder or this device in it")
            result = await _try(core, view, device, parsed, good)
            if result is not None:
                return result
    raise TransientError("the log of this folder is being written by many; try again")


async def _try(
    core: RelayCore,
    view: FolderView,
    device: DeviceId,
    parsed: Sequence[Parsed | RecordRefused],
    good: Sequence[Parsed],
) -> AppendResult | None:
    """Decide on `view` and write; None if the log or the blobs have changed meanwhile."""
    facts = await _facts(core, view.folder, device, good)
    sequencer = Sequencer(view, facts, _signer(core, view.folder))
    outcomes: list[Outcome] = [one if isinstance(one, RecordRefused) else sequencer.decide(one) for one in parsed]
    if sequencer.rows:
        let_go = LetGo(retires=tuple(sequencer.cancelled))
        match await core.log.append(view.folder, view.index, sequencer.rows, sequencer.pins, let_go, sequencer.revived):
            case Moved() | NotHeld():
                return None
            case OverQuota(bytes_free):
                full = RecordRefused(Code.STORAGE_FULL, f"{bytes_free} bytes are left of the folder's quota")
                outcomes = [full if isinstance(outcome, Appended) else outcome for outcome in outcomes]
            case None:
                view = sequencer.view
                core.views.remember(view)
                core.grew(view.folder, view.index)
    outcomes = [
        await _with_receipt(core, view.folder, one, outcome) for one, outcome in zip(parsed, outcomes, strict=True)
    ]
    return AppendResult(tuple(outcomes), core.signed_head(view))


async def _facts(core: RelayCore, folder: FolderId, device: DeviceId, good: Sequence[Parsed]) -> Facts:
    references = {record for one in good for record in one.references()}
    places = {place for one in good for place in one.places()}
    listed = {blob for one in good for blob in one.blobs()}
    held: set[BlobId] = set()
    if listed:
        held = await held_blobs(core, folder, sorted(listed))
        await core.log.lease(folder, held, core.now_s() + RELAY_LEASE_S)
    retires = await core.log.retires(folder) if any(isinstance(one.body, Retire) for one in good) else ()
    return Facts(
        relay=core.keys.device,
        known=await core.log.find(folder, references),
        places=frozenset(await core.log.places(folder, places)) if places else frozenset(),
        absent={one.id: tuple(blob for blob in one.blobs() if blob not in held) for one in good if one.blobs()},
        presenter=device,
        now_s=core.now_s(),
        grace_s=core.grace_s,
        open_retires=frozenset(retire.id for retire in retires),
    )


async def held_blobs(core: RelayCore, folder: FolderId, blobs: Sequence[BlobId]) -> set[BlobId]:
    """Return those of `blobs` that belong to `folder` and are durable and sound here."""
    noted = await core.log.blobs(folder, blobs)
    return await core.chunks.has(sorted(noted))


async def _with_receipt(core: RelayCore, folder: FolderId, one: Parsed | RecordRefused, outcome: Outcome) -> Outcome:
    """A STORED record that is there already has its receipt directly after it."""
    if not isinstance(outcome, AlreadyThere) or not isinstance(one, Parsed) or one.record.kind != RecordKind.STORED:
        return outcome
    rows = await core.log.read(folder, outcome.index + 1, 1, 1)
    is_receipt = bool(rows) and rows[0].kind == RecordKind.RECEIPT
    return AlreadyThere(outcome.index, rows[0].data) if is_receipt else outcome


def _signer(core: RelayCore, folder: FolderId) -> SignReceipt:
    def sign(record: RecordId, index: int, head: bytes) -> bytes:
        return make_receipt(core.keys, folder, record=record, index=index, head=head, replicas=REPLICAS)

    return sign
