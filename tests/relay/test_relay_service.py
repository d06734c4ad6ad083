"""Relay protocol (`docs/spec/relay.md`), over links in memory, with storage on disk and in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meshsync.crypto.hashing import blob_id
from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import LinkClosed, StorageFull
from meshsync.limits import BLOB_SIZE_BYTES_MAX, WANT_BYTES_MAX
from meshsync.metalog.head import head_hash, open_head
from meshsync.metalog.membership_entry import Admit
from meshsync.metalog.receipt import make_receipt, open_receipt
from meshsync.metalog.record_log import GENESIS_HEAD, LogRecord, RecordKind, record_id, verify_page
from meshsync.roles import Role
from meshsync.wire.relay_messages import (
    TICKET_PROOF_KIND,
    Absence,
    AlreadyThere,
    Append,
    Appended,
    Attach,
    Attached,
    BlobAbsent,
    BlobFrame,
    BlobUpload,
    Code,
    CreateFolder,
    Fetch,
    FolderList,
    Follow,
    ListFolders,
    LogGrew,
    MembershipPage,
    MissingBlobs,
    MissingPast,
    Offer,
    Offered,
    Page,
    Read,
    ReadMembership,
    RecordRefused,
    Refused,
    StoredBlobs,
    Wanted,
    creation_proof,
    refusal_error,
    ticket_statement,
)
from tests.metalog.log_scene import ANNA, BEN, CARA, DORA, FOLDER, RELAY, TICKET, Folder, chain, entry, genesis
from tests.relay.relay_world import (
    SECRET,
    RelayWorld,
    Talk,
    entry_record,
    head_of,
    membership_record,
    open_relay,
    stored_record,
)


@pytest.fixture(params=["disk", "memory"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RelayWorld]:
    async with open_relay(tmp_path if request.param == "disk" else None) as relay:
        yield relay


def refusal(answer: object) -> Code:
    assert isinstance(answer, Refused | RecordRefused), answer
    return answer.code


class TestCreateAndAttach:
    async def test_an_invitation_founds_a_folder(self, world: RelayWorld) -> None:
        await world.founded()
        answer = await (await world.talk(ANNA)).expect(Attached, Attach(FOLDER))
        assert (head_of(answer).index, head_of(answer).device) == (1, RELAY.device)

    async def test_founding_twice_is_attaching(self, world: RelayWorld) -> None:
        await world.founded()
        await world.founded()
        assert (await world.core.log.folders()) == [FOLDER]

    async def test_without_the_invitation_no_folder_is_founded(self, world: RelayWorld) -> None:
        talk = await world.talk(ANNA)
        wrong = creation_proof(b"another 16 bytes", RELAY.device, ANNA.device, FOLDER)
        assert refusal(await talk.ask(CreateFolder(genesis().data, wrong))) is Code.INVITATION
        assert await world.core.log.folders() == []

    async def test_another_device_cannot_reuse_a_creation_proof(self, world: RelayWorld) -> None:
        talk = await world.talk(BEN)
        stolen = creation_proof(SECRET, RELAY.device, ANNA.device, FOLDER)
        assert refusal(await talk.ask(CreateFolder(genesis().data, stolen))) is Code.INVITATION

    async def test_a_stranger_cannot_tell_a_folder_from_none(self, world: RelayWorld) -> None:
        before = await (await world.talk(BEN)).ask(Attach(FOLDER))
        await world.founded()
        assert await (await world.talk(BEN)).ask(Attach(FOLDER)) == before
        assert refusal(before) is Code.UNKNOWN

    async def test_a_head_answers_the_head_that_was_shown(self, world: RelayWorld) -> None:
        await world.founded()
        first = await (await world.talk(ANNA)).expect(Attached, Attach(FOLDER))
        second = await (await world.talk(ANNA)).expect(Attached, Attach(FOLDER, head_hash(first.head)))
        assert head_of(second).after == head_hash(first.head)

    async def test_a_message_out_of_place_ends_the_link(self, world: RelayWorld) -> None:
        talk = await world.talk(ANNA)
        await talk.send(Read(1))
        with pytest.raises(LinkClosed):
            await talk.receive()


class TestTicket:
    async def invited(self, world: RelayWorld) -> tuple[Talk, Folder]:
        folder = Folder()
        invite = folder.add(ANNA, folder.invite(TICKET, Role.WRITER))
        owner = await world.founded()
        assert await owner.append(membership_record(invite)) == [Appended(2)]
        return owner, folder

    def attach(self, bearer: DeviceKeys, signer: DeviceKeys = TICKET, relay: DeviceKeys = RELAY) -> Attach:
        statement = ticket_statement(FOLDER, relay.device, bearer.device)
        return Attach(FOLDER, b"", TICKET.device, signer.sign(TICKET_PROOF_KIND, statement))

    async def test_a_bearer_reads_the_membership_and_admits_itself(self, world: RelayWorld) -> None:
        _, folder = await self.invited(world)
        talk = await world.talk(BEN)
        await talk.expect(Attached, self.attach(BEN))
        page = await talk.expect(MembershipPage, ReadMembership(1))
        assert [record.data for record in page.records] == [one.data for one in folder.entries]
        admit = folder.add(BEN, Admit(TICKET.device, Role.WRITER, BEN.box_public, b"name"), TICKET)
        assert await talk.append(membership_record(admit)) == [Appended(3)]
        assert len(await talk.read_all()) == 3  # a member from now on

    async def test_a_bearer_does_nothing_else(self, world: RelayWorld) -> None:
        await self.invited(world)
        talk = await world.talk(BEN)
        await talk.expect(Attached, self.attach(BEN))
        for request in (Read(1), Fetch(()), Offer(()), Append((entry_record(entry(ANNA)),))):
            assert refusal(await talk.ask(request)) is Code.ROLE_FORBIDS

    @pytest.mark.parametrize("signer, relay, bearer", [(CARA, RELAY, BEN), (TICKET, CARA, BEN), (TICKET, RELAY, CARA)])
    async def test_a_proof_by_another_key_or_for_another_link_is_none(
        self, world: RelayWorld, signer: DeviceKeys, relay: DeviceKeys, bearer: DeviceKeys
    ) -> None:
        await self.invited(world)
        assert refusal(await (await world.talk(BEN)).ask(self.attach(bearer, signer, relay))) is Code.UNKNOWN

    async def test_a_used_ticket_admits_nobody_else(self, world: RelayWorld) -> None:
        owner, folder = await self.invited(world)
        other = folder.sign(CARA, Admit(TICKET.device, Role.WRITER, CARA.box_public, b"name"), TICKET)
        mine = folder.add(BEN, Admit(TICKET.device, Role.WRITER, BEN.box_public, b"name"), TICKET)
        talk = await world.talk(CARA)
        await talk.expect(Attached, self.attach(CARA))
        assert await owner.append(membership_record(mine)) == [Appended(3)]
        assert refusal(await talk.ask(Append((membership_record(other),)))) is Code.UNKNOWN


class TestEnrolled:
    async def test_a_sheet_finds_the_folders_that_enrolled_it_and_nobody_else_does(self, world: RelayWorld) -> None:
        folder = Folder()
        enrolled = folder.add(ANNA, folder.enrolment(DORA))
        owner = await world.founded()
        assert await owner.append(membership_record(enrolled)) == [Appended(2)]
        assert await self.listed(world, DORA) == (FOLDER,)
        assert await self.listed(world, DORA, after=FOLDER) == ()
        for other in (ANNA, BEN):
            assert await self.listed(world, other) == ()
        assert isinstance(await (await world.talk(DORA)).ask(Attach(FOLDER)), Attached)

    async def test_one_that_was_removed_finds_it_no_more(self, world: RelayWorld) -> None:
        folder = Folder()
        records = [folder.add(ANNA, folder.enrolment(DORA)), folder.add(ANNA, folder.remove(DORA, 1, ()))]
        owner = await world.founded()
        await owner.append(*map(membership_record, records))
        assert await self.listed(world, DORA) == ()

    async def listed(self, world: RelayWorld, device: DeviceKeys, after: bytes = b"") -> tuple[bytes, ...]:
        return (await (await world.talk(device)).expect(FolderList, ListFolders(after))).folders


class TestAppendAndRead:
    async def test_records_get_consecutive_places_and_pages_verify(self, world: RelayWorld) -> None:
        talk = await world.founded()
        entries = chain(ANNA, 5)
        assert await talk.append(*map(entry_record, entries)) == [Appended(index) for index in range(2, 7)]
        page = await talk.expect(Page, Read(1))
        assert verify_page(GENESIS_HEAD, 0, page.records, page.reached) == 6
        assert (head_of(page).index, head_of(page).head) == (6, page.reached)

    async def test_an_empty_page_stands_at_the_head_before_it(self, world: RelayWorld) -> None:
        talk = await world.founded()
        page = await talk.expect(Page, Read(2))
        assert page.records == () and page.reached == head_of(page).head

    async def test_appending_again_changes_nothing(self, world: RelayWorld) -> None:
        talk = await world.founded()
        record = entry_record(entry(ANNA))
        assert await talk.append(record, record) == [Appended(2), AlreadyThere(2)]
        assert await talk.append(record) == [AlreadyThere(2)]
        assert len(await talk.read_all()) == 2

    async def test_an_entry_waits_for_its_past(self, world: RelayWorld) -> None:
        talk = await world.founded()
        first, second = chain(ANNA, 2)
        assert await talk.append(entry_record(second)) == [MissingPast((first.id,))]
        assert await talk.append(entry_record(first), entry_record(second)) == [Appended(2), Appended(3)]

    async def test_a_flipped_bit_is_refused_and_the_rest_accepted(self, world: RelayWorld) -> None:
        talk = await world.founded()
        good = entry_record(entry(ANNA))
        bad = LogRecord(good.kind, good.data[:-1] + bytes([good.data[-1] ^ 1]))
        outcomes = await talk.append(bad, good)
        assert refusal(outcomes[0]) is Code.INTEGRITY and outcomes[1] == Appended(2)

    async def test_a_stranger_writes_nothing_even_through_a_member(self, world: RelayWorld) -> None:
        talk = await world.founded()
        assert refusal((await talk.append(entry_record(entry(BEN))))[0]) is Code.UNKNOWN

    async def test_a_receipt_is_not_a_devices_to_write(self, world: RelayWorld) -> None:
        talk = await world.founded()
        forged = make_receipt(ANNA, FOLDER, record=genesis().id, index=1, head=bytes(32), replicas=9)
        assert refusal((await talk.append(LogRecord(RecordKind.RECEIPT, forged)))[0]) is Code.ROLE_FORBIDS

    async def test_a_record_of_an_unknown_kind_is_kept_and_passed_on(self, world: RelayWorld) -> None:
        talk = await world.founded()
        newer = LogRecord(77, b"from the future")
        assert await talk.append(newer) == [Appended(2)]
        assert (await talk.read_all())[1] == newer

    async def test_of_two_changes_after_one_membership_head_the_second_is_refused(self, world: RelayWorld) -> None:
        folder = Folder()
        first = folder.sign(ANNA, folder.invite(TICKET, Role.READER))
        second = folder.sign(ANNA, folder.invite(DORA, Role.READER))
        talk = await world.founded()
        assert await talk.append(membership_record(first)) == [Appended(2)]
        assert refusal((await talk.append(membership_record(second)))[0]) is Code.CONFLICT

    async def test_a_follower_hears_of_growth_and_each_head_names_the_one_before(self, world: RelayWorld) -> None:
        talk, follower = await world.founded(), await world.attached(ANNA)
        first = await follower.expect(LogGrew, Follow(0))
        await talk.append(entry_record(entry(ANNA)))
        second = await follower.receive()
        assert isinstance(second, LogGrew)
        assert open_head(second.head, FOLDER).index == 2
        assert open_head(second.head, FOLDER).after == head_hash(first.head)

    async def test_a_removed_device_gets_nothing_more(self, world: RelayWorld) -> None:
        folder = Folder()
        folder.join(BEN, Role.WRITER)
        owner = await world.founded()
        await owner.append(*map(membership_record, folder.entries[1:]))
        removed, follower = await world.attached(BEN), await world.attached(BEN)
        await follower.expect(LogGrew, Follow(0))
        await owner.append(membership_record(folder.add(ANNA, folder.remove(BEN, 1))))
        assert refusal(await removed.ask(Read(1))) is Code.UNKNOWN
        assert refusal(await follower.receive()) is Code.UNKNOWN

    async def test_a_reader_reads_and_its_entries_are_refused(self, world: RelayWorld) -> None:
        folder = Folder()
        folder.join(BEN, Role.READER)
        owner = await world.founded()
        await owner.append(*map(membership_record, folder.entries[1:]))
        reader = await world.attached(BEN)
        assert len(await reader.read_all()) == 3
        assert refusal((await reader.append(entry_record(entry(BEN))))[0]) is Code.ROLE_FORBIDS

    async def test_a_backup_reads_and_uploads_nothing(self, world: RelayWorld) -> None:
        folder = Folder()
        folder.join(BEN, Role.BACKUP)
        owner = await world.founded()
        await owner.append(*map(membership_record, folder.entries[1:]))
        backup = await world.attached(BEN)
        assert len(await backup.read_all()) == 3
        assert refusal(await backup.ask(Offer(()))) is Code.ROLE_FORBIDS
        assert refusal(await backup.ask(Append((entry_record(entry(BEN)),)))) is Code.ROLE_FORBIDS


class TestBlobs:
    async def test_only_what_is_not_here_is_pulled(self, world: RelayWorld) -> None:
        talk = await world.founded()
        assert await talk.upload(b"one", b"two") == StoredBlobs(2, ())
        items = tuple(Offered(blob_id(data), len(data)) for data in (b"one", b"three", b"three", b"two"))
        assert await talk.ask(Offer(items)) == Wanted((1,))

    async def test_uploaded_blobs_come_back_in_order(self, world: RelayWorld) -> None:
        talk = await world.founded()
        await talk.upload(b"one", b"two")
        await talk.send(Fetch((blob_id(b"two"), blob_id(b"never"), blob_id(b"one"))))
        answers = [await talk.receive() for _ in range(3)]
        assert answers == [BlobFrame(0, b"two"), BlobAbsent(1, Absence.ABSENT), BlobFrame(2, b"one")]

    async def test_junk_under_the_id_of_a_coming_file_is_thrown_away(self, world: RelayWorld) -> None:
        talk = await world.founded()
        items = (Offered(blob_id(b"honest"), 6), Offered(blob_id(b"other"), 5))
        assert await talk.ask(Offer(items)) == Wanted((0, 1))
        await talk.send(BlobUpload(0, b"junk!!"))
        await talk.send(BlobUpload(1, b"other"))
        assert await talk.receive() == StoredBlobs(1, (0,))
        assert await talk.ask(Fetch((blob_id(b"honest"),))) == BlobAbsent(0, Absence.ABSENT)
        assert await talk.upload(b"honest") == StoredBlobs(1, ())

    async def test_blobs_of_one_folder_are_unknown_in_another(self, world: RelayWorld) -> None:
        await (await world.founded()).upload(b"one")
        other = genesis(BEN)
        talk = await world.talk(BEN)
        proof = creation_proof(SECRET, RELAY.device, BEN.device, other.folder)
        await talk.expect(Attached, CreateFolder(other.data, proof))
        assert await talk.ask(Fetch((blob_id(b"one"),))) == BlobAbsent(0, Absence.ABSENT)
        assert await talk.ask(Offer((Offered(blob_id(b"one"), 3),))) == Wanted((0,))

    async def test_a_receipt_comes_only_when_every_blob_is_here(self, world: RelayWorld) -> None:
        talk = await world.founded()
        version = entry(ANNA)
        record = stored_record(ANNA, version, [b"one", b"two"])
        await talk.append(entry_record(version))
        await talk.upload(b"one")
        assert await talk.append(record) == [MissingBlobs((blob_id(b"two"),))]
        await talk.upload(b"two")
        (outcome,) = await talk.append(record)
        assert isinstance(outcome, Appended)
        receipt = open_receipt(outcome.receipt, FOLDER)
        assert (receipt.record, receipt.index, receipt.device) == (record_id(record), 3, RELAY.device)
        assert (await talk.read_all())[3] == LogRecord(RecordKind.RECEIPT, outcome.receipt)
        assert await talk.append(record) == [AlreadyThere(3, outcome.receipt)]

    async def test_a_receipt_waits_for_the_entry_too(self, world: RelayWorld) -> None:
        talk = await world.founded()
        version = entry(ANNA)
        await talk.upload(b"one")
        record = stored_record(ANNA, version, [b"one"])
        assert await talk.append(record) == [MissingPast((version.chain,))]
        outcomes = await talk.append(entry_record(version), record)
        assert [type(outcome) for outcome in outcomes] == [Appended, Appended]

    @pytest.mark.parametrize("other", ["size", "order", "kind"])
    async def test_sending_other_than_asked_ends_the_link(self, world: RelayWorld, other: str) -> None:
        talk = await world.founded()
        assert await talk.ask(Offer((Offered(blob_id(b"one"), 3), Offered(blob_id(b"two"), 3)))) == Wanted((0, 1))
        await talk.send({"size": BlobUpload(0, b"longer"), "order": BlobUpload(1, b"two"), "kind": Read(1)}[other])
        with pytest.raises(LinkClosed):
            await talk.receive()

    async def test_an_offer_beyond_the_bound_ends_the_link(self, world: RelayWorld) -> None:
        talk = await world.founded()
        count = WANT_BYTES_MAX // BLOB_SIZE_BYTES_MAX + 1
        await talk.send(Offer(tuple(Offered(blob_id(bytes([n])), BLOB_SIZE_BYTES_MAX) for n in range(count))))
        with pytest.raises(LinkClosed):
            await talk.receive()


async def test_a_blob_damaged_at_rest_is_reported_never_served_and_taken_again(tmp_path: Path) -> None:
    async with open_relay(tmp_path) as world:
        talk = await world.founded()
        version = entry(ANNA)
        await talk.append(entry_record(version))
        await talk.upload(b"precious")
        pack = next((tmp_path / "chunks").glob("*.pack"))
        content = bytearray(pack.read_bytes())
        content[content.find(b"precious")] ^= 1
        pack.write_bytes(content)
        assert await talk.ask(Fetch((blob_id(b"precious"),))) == BlobAbsent(0, Absence.DAMAGED)
        record = stored_record(ANNA, version, [b"precious"])
        assert await talk.append(record) == [MissingBlobs((blob_id(b"precious"),))]
        assert await talk.upload(b"precious") == StoredBlobs(1, ())
        assert await talk.ask(Fetch((blob_id(b"precious"),))) == BlobFrame(0, b"precious")


async def test_beyond_the_quota_uploads_and_entries_are_refused_and_nothing_is_torn() -> None:
    async with open_relay(None, quota=1000) as world:
        talk = await world.founded()
        assert await talk.upload(bytes(900)) == StoredBlobs(1, ())
        answer = await talk.ask(Offer((Offered(blob_id(b"x" * 200), 200),)))
        assert refusal(answer) is Code.STORAGE_FULL
        assert isinstance(refusal_error(answer), StorageFull)
        assert refusal((await talk.append(entry_record(entry(ANNA))))[0]) is Code.STORAGE_FULL
        assert len(await talk.read_all()) == 1
        assert await world.core.log.charged(FOLDER, ANNA.device) == 900


async def test_a_relay_refilled_by_a_device_reaches_the_same_head(tmp_path: Path) -> None:
    version = entry(ANNA)
    async with open_relay(tmp_path) as world:
        talk = await world.founded()
        await talk.upload(b"one")
        await talk.append(entry_record(version), stored_record(ANNA, version, [b"one"]))
        records = await talk.read_all()
        before = head_of(await talk.expect(Page, Read(1)))
    async with open_relay(None) as blank:
        talk = await blank.founded()
        await talk.upload(b"one")
        await talk.append(*records[1:])
        after = head_of(await talk.expect(Page, Read(1)))
        assert (after.index, after.head) == (before.index, before.head)


async def test_everything_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    version = entry(ANNA)
    async with open_relay(tmp_path) as world:
        talk = await world.founded()
        await talk.upload(b"one")
        await talk.append(entry_record(version), stored_record(ANNA, version, [b"one"]))
        records = await talk.read_all()
    async with open_relay(tmp_path) as world:
        talk = await world.attached(ANNA)
        assert await talk.read_all() == records
        assert await talk.ask(Fetch((blob_id(b"one"),))) == BlobFrame(0, b"one")
