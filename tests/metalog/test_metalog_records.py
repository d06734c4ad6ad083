"""docs/spec/log.md 4 and 5: stored records, receipts, log heads, checkpoints, and the log that holds them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from log_scene import (
    ANNA,
    BEN,
    EPOCH,
    FOLDER,
    RELAY,
    TICKET,
    Folder,
    entry,
    flips,
    genesis,
    refusals,
)

from meshsync import limits
from meshsync.codec.canonical import decode, encode
from meshsync.errors import FormatUnsupported, IntegrityError, MalformedMessage, PeerOverran, SignatureInvalid
from meshsync.ids import BlobId, FolderId, RecordId, dot
from meshsync.metalog.checkpoint import make_checkpoint, open_checkpoint
from meshsync.metalog.evidence import (
    Evidence,
    Fault,
    compare_along,
    compare_heads,
    encode_evidence,
    verify_evidence,
)
from meshsync.metalog.fields import RelaySeen, check_version
from meshsync.metalog.head import head_hash, open_head, sign_head
from meshsync.metalog.membership_entry import Admit, open_membership
from meshsync.metalog.receipt import make_receipt, open_receipt
from meshsync.metalog.record_log import GENESIS_HEAD, LogRecord, RecordKind, next_head, record_id, verify_page
from meshsync.metalog.stored import make_stored, open_stored, stored_id
from meshsync.roles import Role

BLOBS = tuple(BlobId(bytes([number]) * 32) for number in (3, 1, 2))
FIRST = entry(ANNA)
STORED = make_stored(
    BEN, FOLDER, membership=genesis().id, dots=(FIRST.dot(1), FIRST.dot(0)), gone=(FIRST.dot(2),), blobs=BLOBS,
    sealed=b"pairs",
)  # fmt: skip
RECEIPT = make_receipt(RELAY, FOLDER, record=stored_id(STORED), index=3, head=bytes([5]) * 32, replicas=2)
HEAD = sign_head(RELAY, FOLDER, index=3, head=bytes([5]) * 32)
CHECKPOINT = make_checkpoint(
    ANNA, FOLDER, membership=genesis().id, epoch=EPOCH, vector=(FIRST.head, entry(BEN).head), state=BLOBS,
    relay_seen=(RelaySeen(RELAY.device, 3, bytes([5]) * 32),),
)  # fmt: skip


def admission() -> bytes:
    folder = Folder()
    folder.add(ANNA, folder.invite(TICKET, Role.WRITER))
    return folder.sign(BEN, Admit(TICKET.device, Role.WRITER, BEN.box_public), TICKET).data


def removal() -> bytes:
    folder = Folder()
    folder.join(BEN, Role.WRITER)
    return folder.sign(ANNA, folder.remove(BEN, 1, (FIRST.head,))).data


OPENERS: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    "stored": (STORED, lambda data: open_stored(data, FOLDER)),
    "receipt": (RECEIPT, lambda data: open_receipt(data, FOLDER)),
    "head": (HEAD, lambda data: open_head(data, FOLDER)),
    "checkpoint": (CHECKPOINT, lambda data: open_checkpoint(data, FOLDER)),
    "genesis": (genesis().data, open_membership),
    "admission": (admission(), open_membership),
    "removal": (removal(), open_membership),
}
RECORDS = pytest.mark.parametrize(("data", "open_it"), OPENERS.values(), ids=OPENERS.keys())


@RECORDS
def test_any_flipped_bit_is_a_typed_error(data: bytes, open_it: Callable[[bytes], object]):
    """promises.md B 4."""
    open_it(data)
    assert refusals(open_it, flips(data)) <= {MalformedMessage, SignatureInvalid, IntegrityError, FormatUnsupported}


@RECORDS
def test_truncated_or_longer_bytes_are_malformed(data: bytes, open_it: Callable[[bytes], object]):
    cuts = (data[:cut] for cut in range(len(data)))
    assert refusals(open_it, cuts) == {MalformedMessage} == refusals(open_it, iter([data + b"\0", data + data]))


@RECORDS
@given(junk=st.binary(max_size=300))
def test_any_bytes_are_malformed(data: bytes, open_it: Callable[[bytes], object], junk: bytes):
    with pytest.raises(MalformedMessage):
        open_it(junk)


@pytest.mark.parametrize("name", ["stored", "receipt", "head", "checkpoint"])
def test_a_statement_about_another_folder_is_refused(name: str):
    opener = {"stored": open_stored, "receipt": open_receipt, "head": open_head, "checkpoint": open_checkpoint}[name]
    with pytest.raises(IntegrityError):
        opener(OPENERS[name][0], FolderId(bytes(32)))


def test_a_signature_of_one_kind_serves_no_other():
    """A receipt's bytes signed as a head, and the other way round, do not verify."""
    for data, other in ((RECEIPT, open_head), (HEAD, open_receipt), (STORED, open_checkpoint)):
        with pytest.raises((MalformedMessage, SignatureInvalid)):
            other(data, FOLDER)


class TestStored:
    def test_lists_come_out_ascending_and_once(self):
        record = open_stored(STORED, FOLDER)
        assert record.dots == (FIRST.dot(0), FIRST.dot(1)) and record.gone == (FIRST.dot(2),)
        assert record.blobs == tuple(sorted(BLOBS)) and record.sealed == b"pairs" and record.device == BEN.device

    def test_about_nothing_is_malformed(self):
        with pytest.raises(MalformedMessage):
            make_stored(BEN, FOLDER, membership=genesis().id, sealed=b"pairs")

    def test_without_dots_it_is_a_part_of_others(self):
        part = make_stored(BEN, FOLDER, membership=genesis().id, blobs=BLOBS)
        whole = make_stored(
            BEN, FOLDER, membership=genesis().id, dots=(FIRST.dot(0),), parts=(stored_id(part), stored_id(STORED)) * 2
        )
        assert open_stored(part, FOLDER).dots == ()
        assert open_stored(whole, FOLDER).parts == tuple(sorted((stored_id(part), stored_id(STORED))))

    def test_one_dot_is_not_both_stored_and_gone(self):
        with pytest.raises(MalformedMessage):
            make_stored(BEN, FOLDER, membership=genesis().id, dots=(FIRST.dot(0),), gone=(FIRST.dot(0),))

    def test_a_full_record_fits_the_bound(self):
        dots = tuple(dot(FIRST.chain, 1 << 40, index) for index in range(limits.STORED_DOTS_MAX))
        blobs = tuple(BlobId(index.to_bytes(32, "big")) for index in range(limits.STORED_BLOBS_MAX))
        data = make_stored(
            BEN,
            FOLDER,
            membership=genesis().id,
            dots=dots,
            blobs=blobs,
            parts=tuple(RecordId(index.to_bytes(32, "big")) for index in range(limits.STORED_PARTS_MAX)),
            sealed=bytes(limits.STORED_SEALED_BYTES_MAX),
        )
        assert len(open_stored(data, FOLDER).blobs) == limits.STORED_BLOBS_MAX


def test_a_receipt_says_what_is_durable_where():
    receipt = open_receipt(RECEIPT, FOLDER)
    assert (receipt.device, receipt.record, receipt.index, receipt.replicas) == (RELAY.device, stored_id(STORED), 3, 2)


def test_a_checkpoint_keeps_the_order_of_its_state():
    checkpoint = open_checkpoint(CHECKPOINT, FOLDER)
    assert checkpoint.state == BLOBS and list(checkpoint.vector) == sorted((FIRST.head, entry(BEN).head))


def test_a_head_is_what_envelopes_say_of_it():
    assert open_head(HEAD, FOLDER).seen == RelaySeen(RELAY.device, 3, bytes([5]) * 32)


def test_a_longer_array_of_a_newer_version_is_told_from_junk():
    """docs/spec/log.md 1: the version is the first field, however many follow."""
    with pytest.raises(FormatUnsupported):
        check_version(encode([2, *range(20)]), "record")
    with pytest.raises(MalformedMessage):
        check_version(encode([1 << 20]), "record")


class TestRecordLog:
    records = (
        LogRecord(RecordKind.MEMBERSHIP, genesis().data),
        LogRecord(RecordKind.ENTRY, encode(FIRST.signed)),
        LogRecord(RecordKind.STORED, STORED),
        LogRecord(RecordKind.RECEIPT, RECEIPT),
        LogRecord(RecordKind.CHECKPOINT, CHECKPOINT),
        LogRecord(99, b"of a newer build"),
    )

    def head(self, records) -> bytes:
        head = GENESIS_HEAD
        for record in records:
            head = next_head(head, record_id(record))
        return head

    def test_records_are_named_as_elsewhere(self):
        names = [record_id(record) for record in self.records]
        assert names[:3] == [FOLDER, FIRST.id, stored_id(STORED)] and len(set(names)) == 6

    def test_a_page_leads_from_head_to_head(self):
        assert verify_page(GENESIS_HEAD, 0, self.records, self.head(self.records)) == 6
        middle = self.head(self.records[:2])
        assert verify_page(middle, 2, self.records[2:], self.head(self.records)) == 6
        assert verify_page(middle, 2, (), middle) == 2

    @pytest.mark.parametrize(
        "served",
        [
            records[1:],
            records[:-1],
            (*records, records[-1]),
            records[::-1],
            (LogRecord(98, records[5].data), *records[1:]),
        ],
        ids=["first omitted", "last omitted", "repeated", "reordered", "another kind"],
    )
    def test_omission_reordering_and_alteration_are_noticed(self, served):
        """promises.md B 11."""
        with pytest.raises(IntegrityError):
            verify_page(GENESIS_HEAD, 0, served, self.head(self.records))

    def test_a_record_of_an_unknown_kind_is_kept_bit_for_bit(self):
        """promises.md B 26."""
        record = self.records[-1]
        assert decode(LogRecord, encode(record), limits.ENTRY_BYTES_MAX) == record

    def test_an_entry_not_framed_as_one_is_malformed(self):
        with pytest.raises(MalformedMessage):
            verify_page(GENESIS_HEAD, 0, [LogRecord(RecordKind.ENTRY, b"junk")], GENESIS_HEAD)

    def test_a_page_is_bounded(self):
        page = [self.records[-1]] * (limits.RECORDS_PAGE_ITEMS_MAX + 1)
        with pytest.raises(PeerOverran):
            verify_page(GENESIS_HEAD, 0, page, GENESIS_HEAD)


class TestEvidence:
    """promises.md B 11: what the relay signed convicts it, off-line."""

    def test_two_heads_at_one_index_prove_a_fork(self):
        other = sign_head(RELAY, FOLDER, index=3, head=bytes([6]) * 32)
        evidence = compare_heads(HEAD, other, FOLDER)
        assert evidence is not None
        proven = verify_evidence(encode_evidence(evidence))
        assert (proven.fault, proven.relay) == (Fault.FORK, RELAY.device)

    @pytest.mark.parametrize("swapped", [False, True])
    def test_a_shorter_log_answering_a_longer_head_proves_a_rollback(self, swapped: bool):
        later = sign_head(RELAY, FOLDER, index=2, head=bytes([6]) * 32, after=head_hash(HEAD))
        evidence = compare_heads(later, HEAD, FOLDER) if swapped else compare_heads(HEAD, later, FOLDER)
        assert evidence is not None
        proven = verify_evidence(encode_evidence(evidence))
        assert (proven.fault, proven.first.index, proven.second.index) == (Fault.ROLLBACK, 3, 2)

    @pytest.mark.parametrize(
        "other",
        [
            HEAD,
            sign_head(RELAY, FOLDER, index=9, head=bytes([6]) * 32, after=head_hash(HEAD)),
            sign_head(RELAY, FOLDER, index=2, head=bytes([6]) * 32),
            sign_head(BEN, FOLDER, index=3, head=bytes([6]) * 32),
        ],
        ids=["the same", "a longer log", "an older head shown late", "another relay"],
    )
    def test_an_honest_relay_is_never_convicted(self, other: bytes):
        assert compare_heads(HEAD, other, FOLDER) is None

    def test_made_up_evidence_does_not_verify(self):
        fork = compare_heads(HEAD, sign_head(RELAY, FOLDER, index=3, head=bytes([6]) * 32), FOLDER)
        assert fork is not None
        data = encode_evidence(fork)
        assert refusals(verify_evidence, flips(data)) <= {
            MalformedMessage,
            SignatureInvalid,
            IntegrityError,
            FormatUnsupported,
        }
        with pytest.raises(IntegrityError):
            verify_evidence(encode_evidence(type(fork)(1, FOLDER, HEAD, HEAD)))


class TestEvidenceAlongALog:
    """A word that is no longer than another is compared with the log behind the other, record by record."""

    IDS = tuple(RecordId(bytes([number]) * 32) for number in range(1, 8))

    def heads(self, ids: tuple[RecordId, ...] = IDS) -> list[bytes]:
        heads = [GENESIS_HEAD]
        for record in ids:
            heads.append(next_head(heads[-1], record))
        return heads

    def compare(self, first: bytes, second: bytes, ids: tuple[RecordId, ...]) -> Evidence | None:
        heads = dict(enumerate(self.heads(ids)))
        return compare_along(first, second, FOLDER, heads.get, lambda after, last: ids[after:last])

    def word(self, ids: tuple[RecordId, ...], index: int, *, receipt: bool = False) -> bytes:
        head = self.heads(ids)[index]
        if receipt:
            return make_receipt(RELAY, FOLDER, record=stored_id(STORED), index=index, head=head, replicas=1)
        return sign_head(RELAY, FOLDER, index=index, head=head)

    @pytest.mark.parametrize("receipt", [False, True])
    @pytest.mark.parametrize("index", [2, 3, 6])
    @pytest.mark.parametrize(
        "served",
        [IDS[:1] + IDS[2:] + IDS[:1], IDS[1:2] + IDS[:1] + IDS[2:], IDS[:1] + IDS[5:6] + IDS[2:]],
        ids=["left out", "reordered", "put in its place"],
    )
    def test_a_log_that_differs_below_a_word_is_a_fork(
        self, served: tuple[RecordId, ...], index: int, receipt: bool
    ) -> None:
        evidence = self.compare(self.word(self.IDS, index, receipt=receipt), self.word(served, 7), served)
        assert evidence is not None
        proven = verify_evidence(encode_evidence(evidence))
        assert (proven.fault, proven.relay, proven.folder) == (Fault.FORK, RELAY.device, FOLDER)

    def test_words_of_one_log_convict_nobody(self) -> None:
        for index in range(1, 8):
            for receipt in (False, True):
                assert (
                    self.compare(self.word(self.IDS, index, receipt=receipt), self.word(self.IDS, 7), self.IDS) is None
                )

    def test_a_log_that_the_second_word_does_not_commit_to_proves_nothing(self) -> None:
        """Whoever compares may have been served something else than what was signed: that is no proof for others."""
        served = (*self.IDS[1:], self.IDS[0])
        assert self.compare(self.word(self.IDS, 3), self.word(self.IDS, 7), served) is None
        base, ids = self.heads(served)[3], b"".join(served[3:])
        forged = Evidence(1, FOLDER, self.word(self.IDS, 3), self.word(self.IDS, 7), base, ids)
        with pytest.raises(IntegrityError):
            verify_evidence(encode_evidence(forged))

    def test_any_flipped_bit_is_refused(self) -> None:
        served = self.IDS[:1] + self.IDS[2:] + self.IDS[:1]
        evidence = self.compare(self.word(self.IDS, 5), self.word(served, 7), served)
        assert evidence is not None
        assert refusals(verify_evidence, flips(encode_evidence(evidence))) <= {
            MalformedMessage,
            SignatureInvalid,
            IntegrityError,
            FormatUnsupported,
        }
