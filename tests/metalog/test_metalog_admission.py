"""promises.md B 8 and 9, semantics.md 4.5 and 5.1: which entries enter the log."""

from __future__ import annotations

import pytest
from log_scene import ANNA, BEN, CARA, DORA, EPOCH, TICKET, Folder, chain, device, entry, epoch

from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import NotAMember, RoleForbids
from meshsync.metalog.admission import (
    Reason,
    beyond_pins,
    is_apart,
    may_append_entry,
    may_append_stored,
    off_pins,
)
from meshsync.metalog.chain import ChainSet
from meshsync.metalog.membership_entry import ChangeRole, Remove
from meshsync.roles import Role


def members() -> Folder:
    folder = Folder()
    for number, (keys, role) in enumerate(((BEN, Role.WRITER), (CARA, Role.READER), (DORA, Role.BACKUP))):
        folder.join(keys, role, device(100 + number))
    return folder


def delivered(entries) -> ChainSet:
    chains = ChainSet()
    for item in entries:
        chains.accept(item)
    return chains


def reason(folder: Folder, item, chains: ChainSet | None = None) -> Reason | None:
    refusal = may_append_entry(folder.membership, item, chains)
    return refusal.reason if refusal else None


@pytest.mark.parametrize("keys", [ANNA, BEN], ids=["owner", "writer"])
def test_who_may_write_is_let_through(keys: DeviceKeys):
    assert may_append_entry(members().membership, entry(keys)) is None


@pytest.mark.parametrize("keys", [CARA, DORA], ids=["reader", "backup"])
def test_a_reader_and_a_backup_write_nothing(keys: DeviceKeys):
    refusal = may_append_entry(members().membership, entry(keys))
    assert refusal is not None and refusal.reason is Reason.ROLE_FORBIDS
    assert isinstance(refusal.error(), RoleForbids)


def test_a_stranger_writes_nothing():
    refusal = may_append_entry(members().membership, entry(TICKET))
    assert refusal is not None and refusal.reason is Reason.NOT_A_MEMBER
    assert isinstance(refusal.error(), NotAMember)


def test_stored_records_come_from_whoever_holds_keys():
    membership = members().membership
    assert [may_append_stored(membership, keys.device) is None for keys in (ANNA, BEN, CARA, DORA, TICKET)] == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_an_older_epoch_is_accepted_and_an_unknown_one_is_not():
    folder = members()
    folder.add(ANNA, folder.rekey(1))
    assert [reason(folder, entry(BEN, under=under)) for under in (EPOCH, epoch(1), epoch(2))] == [
        None,
        None,
        Reason.EPOCH_UNKNOWN,
    ]


class TestRemovedDevice:
    entries = chain(BEN, 3)
    branch = entry(BEN, entries[0], payload=b"backdated")

    def folder(self, pins=None) -> Folder:
        folder = members()
        folder.add(ANNA, folder.remove(BEN, 1, (self.entries[1].head,) if pins is None else pins))
        return folder

    def test_keeps_its_entries_up_to_the_pin(self):
        assert [reason(self.folder(), item) for item in self.entries] == [None, None, Reason.BEYOND_PIN]

    def test_cannot_backdate_a_branch_below_the_pin(self):
        chains = delivered(self.entries[:2])
        assert reason(self.folder(), self.branch, chains) is Reason.BEYOND_PIN
        assert reason(self.folder(), self.entries[0], chains) is None

    def test_cannot_put_another_entry_in_the_place_of_the_pin(self):
        other = entry(BEN, self.entries[0], payload=b"other")
        assert other.envelope.seq == self.entries[1].envelope.seq
        assert reason(self.folder(), other) is Reason.BEYOND_PIN

    def test_a_branch_that_came_before_the_pin_was_known_is_found_afterwards(self):
        folder = self.folder(pins=(self.entries[2].head,))
        chains = delivered([self.entries[0], self.branch])
        assert reason(folder, self.branch, chains) is None
        assert off_pins(chains, folder.membership.pins_of(BEN.device)) == []
        for item in self.entries[1:]:
            chains.accept(item)
        assert off_pins(chains, folder.membership.pins_of(BEN.device)) == [self.branch.id]

    def test_entries_beyond_the_pin_are_listed(self):
        folder = self.folder()
        assert off_pins(delivered(self.entries), folder.membership.pins_of(BEN.device)) == [self.entries[2].id]

    def test_opens_no_new_chain(self):
        assert reason(self.folder(), entry(BEN, payload=b"fresh chain")) is Reason.NOT_A_MEMBER

    def test_what_a_member_had_of_a_chain_that_the_owner_did_not_know_is_apart_and_not_thrown_away(self):
        folder = self.folder()
        fresh = entry(BEN, payload=b"fresh chain")
        refusal = may_append_entry(folder.membership, fresh)
        assert refusal is not None and is_apart(refusal)
        chains = delivered([*self.entries, fresh])
        assert beyond_pins(folder.membership, chains) == {self.entries[2].id, fresh.id}
        folder.join(BEN, Role.WRITER)
        assert beyond_pins(folder.membership, chains) == {self.entries[2].id}

    def test_what_a_stranger_or_a_reader_signs_is_not_apart(self):
        folder = members()
        for author in (CARA, DORA):
            refusal = may_append_entry(folder.membership, entry(author))
            assert refusal is not None and not is_apart(refusal)

    def test_invited_again_writes_on_a_new_chain_only(self):
        folder = self.folder()
        folder.join(BEN, Role.WRITER)
        assert reason(folder, entry(BEN, payload=b"fresh chain")) is None
        assert reason(folder, self.entries[2]) is Reason.BEYOND_PIN


def test_a_demoted_writer_is_pinned_like_a_removed_one():
    entries, folder = chain(BEN, 2), members()
    folder.add(ANNA, ChangeRole(BEN.device, Role.READER, (entries[0].head,)))
    assert [reason(folder, item) for item in entries] == [None, Reason.BEYOND_PIN]
    assert may_append_stored(folder.membership, BEN.device) is None


def test_a_leaving_reader_cannot_end_the_chain_of_a_writer():
    """promises.md B: no member is framed by another."""
    entries, folder = chain(BEN, 2), members()
    folder.add(CARA, Remove(CARA.device, (entries[0].head,), None))
    assert reason(folder, entries[1]) is None
