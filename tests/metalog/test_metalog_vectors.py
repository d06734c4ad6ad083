"""docs/spec/log.md: the bytes of every record, fixed for ever in tests/vectors/metalog.json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from log_scene import ANNA, BEN, DORA, EXPIRES_S, FOLDER, RELAY, TICKET, Folder, chain, entry, epoch, genesis

from meshsync.codec.canonical import encode
from meshsync.ids import BlobId, RecordId
from meshsync.metalog.checkpoint import make_checkpoint, open_checkpoint
from meshsync.metalog.entry import OpenedEntry, open_entry, parse_entry
from meshsync.metalog.evidence import Fault, compare_along, compare_heads, encode_evidence, verify_evidence
from meshsync.metalog.fields import RelaySeen
from meshsync.metalog.head import head_hash, open_head, sign_head
from meshsync.metalog.membership_entry import (
    Admit,
    Change,
    ChangeRole,
    Remove,
    Revoke,
    SetPolicy,
    SetRelay,
    open_membership,
)
from meshsync.metalog.receipt import make_receipt, open_receipt
from meshsync.metalog.record_log import GENESIS_HEAD, LogRecord, RecordKind, next_head, record_id
from meshsync.metalog.stored import make_stored, open_stored, stored_id
from meshsync.roles import Role

VECTORS: dict[str, str] = json.loads((Path(__file__).parents[1] / "vectors" / "metalog.json").read_text())


def later_entry() -> OpenedEntry:
    first = chain(ANNA, 1)[0]
    return entry(ANNA, first, (entry(BEN),), relay_seen=(RelaySeen(RELAY.device, 4, bytes(32)),))


def membership_records() -> dict[str, bytes]:
    """One entry of each kind, each the next of one chain."""
    folder = Folder()
    records = {"genesis": genesis().data}

    def add(name: str, author, change: Change, ticket=None) -> None:
        records[name] = folder.add(author, change, ticket).data

    add("invite", ANNA, folder.invite(TICKET, Role.WRITER))
    add("admit", BEN, Admit(TICKET.device, Role.WRITER, BEN.box_public, b"name"), TICKET)
    add("invite of a backup", ANNA, folder.invite(RELAY, Role.BACKUP))
    add("revoke", ANNA, Revoke(RELAY.device))
    add("rekey", ANNA, folder.rekey(1))
    add("role", ANNA, ChangeRole(BEN.device, Role.READER, (entry(BEN).head,)))
    add("relay", ANNA, SetRelay(RELAY.device, ("relay.example:4433",)))
    add("policy", ANNA, SetPolicy(1, b"policy"))
    add("remove", ANNA, folder.remove(BEN, 2, (chain(BEN, 2)[1].head,)))
    add("enrol", ANNA, folder.enrolment(DORA))
    return records


def leaving() -> bytes:
    folder = Folder()
    folder.join(BEN, Role.WRITER)
    return folder.add(BEN, Remove(BEN.device, (), None)).data


def statements() -> dict[str, bytes]:
    """Stored record, receipt, heads, evidence, checkpoint."""
    first = entry(ANNA)
    stored = make_stored(
        BEN, FOLDER, membership=FOLDER, dots=(first.dot(0),), gone=(first.dot(1),),
        blobs=(BlobId(bytes([1]) * 32), BlobId(bytes([2]) * 32)), parts=(RecordId(bytes([3]) * 32),), sealed=b"pairs",
    )  # fmt: skip
    head = sign_head(RELAY, FOLDER, index=3, head=bytes([5]) * 32)
    rolled_back = sign_head(RELAY, FOLDER, index=2, head=bytes([6]) * 32, after=head_hash(head))
    evidence = compare_heads(head, rolled_back, FOLDER)
    records = [RecordId(bytes([7]) * 32), RecordId(bytes([8]) * 32)]
    other = next_head(next_head(bytes([6]) * 32, records[0]), records[1])
    fork = compare_along(
        head, sign_head(RELAY, FOLDER, index=5, head=other), FOLDER,
        lambda index: {3: bytes([6]) * 32}[index], lambda after, last: records[after - 3 : last - 3],
    )  # fmt: skip
    assert evidence is not None and fork is not None
    return {
        "stored": stored,
        "receipt": make_receipt(RELAY, FOLDER, record=stored_id(stored), index=3, head=bytes([5]) * 32, replicas=2),
        "head": head,
        "head after another": rolled_back,
        "evidence": encode_evidence(evidence),
        "evidence of a fork": encode_evidence(fork),
        "checkpoint": make_checkpoint(
            ANNA, FOLDER, membership=FOLDER, epoch=epoch(1), vector=(first.head,), state=(BlobId(bytes([1]) * 32),),
            relay_seen=(RelaySeen(RELAY.device, 3, bytes([5]) * 32),),
        ),
    }  # fmt: skip


def made() -> dict[str, bytes]:
    """Every record that has a vector, and the names derived from them."""
    first, later = entry(ANNA), later_entry()
    members, stated = membership_records(), statements()
    log = (
        LogRecord(RecordKind.MEMBERSHIP, members["genesis"]),
        LogRecord(RecordKind.ENTRY, encode(first.signed)),
        LogRecord(RecordKind.STORED, stated["stored"]),
        LogRecord(RecordKind.CHECKPOINT, stated["checkpoint"]),
        LogRecord(99, b"newer"),
    )
    head = GENESIS_HEAD
    for record in log:
        head = next_head(head, record_id(record))
    return {
        "entry, first": encode(first.signed),
        "entry, first: id": first.id,
        "entry, later": encode(later.signed),
        "entry, later: id": later.id,
        **{f"membership, {name}": data for name, data in members.items()},
        "membership, leave": leaving(),
        "folder id": FOLDER,
        **stated,
        "stored: id": stored_id(stated["stored"]),
        "log record": encode(log[0]),
        "log head after five records": head,
    }


@pytest.mark.parametrize("name", VECTORS)
def test_bytes_are_fixed(name: str):
    assert made()[name].hex() == VECTORS[name]


def test_every_record_has_a_vector():
    assert made().keys() == VECTORS.keys()


def test_vectors_open():
    data = {name: bytes.fromhex(value) for name, value in VECTORS.items()}
    for name in ("entry, first", "entry, later"):
        assert open_entry(parse_entry(data[name]), FOLDER).id == data[f"{name}: id"]
    opened = [open_membership(value) for name, value in data.items() if name.startswith("membership")]
    assert opened[0].folder == data["folder id"]
    assert getattr(opened[1].change, "expires_s", None) == EXPIRES_S
    open_stored(data["stored"], FOLDER)
    open_receipt(data["receipt"], FOLDER)
    open_head(data["head"], FOLDER)
    open_checkpoint(data["checkpoint"], FOLDER)
    assert verify_evidence(data["evidence"]).fault is Fault.ROLLBACK
    assert verify_evidence(data["evidence of a fork"]).fault is Fault.FORK
