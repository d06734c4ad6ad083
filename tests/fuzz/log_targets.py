"""What stands in a folder's log: entries, the membership chain, statements. Each as it comes, and signed anew.

Signed anew means that a member wrote it: the bytes inside are any, the signature is right.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from meshsync.codec.canonical import decode, encode
from meshsync.errors import (
    AccessError,
    FormatUnsupported,
    IntegrityError,
    MalformedMessage,
    PeerError,
    SignatureInvalid,
    TransientError,
)
from meshsync.ids import BlobId, ChainId, RecordId, dot
from meshsync.limits import ENTRY_BYTES_MAX
from meshsync.metalog import (
    checkpoint,
    entry,
    evidence,
    head,
    membership_entry,
    receipt,
    retention_policy,
    retire,
    stored,
)
from meshsync.metalog.membership import Membership, found
from meshsync.metalog.membership_entry import (
    Admit,
    MembershipBody,
    SetPolicy,
    SetRelay,
    SignedMembership,
    open_membership,
)
from meshsync.metalog.record_log import GENESIS_HEAD, LogRecord, next_head, record_id, verify_page
from meshsync.metalog.signed import _Signed
from meshsync.roles import Role
from tests.fuzz.loose import items, loose, packed
from tests.fuzz.target import Target
from tests.metalog.log_scene import ANNA, BEN, CARA, DORA, FOLDER, RELAY, Folder, device
from tests.metalog.log_scene import entry as make_entry

VECTORS = {
    name: bytes.fromhex(value)
    for name, value in json.loads((Path(__file__).parents[1] / "vectors" / "metalog.json").read_text()).items()
}
READ_ERRORS = (MalformedMessage, FormatUnsupported, SignatureInvalid, IntegrityError)
OPEN = device(9)  # the ticket that a newcomer may use
AUTHORS = (ANNA, BEN, CARA, DORA)


# --- entries


def _entry(data: bytes) -> object:
    signed = entry.parse_entry(data)
    assert encode(signed) == data
    return entry.open_entry(signed, FOLDER)


def _signed_entry(data: bytes) -> object:
    fields, sealed = items(loose(data), list, bytes)
    envelope = packed(fields)
    made = entry.SignedEntry(envelope, ANNA.sign(entry.SIGNATURE_KIND, envelope), sealed)
    opened = entry.open_entry(entry.parse_entry(encode(made)), FOLDER)
    assert opened.device == ANNA.device
    return opened.past()


# --- the membership chain


def _membership(data: bytes) -> object:
    opened = open_membership(data)
    assert encode(SignedMembership(encode(opened.body), *_signatures(data))) == data
    return found(opened) if opened.body.seq == 0 else opened


def _signatures(data: bytes) -> tuple[bytes, bytes]:
    _, signature, second = loose(data)
    return signature, second


def _joined() -> Membership:
    folder = Folder()
    folder.join(BEN, Role.WRITER)
    folder.join(CARA, Role.READER, RELAY)
    folder.add(ANNA, folder.invite(OPEN, Role.READER))
    return folder.membership


_JOINED = _joined()


def _fold(data: bytes) -> object:
    """Members sign any changes, one after the other; each either makes a state that holds together or is refused."""
    value = loose(data)
    if not isinstance(value, list) or len(value) > 40:
        raise MalformedMessage("no list of changes")
    now, refused = _JOINED, None
    for item in value:
        try:
            now = now.apply(_change(now, item), 1_700_000_000)
        except (*READ_ERRORS, AccessError, PeerError, TransientError) as error:
            refused = error
            continue
        assert now.owners(), "a folder without an owner"
        tickets = {member.ticket for member in now.members.values()}
        assert now.folder == FOLDER and now.boxes.keys() <= now.members.keys() | now.invites.keys() | tickets
    if refused is not None:
        raise refused
    return now


def _change(now: Membership, item: Any) -> membership_entry.OpenedMembership:
    number, change = items(item, int, list)
    author = AUTHORS[number % len(AUTHORS)]
    empty = MembershipBody(1, FOLDER, author.device, now.count, now.head, membership_entry.Revoke(b"t" * 32))
    body = packed([*loose(encode(empty))[:5], change])
    second = OPEN.sign(membership_entry.TICKET_SIGNATURE_KIND, body) if change[:1] == [4] else b""
    return open_membership(encode(SignedMembership(body, author.sign(membership_entry.SIGNATURE_KIND, body), second)))


def _fold_seeds() -> tuple[bytes, ...]:
    made = [loose(loose(data)[0])[5] for name, data in VECTORS.items() if name.startswith("membership, ")]
    folder = Folder()
    folder.join(BEN, Role.WRITER)
    rekey = loose(encode(folder.rekey(1)))
    remove = loose(encode(folder.remove(BEN, 2)))
    relay = loose(encode(SetRelay(RELAY.device, ("relay.example:4433",))))
    return (
        *(packed([[author, change]]) for change in made for author in (0, 1)),
        packed([[3, loose(encode(Admit(OPEN.device, Role.READER, DORA.box_public)))], [0, relay]]),
        packed([[0, rekey], [0, remove], [0, relay]]),
    )


# --- statements


def _statement(kind: str, open_it: Callable[[bytes], object]) -> Callable[[bytes], object]:
    """Return a target that signs any body as ANNA."""

    def parse(data: bytes) -> object:
        value = loose(data)
        if isinstance(value, list) and len(value) > 2:
            value[2] = ANNA.device
        body = packed(value)
        return open_it(encode(_Signed(body, ANNA.sign(kind, body))))

    return parse


def _log_record(data: bytes) -> object:
    record = decode(LogRecord, data, ENTRY_BYTES_MAX + 16)
    name = record_id(record)
    assert verify_page(GENESIS_HEAD, 0, [record], next_head(GENESIS_HEAD, name)) == 1
    return name


def _head(data: bytes) -> object:
    opened = head.open_head(data, FOLDER)
    return opened, head.head_hash(data), evidence.compare_heads(data, VECTORS["head"], FOLDER)


def _envelopes() -> tuple[bytes, ...]:
    entries = [make_entry(ANNA), make_entry(ANNA, make_entry(ANNA), (make_entry(BEN),))]
    return tuple(packed([loose(made.signed.envelope), made.signed.payload]) for made in entries)


def _retired() -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Return seeds for retire and collected records, as they come and as bodies to be signed anew."""
    names = tuple(RecordId(bytes([number]) * 32) for number in range(1, 4))
    dots = (dot(ChainId(b"c" * 32), 1, 0), dot(ChainId(b"c" * 32), 2, 0))
    plain = retire.make_retire(
        ANNA, FOLDER, membership=names[0], relay=RELAY.device, index=5, dots=dots, records=names[:2], cancels=names[2:]
    )
    done = retire.make_collected(RELAY, FOLDER, names[:1], names[1:], (BlobId(b"b" * 32),))
    return (plain, done), (loose(plain)[0], loose(done)[0])


def _policy(data: bytes) -> object:
    return retention_policy.open_policy(SetPolicy(1, data))


def _bodies(name: str) -> tuple[bytes, ...]:
    return (loose(VECTORS[name])[0],)


(_RETIRE, _COLLECTED), (_RETIRE_BODY, _COLLECTED_BODY) = _retired()

TARGETS = (
    Target("retire", lambda data: retire.open_retire(data, FOLDER), READ_ERRORS, (_RETIRE,)),
    Target("retire-signed", _statement(retire.RETIRE_KIND, lambda data: retire.open_retire(data, FOLDER)),
           READ_ERRORS, (_RETIRE_BODY,)),
    Target("collected", lambda data: retire.open_collected(data, FOLDER), READ_ERRORS, (_COLLECTED,)),
    Target("collected-signed", _statement(retire.COLLECTED_KIND, lambda data: retire.open_collected(data, FOLDER)),
           READ_ERRORS, (_COLLECTED_BODY,)),
    Target("retention-policy", _policy, READ_ERRORS,
           (retention_policy.pack_policy(retention_policy.RetentionPolicy(all_s=1, daily_s=2, floor_s=3)),)),
    Target("entry", _entry, READ_ERRORS, (VECTORS["entry, first"], VECTORS["entry, later"])),
    Target("entry-signed", _signed_entry, READ_ERRORS, _envelopes()),
    Target("membership", _membership, (*READ_ERRORS, AccessError),
           tuple(data for name, data in VECTORS.items() if name.startswith("membership, "))),
    Target("membership-fold", _fold, (*READ_ERRORS, AccessError, PeerError, TransientError), _fold_seeds()),
    Target("log-record", _log_record, READ_ERRORS, (VECTORS["log record"],)),
    Target("stored", lambda data: stored.open_stored(data, FOLDER), READ_ERRORS, (VECTORS["stored"],)),
    Target("stored-signed", _statement(stored.SIGNATURE_KIND, lambda data: stored.open_stored(data, FOLDER)),
           READ_ERRORS, _bodies("stored")),
    Target("receipt", lambda data: receipt.open_receipt(data, FOLDER), READ_ERRORS, (VECTORS["receipt"],)),
    Target("receipt-signed", _statement(receipt.SIGNATURE_KIND, lambda data: receipt.open_receipt(data, FOLDER)),
           READ_ERRORS, _bodies("receipt")),
    Target("head", _head, READ_ERRORS, (VECTORS["head"], VECTORS["head after another"])),
    Target("head-signed", _statement(head.SIGNATURE_KIND, _head), READ_ERRORS, _bodies("head")),
    Target("evidence", evidence.verify_evidence, READ_ERRORS, (VECTORS["evidence"],)),
    Target("checkpoint", lambda data: checkpoint.open_checkpoint(data, FOLDER), READ_ERRORS,
           (VECTORS["checkpoint"],)),
    Target("checkpoint-signed",
           _statement(checkpoint.SIGNATURE_KIND, lambda data: checkpoint.open_checkpoint(data, FOLDER)),
           READ_ERRORS, _bodies("checkpoint")),
)  # fmt: skip
