"""docs/spec/log.md 2: an entry opens only if it is exactly what its author signed."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from log_scene import ANNA, BEN, FOLDER, RELAY, chain, entry, flips, refusals

from meshsync import limits
from meshsync.codec.canonical import encode
from meshsync.crypto.hashing import digest
from meshsync.errors import FormatUnsupported, IntegrityError, MalformedMessage, SignatureInvalid
from meshsync.ids import FolderId
from meshsync.metalog.entry import (
    Envelope,
    OpenedEntry,
    SignedEntry,
    entry_id,
    make_entry,
    open_entry,
    parse_entry,
)
from meshsync.metalog.fields import RelaySeen


def resigned(opened: OpenedEntry, **changes: object) -> SignedEntry:
    """The same entry with fields of the envelope replaced, honestly signed."""
    envelope = encode(msgspec.structs.replace(opened.envelope, **changes))
    return SignedEntry(envelope, ANNA.sign("entry", envelope), opened.signed.payload)


def test_an_entry_survives_the_wire_and_is_named_by_its_envelope():
    made = entry(ANNA, seen=(entry(BEN),), relay_seen=(RelaySeen(RELAY.device, 4, bytes(32)),))
    opened = open_entry(parse_entry(encode(made.signed)), FOLDER)
    assert opened == made
    assert opened.id == digest("entry", made.signed.envelope) == entry_id(made.signed)


def test_the_first_entry_names_the_chain():
    first, second = chain(ANNA, 2)
    assert first.chain == first.id == second.chain
    assert (first.envelope.chain, first.envelope.prev) == (b"", b"")
    assert second.past() == (first.head,)
    assert second.dot(7)[:32] == first.id


def test_any_flipped_bit_is_a_typed_error():
    data = encode(entry(ANNA, seen=(entry(BEN),)).signed)
    found = refusals(lambda bad: open_entry(parse_entry(bad), FOLDER), flips(data))
    assert found <= {MalformedMessage, SignatureInvalid, IntegrityError, FormatUnsupported}


@given(st.binary(max_size=400))
def test_any_bytes_are_a_typed_error(data: bytes):
    with pytest.raises(MalformedMessage):
        open_entry(parse_entry(data), FOLDER)


@given(st.integers(min_value=0))
def test_every_truncation_is_a_typed_error(cut: int):
    data = encode(entry(ANNA).signed)
    with pytest.raises(MalformedMessage):
        parse_entry(data[: cut % len(data)])


def test_an_entry_of_another_folder_is_refused():
    with pytest.raises(IntegrityError):
        open_entry(entry(ANNA).signed, FolderId(bytes(32)))


def test_another_device_cannot_be_named_as_author():
    made = entry(ANNA)
    with pytest.raises(SignatureInvalid):
        open_entry(resigned(made, device=BEN.device), FOLDER)


def test_a_payload_other_than_the_described_one_is_refused():
    made = entry(ANNA)
    with pytest.raises(IntegrityError):
        open_entry(SignedEntry(made.signed.envelope, made.signed.signature, b"other!"), FOLDER)


HEAD = entry(BEN).head
BAD_ENVELOPES = {
    "a first entry with a previous one": {"prev": bytes(32)},
    "a first entry with a chain": {"chain": bytes(32)},
    "a later entry without its chain": {"seq": 2, "prev": bytes(32)},
    "a later entry without previous": {"seq": 2, "chain": bytes(32)},
    "an id of 31 bytes": {"seq": 2, "chain": bytes(31), "prev": bytes(32)},
    "seq 0": {"seq": 0},
    "a seq beyond what a database holds": {"seq": 1 << 63},
    "no operation": {"op_count": 0},
    "more operations than allowed": {"op_count": limits.ENTRY_OPS_MAX + 1},
    "an empty payload": {"payload_size": 0},
    "the same head seen twice": {"seen": (HEAD, HEAD)},
    "its own chain seen": {"seq": 2, "chain": HEAD.chain, "prev": bytes(32), "seen": (HEAD,)},
    "one relay seen twice": {"relay_seen": tuple(RelaySeen(RELAY.device, at, bytes(32)) for at in (1, 2))},
    "an older version": {"version": 0},
    "a short epoch id": {"epoch": bytes(31)},
}


@pytest.mark.parametrize("changes", BAD_ENVELOPES.values(), ids=BAD_ENVELOPES.keys())
def test_contradicting_envelopes_are_malformed_though_signed(changes: dict[str, object]):
    with pytest.raises(MalformedMessage):
        open_entry(resigned(entry(ANNA), **changes), FOLDER)


def test_a_newer_version_is_told_from_a_broken_one_and_keeps_its_id():
    """promises.md B 26: unknown versions are kept and passed on."""
    newer = resigned(entry(ANNA), version=2)
    with pytest.raises(FormatUnsupported):
        open_entry(newer, FOLDER)
    assert parse_entry(encode(newer)) == newer
    assert entry_id(newer) == digest("entry", newer.envelope)


def test_what_cannot_be_opened_cannot_be_made():
    envelope: Envelope = msgspec.structs.replace(entry(ANNA).envelope, op_count=0)
    with pytest.raises(MalformedMessage):
        make_entry(ANNA, envelope, b"sealed")
