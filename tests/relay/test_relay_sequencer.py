"""What enters a log and what does not (`docs/spec/relay.md` 3): the pure decision, case by case."""

from __future__ import annotations

from collections.abc import Sequence

from meshsync.crypto.identity import DeviceKeys
from meshsync.ids import BlobId, DeviceId, RecordId
from meshsync.metalog.checkpoint import make_checkpoint
from meshsync.metalog.entry import OpenedEntry
from meshsync.metalog.fields import ChainHead
from meshsync.metalog.membership_entry import Admit
from meshsync.metalog.record_log import GENESIS_HEAD, LogRecord, RecordKind, next_head
from meshsync.metalog.stored import stored_id
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
from relay.drivers.base import Known, Place
from relay.records import Parsed, parse
from relay.sequencer import Facts, FolderView, Sequencer
from tests.metalog.log_scene import (
    ANNA,
    BEN,
    CARA,
    EPOCH,
    EXPIRES_S,
    FOLDER,
    RELAY,
    TICKET,
    Folder,
    chain,
    entry,
    epoch,
)
from tests.relay.relay_world import entry_record, membership_record, stored_part, stored_record


class Log:
    """A log without storage: what was accepted is known from then on."""

    def __init__(self, folder: Folder | None = None) -> None:
        folder = folder or Folder()
        self.known: dict[RecordId, Known] = {}
        self.places: set[tuple[bytes, int]] = set()
        head = GENESIS_HEAD
        for index, one in enumerate(folder.entries, 1):
            self.known[one.id] = Known(index, RecordKind.MEMBERSHIP, None)
            head = next_head(head, one.id)
        self.view = FolderView(FOLDER, len(folder.entries), head, folder.membership)

    def append(
        self, *records: LogRecord, absent: Sequence[bytes] = (), presenter: DeviceId = ANNA.device, now_s: int = 0
    ) -> list[Outcome]:
        opened = [parse(record, FOLDER) for record in records]
        lacking = {one.id: tuple(absent) for one in opened if isinstance(one, Parsed) and absent}
        facts = Facts(RELAY.device, self.known, frozenset(self.places), lacking, presenter, now_s, grace_s=0)
        sequencer = Sequencer(self.view, facts, lambda record, index, head: b"receipt")
        outcomes: list[Outcome] = [one if isinstance(one, RecordRefused) else sequencer.decide(one) for one in opened]
        for row in sequencer.rows:
            self.known[row.id] = Known(row.index, row.kind, row.place)
            if row.place:
                self.places.add((row.place.chain, row.place.seq))
        self.view = sequencer.view
        return outcomes


def code(outcomes: list[Outcome]) -> Code:
    (outcome,) = outcomes
    assert isinstance(outcome, RecordRefused), outcome
    return outcome.code


def with_ben(role: Role = Role.WRITER) -> Folder:
    folder = Folder()
    folder.join(BEN, role)
    return folder


class TestEntries:
    def test_a_batch_may_rest_on_itself(self) -> None:
        log = Log()
        assert log.append(*map(entry_record, chain(ANNA, 3))) == [Appended(2), Appended(3), Appended(4)]

    def test_heads_chain_over_every_record(self) -> None:
        log = Log()
        before, one = log.view.head, entry(ANNA)
        log.append(entry_record(one))
        assert log.view.head == next_head(before, RecordId(one.id))

    def test_what_was_seen_must_be_there_first(self) -> None:
        theirs = entry(BEN)
        mine = entry(ANNA, seen=(theirs,))
        log = Log(with_ben())
        assert log.append(entry_record(mine)) == [MissingPast((theirs.id,))]
        assert log.append(entry_record(theirs), entry_record(mine)) == [Appended(4), Appended(5)]

    def test_two_branches_of_one_chain_both_enter(self) -> None:
        first = entry(ANNA)
        left, right = entry(ANNA, first, payload=b"left"), entry(ANNA, first, payload=b"right")
        assert Log().append(*map(entry_record, (first, left, right)))[1:] == [Appended(3), Appended(4)]

    def test_an_entry_on_anothers_chain_is_refused(self) -> None:
        theirs = entry(BEN)
        log = Log(with_ben())
        log.append(entry_record(theirs))
        assert code(log.append(entry_record(entry(ANNA, theirs)))) is Code.INTEGRITY

    def test_an_entry_that_misplaces_what_it_saw_is_refused(self) -> None:
        theirs = entry(BEN)
        log = Log(with_ben())
        log.append(entry_record(theirs))
        log.known[RecordId(theirs.id)] = Known(4, RecordKind.ENTRY, Place(BEN.device, theirs.chain, 9))
        assert code(log.append(entry_record(entry(ANNA, seen=(theirs,))))) is Code.INTEGRITY

    def test_an_entry_under_an_unknown_epoch_is_refused(self) -> None:
        assert code(Log().append(entry_record(entry(ANNA, under=epoch(9))))) is Code.INTEGRITY

    def test_a_removed_device_ends_at_its_pin(self) -> None:
        entries = chain(BEN, 3)
        folder = with_ben()
        folder.add(ANNA, folder.remove(BEN, 1, (entries[1].head,)))
        log = Log(folder)
        outcomes = log.append(*map(entry_record, entries), presenter=BEN.device)
        assert outcomes[:2] == [Appended(5), Appended(6)]
        assert code(outcomes[2:]) is Code.BEYOND_PIN

    def test_a_membership_that_lost_against_another_owners_stops_no_entry_of_a_member(self) -> None:
        lost = RecordId(b"l" * 32)
        mine, theirs = entry(ANNA, knew=lost), entry(CARA, knew=lost)
        log = Log(with_ben())
        assert log.append(entry_record(mine)) == [Appended(4)]
        assert log.append(entry_record(theirs)) == [MissingPast((lost,))], "who is no member may be one by that entry"

    def test_what_a_member_built_on_is_kept_though_it_lies_beyond_a_pin(self) -> None:
        entries = chain(BEN, 3)
        folder = with_ben()
        folder.add(ANNA, folder.remove(BEN, 1, (entries[1].head,)))
        log = Log(folder)
        mine = entry(ANNA, seen=(entries[2],))
        assert log.append(*map(entry_record, (*entries, mine))) == [Appended(5 + at) for at in range(4)]

    def test_a_removed_device_opens_no_new_chain(self) -> None:
        folder = with_ben()
        folder.add(ANNA, folder.remove(BEN, 1, (ChainHead(entry(BEN).chain, 1, entry(BEN).id),)))
        assert code(Log(folder).append(entry_record(entry(BEN, payload=b"new chain")))) is Code.UNKNOWN


class TestMembership:
    def test_a_writer_changes_no_membership(self) -> None:
        folder = with_ben()
        change = folder.sign(BEN, folder.invite(CARA, Role.READER))
        assert code(Log(folder).append(membership_record(change), presenter=BEN.device)) is Code.ROLE_FORBIDS

    def test_a_change_after_an_unknown_one_waits_for_it(self) -> None:
        folder = Folder()
        log = Log(folder)
        first = folder.add(ANNA, folder.invite(TICKET, Role.READER))
        second = folder.add(ANNA, folder.invite(CARA, Role.READER))
        assert log.append(membership_record(second)) == [MissingPast((first.id,))]
        assert log.append(membership_record(first), membership_record(second)) == [Appended(2), Appended(3)]

    def test_an_expired_ticket_admits_only_who_was_admitted_in_time(self) -> None:
        folder = Folder()
        folder.add(ANNA, folder.invite(TICKET, Role.READER))
        admit = folder.sign(BEN, Admit(TICKET.device, Role.READER, BEN.box_public, b"name"), TICKET)
        late = EXPIRES_S + 1
        assert code(Log(folder).append(membership_record(admit), presenter=BEN.device, now_s=late)) is Code.TICKET
        assert Log(folder).append(membership_record(admit), presenter=ANNA.device, now_s=late) == [Appended(3)]

    def test_a_new_member_writes_in_the_same_batch(self) -> None:
        folder = with_ben()
        log = Log(Folder())
        records = [*map(membership_record, folder.entries[1:]), entry_record(entry(BEN))]
        assert log.append(*records) == [Appended(2), Appended(3), Appended(4)]


class TestDurable:
    def version(self, log: Log) -> OpenedEntry:
        made = entry(ANNA)
        log.append(entry_record(made))
        return made

    def test_the_receipt_stands_directly_after_the_record(self) -> None:
        log = Log()
        record = stored_record(ANNA, self.version(log), [b"one"])
        assert log.append(record) == [Appended(3, b"receipt")]
        assert log.view.index == 4
        assert log.append(record) == [AlreadyThere(3)]

    def test_absent_blobs_are_named(self) -> None:
        log = Log()
        record = stored_record(ANNA, self.version(log), [b"one"])
        assert log.append(record, absent=[b"x" * 32]) == [MissingBlobs((b"x" * 32,))]

    def test_a_part_comes_before_what_it_is_a_part_of(self) -> None:
        log = Log()
        made = self.version(log)
        part = stored_part(ANNA, [b"one"])
        whole = stored_record(ANNA, made, [], parts=[stored_id(part.data)])
        assert log.append(whole) == [MissingPast((stored_id(part.data),))]
        assert log.append(part, whole) == [Appended(3, b"receipt"), Appended(5, b"receipt")]

    def test_only_a_stored_record_is_a_part(self) -> None:
        log = Log()
        made = self.version(log)
        assert code(log.append(stored_record(ANNA, made, [], parts=[RecordId(made.id)]))) is Code.INTEGRITY

    def test_a_reader_may_say_what_is_stored_and_a_backup_may_not(self) -> None:
        for role, expected in ((Role.READER, [Appended(5, b"receipt")]), (Role.BACKUP, Code.ROLE_FORBIDS)):
            log = Log(with_ben(role))
            outcomes = log.append(stored_record(BEN, self.version(log), [b"one"]), presenter=BEN.device)
            assert outcomes == expected if isinstance(expected, list) else code(outcomes) is expected

    def test_a_checkpoint_is_a_writers_and_needs_its_blobs(self) -> None:
        log = Log(with_ben(Role.READER))
        made = self.version(log)

        def checkpoint(author: DeviceKeys) -> LogRecord:
            data = make_checkpoint(
                author,
                FOLDER,
                membership=RecordId(FOLDER),
                epoch=EPOCH,
                vector=(made.head,),
                state=(BlobId(b"s" * 32),),
            )
            return LogRecord(RecordKind.CHECKPOINT, data)

        assert code(log.append(checkpoint(BEN))) is Code.ROLE_FORBIDS
        assert log.append(checkpoint(ANNA), absent=[b"s" * 32]) == [MissingBlobs((b"s" * 32,))]
        assert log.append(checkpoint(ANNA)) == [Appended(5)]


def test_junk_of_every_kind_is_refused_never_raised() -> None:
    log = Log()
    for kind in (1, 2, 3, 5):
        for junk in (b"", b"\x93", b"\x93\xc4\x00\xc4\x00\xc4\x00", bytes(1000)):
            assert code(log.append(LogRecord(kind, junk))) is Code.INTEGRITY


def test_a_newer_version_of_a_known_kind_is_refused_as_such() -> None:
    good = stored_record(ANNA, entry(ANNA), [b"one"])
    newer = LogRecord(good.kind, good.data.replace(b"\x99\x01", b"\x99\x02", 1))
    assert code(Log().append(newer)) is Code.UNSUPPORTED
