"""design.md 3: who may change the membership, and what each change does. Refusals leave the membership as it was."""

from __future__ import annotations

import msgspec
import pytest
from log_scene import ANNA, BEN, CARA, DORA, EPOCH, EXPIRES_S, FOLDER, RELAY, TICKET, Folder, device, epoch, genesis

from meshsync import limits
from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import (
    FormatUnsupported,
    IntegrityError,
    MalformedMessage,
    NotAMember,
    RoleForbids,
    SignatureInvalid,
    TicketInvalid,
)
from meshsync.ids import FolderId
from meshsync.metalog.fields import ChainHead
from meshsync.metalog.membership import KeyBoxAt, found, replay
from meshsync.metalog.membership_entry import (
    Admit,
    Box,
    ChangeRole,
    Invite,
    Rekey,
    Remove,
    Revoke,
    SetPolicy,
    SetRelay,
    WrappedKey,
    open_membership,
    sign_genesis,
)
from meshsync.roles import Role

PIN = ChainHead(bytes([9]) * 32, 10, bytes([8]) * 32)


def shared(*members: tuple[DeviceKeys, Role]) -> Folder:
    folder = Folder()
    for number, (keys, role) in enumerate(members):
        folder.join(keys, role, device(100 + number))
    return folder


class TestGenesis:
    def test_names_the_folder_and_its_founder_owns_it(self):
        membership = found(genesis())
        assert membership.folder == genesis().id == FOLDER
        assert membership.role(ANNA.device) is Role.OWNER and membership.owners() == [ANNA.device]
        assert membership.key_boxes(ANNA.device) == [KeyBoxAt(EPOCH, b"box")]
        assert membership.genesis.chunk_mean == 65536 and membership.epoch == EPOCH

    def test_another_founder_founds_another_folder(self):
        assert genesis(BEN).folder != FOLDER

    def test_a_chain_begins_with_exactly_one(self):
        folder = Folder()
        second = folder.add(ANNA, SetPolicy(1, b""))
        for chain in ([], [second]):
            with pytest.raises(MalformedMessage):
                replay(chain, FOLDER)
        with pytest.raises(IntegrityError):
            replay(folder.entries, FolderId(bytes(32)))
        with pytest.raises(MalformedMessage):
            folder.sign(ANNA, genesis().change)


class TestJoining:
    def test_a_ticket_admits_a_device_with_its_role_and_keys(self):
        folder = Folder()
        folder.add(ANNA, folder.invite(TICKET, Role.WRITER))
        folder.add(BEN, Admit(TICKET.device, Role.WRITER, BEN.box_public, b"name"), TICKET, now_s=EXPIRES_S)
        member = folder.membership.members[BEN.device]
        assert (member.role, member.box_public, member.name) == (Role.WRITER, BEN.box_public, b"name")
        assert folder.membership.key_boxes(BEN.device) == [KeyBoxAt(EPOCH, b"invite box")]
        assert folder.membership.invites == {}

    def admit(self, role: Role = Role.WRITER, now_s: int | None = None, folder: Folder | None = None) -> None:
        if folder is None:
            folder = Folder()
            folder.add(ANNA, folder.invite(TICKET, Role.WRITER))
        before = folder.membership
        with pytest.raises(TicketInvalid):
            folder.add(CARA, Admit(TICKET.device, role, CARA.box_public), TICKET, now_s)
        assert folder.membership is before

    def test_used_ticket_is_refused(self):
        """promises.md B 14."""
        self.admit(folder=shared((BEN, Role.WRITER)))
        folder = Folder()
        folder.join(BEN, Role.WRITER)
        self.admit(folder=folder)

    def test_expired_ticket_is_refused_when_presented_but_not_on_replay(self):
        self.admit(now_s=EXPIRES_S + 1)
        folder = Folder()
        folder.join(BEN, Role.WRITER)
        assert replay(folder.entries, FOLDER) == folder.membership

    @pytest.mark.parametrize("role", [Role.OWNER, Role.READER])
    def test_another_role_than_the_invites_is_refused(self, role: Role):
        self.admit(role)

    def test_revoked_ticket_is_refused(self):
        folder = Folder()
        folder.add(ANNA, folder.invite(TICKET, Role.WRITER))
        folder.add(ANNA, Revoke(TICKET.device))
        self.admit(folder=folder)

    def test_member_is_not_admitted_again_with_a_higher_role(self):
        folder = shared((BEN, Role.READER))
        folder.add(ANNA, folder.invite(TICKET, Role.OWNER))
        with pytest.raises(TicketInvalid):
            folder.add(BEN, Admit(TICKET.device, Role.OWNER, BEN.box_public), TICKET)

    def test_a_ticket_is_issued_once(self):
        folder = Folder()
        folder.add(ANNA, folder.invite(TICKET, Role.WRITER))
        with pytest.raises(TicketInvalid):
            folder.add(ANNA, folder.invite(TICKET, Role.OWNER))

    def test_an_invite_is_under_the_current_epoch(self):
        with pytest.raises(MalformedMessage):
            Folder().add(ANNA, Invite(TICKET.device, Role.WRITER, EXPIRES_S, epoch(3), b"box"))

    def test_a_backup_gets_no_keys(self):
        folder = shared((BEN, Role.BACKUP))
        assert folder.membership.key_boxes(BEN.device) == []
        with pytest.raises(MalformedMessage):
            folder.sign(ANNA, Invite(TICKET.device, Role.BACKUP, EXPIRES_S, EPOCH, b"box"))


class TestOnlyOwnersChangeTheMembership:
    """promises.md B 8."""

    folder = shared((BEN, Role.WRITER), (CARA, Role.READER), (DORA, Role.BACKUP))
    CHANGES = (
        folder.invite(TICKET, Role.WRITER),
        Revoke(TICKET.device),
        folder.rekey(1),
        folder.remove(ANNA, 1),
        ChangeRole(BEN.device, Role.OWNER),
        SetRelay(RELAY.device, ("host:1",)),
        SetPolicy(1, b"policy"),
    )

    @pytest.mark.parametrize("change", CHANGES, ids=lambda change: type(change).__name__)
    @pytest.mark.parametrize("author", [BEN, CARA, DORA], ids=["writer", "reader", "backup"])
    def test_others_are_refused(self, author: DeviceKeys, change):
        before = self.folder.membership
        with pytest.raises(RoleForbids):
            self.folder.add(author, change)
        assert self.folder.membership is before

    @pytest.mark.parametrize("change", CHANGES, ids=lambda change: type(change).__name__)
    def test_strangers_are_refused(self, change):
        with pytest.raises(NotAMember):
            self.folder.add(TICKET, change)


class TestRemoval:
    def test_takes_the_member_and_changes_the_key_at_once(self):
        folder = shared((BEN, Role.WRITER), (CARA, Role.READER))
        folder.add(ANNA, folder.remove(BEN, 1, (PIN,)))
        now = folder.membership
        assert not now.is_member(BEN.device) and now.pins_of(BEN.device) == (PIN,)
        assert now.epoch == epoch(1) and now.key_boxes(BEN.device) == []
        assert now.key_boxes(CARA.device) == [KeyBoxAt(epoch(1), b"box " + CARA.device[:2])]
        assert now.knows_epoch(EPOCH) and now.wrapped[epoch(1)] == (WrappedKey(EPOCH, b"wrapped"),)

    def test_without_a_rekey_is_refused(self):
        folder = shared((BEN, Role.WRITER))
        with pytest.raises(MalformedMessage):
            folder.add(ANNA, Remove(BEN.device, (), None))

    def test_with_a_box_for_the_removed_device_is_refused(self):
        folder = shared((BEN, Role.WRITER))
        with pytest.raises(MalformedMessage):
            folder.add(ANNA, Remove(BEN.device, (), folder.rekey(1)))

    def test_removed_device_does_not_come_back_with_its_ticket(self):
        """promises.md B 9."""
        folder = Folder()
        folder.join(BEN, Role.WRITER)
        folder.add(ANNA, folder.remove(BEN, 1))
        with pytest.raises(TicketInvalid):
            folder.add(BEN, Admit(TICKET.device, Role.WRITER, BEN.box_public), TICKET)
        with pytest.raises(NotAMember):
            folder.add(BEN, SetPolicy(1, b""))

    def test_invited_again_its_old_chains_stay_pinned(self):
        folder = shared((BEN, Role.WRITER))
        folder.add(ANNA, folder.remove(BEN, 1, (PIN,)))
        folder.join(BEN, Role.WRITER)
        later = ChainHead(PIN.chain, 99, bytes(32))
        folder.add(ANNA, folder.remove(BEN, 2, (later,)))
        assert folder.membership.pins_of(BEN.device) == (PIN,)

    @pytest.mark.parametrize("change", [Remove(ANNA.device, (), None), ChangeRole(ANNA.device, Role.WRITER)])
    def test_the_last_owner_stays(self, change):
        with pytest.raises(RoleForbids):
            shared((BEN, Role.WRITER)).add(ANNA, change)

    def test_the_last_owner_is_not_removed_by_itself_through_another_owner(self):
        folder = shared((BEN, Role.OWNER))
        folder.add(BEN, folder.remove(ANNA, 1))
        with pytest.raises(RoleForbids):
            folder.add(BEN, Remove(BEN.device, (), None))

    def test_a_member_may_leave_but_not_choose_the_next_key(self):
        folder = shared((BEN, Role.READER))
        with pytest.raises(RoleForbids):
            folder.add(BEN, folder.remove(BEN, 1))
        folder.add(BEN, Remove(BEN.device, (PIN,), None))
        assert not folder.membership.is_member(BEN.device) and folder.membership.epoch == EPOCH

    def test_a_leaving_device_pins_nobody_elses_chain(self):
        folder = shared((BEN, Role.READER), (CARA, Role.WRITER))
        folder.add(BEN, Remove(BEN.device, (PIN,), None))
        assert folder.membership.pins_of(CARA.device) == ()


class TestRekey:
    def test_boxes_the_key_to_members_and_open_invites(self):
        folder = shared((BEN, Role.READER))
        folder.add(ANNA, folder.invite(TICKET, Role.WRITER))
        folder.add(ANNA, folder.rekey(1))
        folder.add(CARA, Admit(TICKET.device, Role.WRITER, CARA.box_public), TICKET)
        assert [box.epoch for box in folder.membership.key_boxes(CARA.device)] == [epoch(1)]

    def test_an_open_invite_without_a_box_is_closed(self):
        folder = Folder()
        folder.add(ANNA, folder.invite(TICKET, Role.WRITER))
        folder.add(ANNA, folder.rekey(1, (TICKET.device,)))
        with pytest.raises(TicketInvalid):
            folder.membership.open_invite(TICKET.device)

    def test_leaves_nobody_out_and_lets_nobody_in(self):
        folder = shared((BEN, Role.READER), (CARA, Role.BACKUP))
        good = folder.rekey(1)
        for boxes in (
            good.boxes[1:],
            tuple(sorted((*good.boxes, Box(DORA.device, b"box")))),
            tuple(sorted((*good.boxes, Box(CARA.device, b"box")))),
        ):
            with pytest.raises(MalformedMessage):
                folder.add(ANNA, msgspec.structs.replace(good, boxes=boxes))

    def test_goes_forward_only_and_wraps_the_epoch_before(self):
        folder = Folder()
        folder.add(ANNA, folder.rekey(1))
        good = folder.rekey(2)
        for changes in ({"epoch": EPOCH}, {"epoch": epoch(1)}, {"wrapped": (WrappedKey(EPOCH, b"old"),)}):
            with pytest.raises(MalformedMessage):
                folder.add(ANNA, msgspec.structs.replace(good, **changes))

    def test_boxes_ascend(self):
        folder = shared((BEN, Role.READER))
        good = folder.rekey(1)
        for boxes in (good.boxes[::-1], good.boxes[:1] * 2):
            with pytest.raises(MalformedMessage):
                folder.sign(ANNA, Rekey(epoch(1), boxes, good.wrapped))

    def test_states_one_commitment_for_all_boxes(self):
        """promises.md B 10: every member checks the key in its box against this one field."""
        folder = shared((BEN, Role.READER))
        folder.add(ANNA, folder.rekey(1))
        epochs = {folder.membership.key_boxes(keys.device)[0].epoch for keys in (ANNA, BEN)}
        assert epochs == {folder.membership.epoch}


class TestRolesRelaysPolicy:
    def test_lowered_below_writer_its_chains_are_pinned(self):
        folder = shared((BEN, Role.WRITER))
        folder.add(ANNA, ChangeRole(BEN.device, Role.READER, (PIN,)))
        assert folder.membership.pins_of(BEN.device) == (PIN,) and not folder.membership.may_write(BEN.device)

    def test_pins_go_only_with_losing_the_right_to_write(self):
        folder = shared((BEN, Role.WRITER))
        with pytest.raises(MalformedMessage):
            folder.add(ANNA, ChangeRole(BEN.device, Role.OWNER, (PIN,)))

    def test_relays_come_and_go(self):
        folder = Folder()
        folder.add(ANNA, SetRelay(RELAY.device, ("relay.example:4433",)))
        assert folder.membership.relays == {RELAY.device: ("relay.example:4433",)}
        folder.add(ANNA, SetRelay(RELAY.device, ()))
        assert folder.membership.relays == {}

    def test_a_policy_replaces_only_an_older_one(self):
        folder = Folder()
        folder.add(ANNA, SetPolicy(2, b"keep all"))
        with pytest.raises(MalformedMessage):
            folder.add(ANNA, SetPolicy(2, b"keep none"))
        assert folder.membership.policy == SetPolicy(2, b"keep all")


class TestTheChain:
    def test_dropping_or_reordering_an_entry_breaks_it(self):
        folder = shared((BEN, Role.WRITER), (CARA, Role.READER))
        entries = folder.entries
        for broken in (entries[:1] + entries[2:], [*entries[:1], entries[2], entries[1], *entries[3:]]):
            with pytest.raises(IntegrityError):
                replay(broken, FOLDER)

    def test_is_the_same_for_whoever_replays_it(self):
        folder = shared((BEN, Role.WRITER), (CARA, Role.READER))
        folder.add(ANNA, folder.remove(CARA, 1, (PIN,)))
        assert replay([open_membership(entry.data) for entry in folder.entries], FOLDER) == folder.membership
        assert folder.membership.count == len(folder.entries)


class TestBounds:
    """Nothing that members control grows without a bound."""

    def test_open_invites(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(limits, "INVITES_OPEN_MAX", 1)
        folder = Folder()
        folder.add(ANNA, folder.invite(TICKET, Role.WRITER))
        with pytest.raises(MalformedMessage):
            folder.add(ANNA, folder.invite(RELAY, Role.WRITER))

    def test_members(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(limits, "MEMBERS_MAX", 2)
        folder = shared((BEN, Role.WRITER))
        with pytest.raises(MalformedMessage):
            folder.join(CARA, Role.WRITER)

    def test_relays(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(limits, "FOLDER_RELAYS_MAX", 1)
        folder = Folder()
        folder.add(ANNA, SetRelay(RELAY.device, ("h:1",)))
        folder.add(ANNA, SetRelay(RELAY.device, ("h:2",)))
        with pytest.raises(MalformedMessage):
            folder.add(ANNA, SetRelay(BEN.device, ("h:1",)))


class TestForm:
    @pytest.mark.parametrize(
        ("changes", "error"),
        [
            ({"chunk_min": 65537}, MalformedMessage),
            ({"chunk_max": limits.CHUNK_SIZE_BYTES_MAX + 1}, MalformedMessage),
            ({"chunk_min": 1}, MalformedMessage),
            ({"suite": 2}, FormatUnsupported),
        ],
    )
    def test_a_genesis_out_of_bounds_founds_nothing(self, changes: dict[str, int], error: type[Exception]):
        """promises.md B 26: another suite is never negotiated."""
        with pytest.raises(error):
            sign_genesis(ANNA, msgspec.structs.replace(genesis().change, **changes))

    def test_only_an_admission_carries_a_tickets_signature(self):
        with pytest.raises(MalformedMessage):
            Folder().sign(ANNA, SetPolicy(1, b""), TICKET)

    def test_an_admission_needs_the_tickets_signature(self):
        folder = Folder()
        folder.add(ANNA, folder.invite(TICKET, Role.WRITER))
        for signer in (None, CARA):
            with pytest.raises(SignatureInvalid):
                folder.sign(BEN, Admit(TICKET.device, Role.WRITER, BEN.box_public), signer)

    def test_a_change_concerns_a_member(self):
        folder = Folder()
        for change in (ChangeRole(BEN.device, Role.READER), folder.remove(BEN, 1)):
            with pytest.raises(NotAMember):
                folder.add(ANNA, change)


class TestEnrol:
    def test_an_owner_makes_an_off_line_key_an_owner_with_a_box_of_its_own(self):
        folder = shared()
        folder.add(ANNA, folder.enrolment(DORA))
        membership = folder.membership
        assert membership.role(DORA.device) is Role.OWNER and membership.members[DORA.device].enrolled_by == ANNA.device
        assert membership.key_boxes(DORA.device) == [KeyBoxAt(EPOCH, b"sheet box")]
        assert membership.owners() == sorted([ANNA.device, DORA.device])
        assert membership.acting_owners() == [ANNA.device]

    def test_it_is_boxed_to_by_every_rekey(self):
        folder = shared()
        folder.add(ANNA, folder.enrolment(DORA))
        with pytest.raises(MalformedMessage):
            folder.add(ANNA, folder.rekey(1, without=(DORA.device,)))
        folder.add(ANNA, folder.rekey(1))
        assert folder.membership.key_boxes(DORA.device)[0].epoch == epoch(1)

    def test_it_signs_as_an_owner(self):
        folder = shared()
        folder.add(ANNA, folder.enrolment(DORA))
        folder.add(DORA, folder.invite(TICKET, Role.OWNER))
        folder.add(CARA, Admit(TICKET.device, Role.OWNER, CARA.box_public), TICKET)
        assert CARA.device in folder.membership.acting_owners()

    @pytest.mark.parametrize("role", [Role.WRITER, Role.READER])
    def test_only_an_owner_enrols(self, role: Role):
        folder = shared((BEN, role))
        with pytest.raises(RoleForbids):
            folder.add(BEN, folder.enrolment(DORA, by=BEN))

    def test_nobody_enrols_a_key_that_consented_to_another(self):
        folder = shared((BEN, Role.OWNER))
        with pytest.raises(SignatureInvalid):
            folder.sign(BEN, folder.enrolment(DORA, by=ANNA))

    def test_nobody_gives_it_another_key_to_be_boxed_to(self):
        folder = shared()
        with pytest.raises(SignatureInvalid):
            folder.sign(ANNA, msgspec.structs.replace(folder.enrolment(DORA), box_public=CARA.box_public))

    def test_a_member_is_not_enrolled_and_not_under_an_earlier_key(self):
        folder = shared((BEN, Role.WRITER))
        with pytest.raises(MalformedMessage):
            folder.add(ANNA, folder.enrolment(BEN))
        late = folder.enrolment(DORA)
        folder.add(ANNA, folder.rekey(1))
        with pytest.raises(MalformedMessage):
            folder.add(ANNA, late)

    def test_it_is_removed_like_any_member(self):
        folder = shared()
        folder.add(ANNA, folder.enrolment(DORA))
        folder.add(ANNA, folder.remove(DORA, 1, ()))
        assert not folder.membership.is_member(DORA.device) and not folder.membership.key_boxes(DORA.device)
