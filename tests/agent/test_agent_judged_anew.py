"""What an entry counts for is decided again when the membership, the keys or the log say otherwise: as a replay does.

`semantics.md` 4.5 and 5.1. The state of a running replica equals that of one which is
opened on the same index.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from meshsync.agent.index_mark import IndexMark
from meshsync.agent.members_keys import make_rekey, make_removal, make_role
from meshsync.agent.replica import Replica
from meshsync.crypto.envelope import box
from meshsync.crypto.folder_keys import pack_bundle
from meshsync.index.database import Database
from meshsync.metalog.membership_entry import Box, Rekey
from meshsync.roles import Role
from tests.support.peers import Peer, Peers, open_peers

MARK = IndexMark(b"", b"")


@pytest.fixture
def peers(tmp_path: Path) -> Iterator[Peers]:
    with open_peers(tmp_path) as made:
        yield made


async def four(peers: Peers) -> tuple[Peer, Peer, Peer, Peer]:
    """Anna and Ben own the folder, Cem and Rob write to it."""
    anna, ben, cem, rob = [await peers.add(name) for name in ("anna", "ben", "cem", "rob")]
    await anna.replica.propose(lambda: make_role(anna.replica, ben.id, Role.OWNER))
    for peer in (ben, cem, rob):
        await peer.take_from(anna)
    return anna, ben, cem, rob


def opened_on(peers: Peers, peer: Peer, database: Database) -> Peer:
    """A second replica of the device on another copy of its index."""
    replica = peer.replica
    twin = Replica(peers.runtime, database, peer.keys, replica.membership_chain, replica.keys, Path("unused"))
    twin.load(MARK)
    return Peer(peer.keys, twin)


def copied(peers: Peers, peer: Peer, path: Path) -> Peer:
    peer.replica.database.execute("VACUUM INTO ?", (str(path),))
    return opened_on(peers, peer, Database(path))


def is_as_replayed(peers: Peers, peer: Peer, path: Path) -> bool:
    """Whether view, quarantine, unread entries and history are those of a replica opened on a copy of the index."""
    listed = {row.dot for row in peer.replica.versions.all(100)}
    again = copied(peers, peer, path)
    state = [
        (each.shows(), each.replica.quarantined, set(each.replica.unreadable), each.replica.view.vector)
        for each in (peer, again)
    ]
    same = listed == {row.dot for row in again.replica.versions.all(100)}
    again.replica.database.close()
    return same and state[0] == state[1]


async def removed_at_the_first(peers: Peers) -> tuple[Peer, Peer, Peer, Peer]:
    """Anna removes Rob when she has only his first entry; Cem, who had the second one, hears of it."""
    anna, ben, cem, rob = await four(peers)
    await rob.write(b"first", b"1")
    await anna.take_from(rob)
    second = await rob.write(b"second", b"2")
    await cem.take_from(rob)
    await anna.replica.propose(lambda: make_removal(anna.replica, peers.runtime, rob.id))
    await cem.take_from(anna)
    assert cem.replica.quarantined == {second.id} and cem.shows() == {b"first": b"1"}
    return anna, ben, cem, rob


async def test_what_a_removal_kept_out_comes_back_when_the_removal_loses(peers: Peers, tmp_path: Path) -> None:
    _, ben, cem, rob = await removed_at_the_first(peers)
    before = cem.replica.shown_anew
    await ben.replica.propose(lambda: make_role(ben.replica, cem.id, Role.OWNER))
    await cem.replica.receive_membership(0, tuple(ben.replica.membership_page(0, 1 << 30)), ordered=True)
    assert cem.replica.membership.is_member(rob.id)
    assert cem.shows() == {b"first": b"1", b"second": b"2"} and not cem.replica.quarantined
    assert cem.replica.shown_anew == before + 1, "everything is planned again"
    assert is_as_replayed(peers, cem, tmp_path / "again")


async def test_what_came_only_into_quarantine_enters_the_history_when_the_removal_loses(
    peers: Peers, tmp_path: Path
) -> None:
    anna, ben, _, rob = await removed_at_the_first(peers)
    await anna.take_from(rob)
    assert anna.replica.quarantined
    await ben.replica.propose(lambda: make_role(ben.replica, rob.id, Role.OWNER))
    anna.replica.renew = lambda change: None  # nobody makes the removal again
    await anna.replica.receive_membership(0, tuple(ben.replica.membership_page(0, 1 << 30)), ordered=True)
    assert anna.shows() == {b"first": b"1", b"second": b"2"}
    assert {row.path for row in anna.replica.versions.all(10)} == {b"first", b"second"}
    assert is_as_replayed(peers, anna, tmp_path / "again")


async def test_a_branch_is_told_from_the_pinned_past_when_that_comes_last(peers: Peers, tmp_path: Path) -> None:
    anna, _, cem, rob = await four(peers)
    await rob.write(b"1", b"1")
    twin = copied(peers, rob, tmp_path / "twin")
    await rob.write(b"2 pinned", b"2")
    await rob.write(b"3 pinned", b"3")
    branch = await twin.write(b"2 branch", b"4")
    await anna.take_from(rob)
    await anna.replica.propose(lambda: make_removal(anna.replica, peers.runtime, rob.id))
    await cem.take_from(twin)
    await cem.replica.receive_membership(0, tuple(anna.replica.membership_page(0, 1 << 30)))
    assert not cem.replica.quarantined, "as long as it may lie before the pin it stays"
    await cem.replica.receive_entries(tuple(anna.replica.entries_for((), 1 << 30)[0]))
    assert cem.replica.quarantined == {branch.id}
    assert is_as_replayed(peers, cem, tmp_path / "again")
    twin.replica.database.close()


@pytest.mark.parametrize("ordered", [False, True])
async def test_what_was_sealed_under_a_key_that_comes_later_is_read_when_it_comes(
    peers: Peers, tmp_path: Path, ordered: bool
) -> None:
    """Ben's rekey gives Cem another key than the one that it commits to; Anna's next one carries the right one."""
    anna, ben, cem, _ = await four(peers)
    honest = make_rekey(ben.replica, peers.runtime)
    wrong = pack_bundle(ben.replica.keys.with_epoch(b"w" * 32, make_current=True))
    boxes = tuple(
        Box(each.recipient, box(cem.keys.box_public, b"e" * 32, wrong)) if each.recipient == cem.id else each
        for each in honest.boxes
    )
    await ben.replica.change_membership(Rekey(honest.epoch, boxes, honest.wrapped))
    await ben.write(b"sealed", b"7")
    await cem.take_from(ben)
    assert cem.shows() == {} and len(cem.replica.unreadable) == 1
    assert is_as_replayed(peers, cem, tmp_path / "before")
    await anna.take_from(ben)
    await anna.replica.propose(lambda: make_rekey(anna.replica, peers.runtime))
    chain = tuple(anna.replica.membership_page(0, 1 << 30))
    await cem.replica.receive_membership(0, chain, ordered=ordered)
    assert cem.shows() == {b"sealed": b"7"} and not cem.replica.unreadable
    assert is_as_replayed(peers, cem, tmp_path / "after")
