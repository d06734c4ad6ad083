"""design.md 3: two owners change the membership at once, and no relay orders them."""

from __future__ import annotations

import pytest
from log_scene import ANNA, BEN, CARA, DORA, EPOCH, FOLDER, TICKET, Folder, device, epoch

from meshsync.errors import IntegrityError
from meshsync.metalog.membership import Membership
from meshsync.metalog.membership_entry import Admit, ChangeRole, SetPolicy
from meshsync.metalog.membership_merge import merge, prefer
from meshsync.roles import Role


def two_owners() -> Membership:
    folder = Folder()
    for number, (keys, role) in enumerate(((BEN, Role.OWNER), (CARA, Role.WRITER))):
        folder.join(keys, role, device(100 + number))
    return folder.membership


BASE = two_owners()


def branch(author, *changes) -> list:
    folder = Folder(BASE)
    for change in changes:
        folder.add(author, change(folder) if callable(change) else change)
    return folder.entries


INVITE = branch(BEN, lambda folder: folder.invite(TICKET, Role.WRITER))
REMOVE = branch(ANNA, lambda folder: folder.remove(CARA, 1))
REKEY = branch(BEN, lambda folder: folder.rekey(2))
DEMOTE = branch(ANNA, ChangeRole(CARA.device, Role.READER))
PROMOTE = branch(ANNA, ChangeRole(CARA.device, Role.OWNER))


@pytest.mark.parametrize("restricting", [REMOVE, REKEY, DEMOTE])
@pytest.mark.parametrize("other", [INVITE, PROMOTE])
def test_taking_away_beats_giving(restricting: list, other: list):
    assert prefer(restricting[0], other[0], BASE) is restricting[0] is prefer(other[0], restricting[0], BASE)


@pytest.mark.parametrize("pair", [(REMOVE, REKEY), (INVITE, PROMOTE)])
def test_among_equals_the_lower_hash_wins(pair: tuple[list, list]):
    a, b = pair[0][0], pair[1][0]
    assert prefer(a, b, BASE) is prefer(b, a, BASE) is min(a, b, key=lambda entry: entry.id)


def test_merge_does_not_depend_on_who_merges():
    assert merge(BASE, INVITE, REMOVE) == merge(BASE, REMOVE, INVITE)


def test_the_loser_is_proposed_again():
    merged = merge(BASE, INVITE, REMOVE)
    assert merged.winners == tuple(REMOVE) and merged.repropose == tuple(INVITE) and merged.dropped == ()
    assert not merged.membership.is_member(CARA.device) and merged.membership.head == REMOVE[-1].id
    folder = Folder(merged.membership)
    folder.add(BEN, folder.invite(TICKET, Role.WRITER))
    assert TICKET.device in folder.membership.invites


def test_a_whole_losing_branch_is_sorted_in_order():
    admit = Admit(TICKET.device, Role.WRITER, DORA.box_public)
    folder = Folder(BASE)
    folder.add(BEN, folder.invite(TICKET, Role.WRITER))
    folder.add(DORA, admit, TICKET)
    merged = merge(BASE, folder.entries, REMOVE)
    assert merged.repropose == tuple(folder.entries)


def test_what_is_no_longer_allowed_is_dropped():
    removed = branch(ANNA, lambda folder: folder.remove(BEN, 1))
    merged = merge(BASE, removed, INVITE)
    assert merged.dropped == tuple(INVITE) and merged.repropose == ()


def test_a_losing_epoch_stays_readable_and_is_never_current():
    """semantics.md 5.1."""
    winner, loser = (REMOVE, REKEY) if prefer(REMOVE[0], REKEY[0], BASE) is REMOVE[0] else (REKEY, REMOVE)
    won, lost = winner[0].change, loser[0].change
    won_epoch = getattr(won, "rekey", won).epoch
    lost_epoch = getattr(lost, "rekey", lost).epoch
    merged = merge(BASE, REMOVE, REKEY)
    assert merged.membership.epoch == won_epoch
    assert merged.membership.knows_epoch(lost_epoch) and merged.membership.knows_epoch(EPOCH)
    assert [box.epoch for box in merged.membership.key_boxes(ANNA.device)] == [won_epoch, lost_epoch]
    assert merged.repropose == tuple(loser)


def test_the_next_rekey_takes_the_losing_epoch_into_the_history():
    merged = merge(BASE, REMOVE, REKEY).membership
    (lost,) = merged.superseded
    folder = Folder(merged)
    plain = folder.rekey(5)
    wrapped = tuple(sorted((*plain.wrapped, type(plain.wrapped[0])(lost, b"wrapped"))))
    folder.add(ANNA, type(plain)(epoch(5), plain.boxes, wrapped))
    assert folder.membership.superseded == {} and folder.membership.knows_epoch(lost)


def test_branches_must_follow_the_base():
    with pytest.raises(IntegrityError):
        merge(BASE, [], REMOVE)
    foreign = Folder()
    foreign.add(ANNA, SetPolicy(1, b""))
    assert foreign.membership.folder == FOLDER
    with pytest.raises(IntegrityError):
        merge(BASE, foreign.entries[1:], REMOVE)
