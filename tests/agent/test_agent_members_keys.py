"""Changes of the membership that carry keys: made at once by two owners, made to deceive, and what they protect.

Promises B9, B10; semantics.md 5.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from meshsync.agent.members_keys import make_due_rekey, make_rekey, make_removal, make_role, pins_of
from meshsync.content.batch import decode_batch
from meshsync.content.seal import BlobKind, unseal_chunk
from meshsync.crypto.envelope import box
from meshsync.crypto.folder_keys import pack_bundle
from meshsync.errors import AccessError, CommitmentMismatch, RoleForbids
from meshsync.ids import short
from meshsync.limits import ENTRY_BATCH_BYTES_MAX
from meshsync.metalog.membership_entry import Box, ChangeRole, Rekey, Remove, sign_change
from meshsync.roles import Role
from tests.support.peers import Peer, Peers, open_peers


@pytest.fixture
def peers(tmp_path: Path) -> Iterator[Peers]:
    with open_peers(tmp_path) as made:
        yield made


async def owners(peers: Peers) -> tuple[Peer, Peer, Peer]:
    """Anna and Ben own the folder, Rob writes to it."""
    anna, ben, rob = await peers.add("anna"), await peers.add("ben"), await peers.add("rob")
    await anna.replica.change_membership(ChangeRole(ben.id, Role.OWNER))
    for peer in (ben, rob):
        await peer.take_from(anna)
    return anna, ben, rob


def agree(one: Peer, other: Peer) -> bool:
    a, b = one.replica.membership, other.replica.membership
    return (a.head, a.epoch, a.members) == (b.head, b.epoch, b.members)


async def meet(*peers: Peer) -> None:
    for _ in range(3):
        for one in peers:
            for other in peers:
                await one.take_from(other)


class TestTwoOwnersAtOnce:
    async def test_both_changes_are_made_and_both_owners_are_told(self, peers: Peers) -> None:
        anna, ben, rob = await owners(peers)
        cem = await peers.add("cem")
        await ben.take_from(anna)
        removed = await anna.replica.propose(lambda: make_removal(anna.replica, peers.runtime, rob.id))
        lowered = await ben.replica.propose(lambda: make_role(ben.replica, cem.id, Role.READER))
        assert removed and lowered
        # Each asked the other before either had an answer: whoever wins saw what lost, too.
        pages = [tuple(peer.replica.membership_page(0, 1 << 30)) for peer in (ben, anna)]
        for peer, page in zip((anna, ben), pages, strict=True):
            await peer.replica.receive_membership(0, page)
        await meet(anna, ben)
        assert agree(anna, ben)
        assert anna.replica.membership.role(cem.id) is Role.READER
        assert not anna.replica.membership.is_member(rob.id)
        told = {
            name: [(one.entry.author, one.winner, one.why_not) for one in peer.replica.overtaken]
            for name, peer in (("anna", anna), ("ben", ben))
        }
        loser, winner = (ben, anna) if removed.id in anna.replica._membership_at else (anna, ben)
        assert told == {"anna": [(loser.id, winner.id, "")], "ben": [(loser.id, winner.id, "")]}

    async def test_what_was_written_under_the_key_that_lost_stays_readable_and_nobody_seals_under_it_again(
        self, peers: Peers
    ) -> None:
        anna, ben, _ = await owners(peers)
        for peer in (anna, ben):
            await peer.replica.propose(lambda peer=peer: make_rekey(peer.replica, peers.runtime))
        lost = {peer.replica.keys.current for peer in (anna, ben)}
        entries = [await peer.write(name, name[:1]) for peer, name in ((anna, b"1 anna"), (ben, b"2 ben"))]
        await meet(anna, ben)
        assert agree(anna, ben)
        assert anna.shows() == ben.shows() == {b"1 anna": b"1", b"2 ben": b"2"}
        now = anna.replica.membership.epoch
        assert now not in lost and lost <= anna.replica.membership.epochs
        assert anna.replica.keys.current == ben.replica.keys.current == now
        assert {entry.envelope.epoch for entry in entries} == lost
        later = await ben.write(b"later", b"3")
        assert later.envelope.epoch == now

    async def test_a_rekey_that_lost_against_an_invitation_is_no_key_to_seal_under(self, peers: Peers) -> None:
        """A relay ordered the other change first."""
        anna, ben, rob = await owners(peers)
        await anna.replica.propose(lambda: make_rekey(anna.replica, peers.runtime))
        lost = anna.replica.keys.current
        await ben.replica.propose(lambda: make_role(ben.replica, rob.id, Role.READER))
        chain = tuple(ben.replica.membership_page(0, 1 << 30))
        await anna.replica.receive_membership(0, chain, ordered=True)
        await ben.take_from(anna)
        assert anna.replica.keys.current == anna.replica.membership.epoch == ben.replica.keys.current != lost
        assert lost in anna.replica.membership.epochs, "the rekey made again wraps it"

    async def test_two_removals_of_one_device_are_one(self, peers: Peers) -> None:
        anna, ben, rob = await owners(peers)
        for peer in (anna, ben):
            await peer.replica.propose(lambda peer=peer: make_removal(peer.replica, peers.runtime, rob.id))
        await meet(anna, ben)
        removals = [one for one in anna.replica.membership_chain if isinstance(one.change, Remove)]
        assert len(removals) == 1 and agree(anna, ben)

    async def test_an_owner_who_was_removed_meanwhile_changes_nothing(self, peers: Peers) -> None:
        anna, ben, rob = await owners(peers)
        await anna.replica.propose(lambda: make_removal(anna.replica, peers.runtime, ben.id))
        await ben.replica.propose(lambda: make_role(ben.replica, rob.id, Role.OWNER))
        await meet(anna, ben)
        assert anna.replica.membership.role(rob.id) is Role.WRITER
        assert not anna.replica.membership.is_member(ben.id)


class TestDifferentKeys:
    """B10: an owner boxes another key to one member than the one that the entry commits to."""

    async def deceived(self, peers: Peers) -> tuple[Peer, Peer, Peer]:
        anna, ben, rob = await owners(peers)
        honest = make_rekey(ben.replica, peers.runtime)
        other = ben.replica.keys.with_epoch(b"another key for rob only........"[:32], make_current=True)
        forged = tuple(
            Box(rob.id, box(rob.keys.box_public, b"e" * 32, pack_bundle(other))) if each.recipient == rob.id else each
            for each in honest.boxes
        )
        await ben.replica.change_membership(Rekey(honest.epoch, forged, honest.wrapped))
        return anna, ben, rob

    async def test_it_is_noticed_named_and_changes_no_key(self, peers: Peers) -> None:
        anna, ben, rob = await self.deceived(peers)
        before = rob.replica.keys
        await rob.take_from(ben)
        await anna.take_from(ben)
        error = rob.replica.key_problem
        assert isinstance(error, CommitmentMismatch)
        assert (error.device, error.folder) == (short(ben.id), short(ben.replica.folder))
        assert rob.replica.keys == before
        assert anna.replica.key_problem is None and anna.replica.keys.current == anna.replica.membership.epoch
        with pytest.raises(CommitmentMismatch):
            await rob.write(b"secret", b"1")

    async def test_another_owners_rekey_heals_it_and_what_could_not_be_read_is_shown(self, peers: Peers) -> None:
        anna, ben, rob = await self.deceived(peers)
        await ben.write(b"unread", b"7")
        await rob.take_from(ben)
        assert rob.shows() == {} and len(rob.replica.unreadable) == 1
        await anna.take_from(ben)
        await anna.replica.propose(lambda: make_rekey(anna.replica, peers.runtime))
        await rob.take_from(anna)
        assert rob.shows() == {b"unread": b"7"} and not rob.replica.unreadable and rob.replica.key_problem is None
        assert [row.path for row in rob.replica.versions.all(10)] == [b"unread"]
        await rob.write(b"mine", b"8")


class TestRemovedDevices:
    async def test_a_removed_device_opens_nothing_that_was_written_later(self, peers: Peers) -> None:
        """With every byte of the log, its own keys, and whatever it can derive from both."""
        anna, ben, rob = await owners(peers)
        before = await ben.write(b"before", b"1")
        for peer in (anna, rob):
            await peer.take_from(ben)
        await anna.replica.propose(lambda: make_removal(anna.replica, peers.runtime, rob.id))
        await ben.take_from(anna)
        after = [await anna.write(b"after", b"2"), await ben.write(b"after too", b"3")]
        await rob.take_from(anna)
        await rob.take_from(ben)
        assert rob.replica.key_problem is None and not rob.replica.membership.is_member(rob.id)
        for entry in after:
            with pytest.raises(AccessError):
                unseal_chunk(
                    rob.replica.keys, entry.envelope.epoch, BlobKind.BATCH, entry.signed.payload, ENTRY_BATCH_BYTES_MAX
                )
        old = unseal_chunk(
            rob.replica.keys, before.envelope.epoch, BlobKind.BATCH, before.signed.payload, ENTRY_BATCH_BYTES_MAX
        )
        assert decode_batch(old, before.chain, 1).ops

    async def test_who_left_holds_the_key_until_an_owner_gives_another(self, peers: Peers) -> None:
        anna, _, rob = await owners(peers)
        await rob.replica.change_membership(Remove(rob.id, pins_of(rob.replica, rob.id), None))
        await anna.take_from(rob)
        rekey = await anna.replica.propose(lambda: make_due_rekey(anna.replica, peers.runtime))
        assert rekey is not None
        assert await anna.replica.propose(lambda: make_due_rekey(anna.replica, peers.runtime)) is None
        assert anna.replica.keys.current not in rob.replica.keys.epochs

    async def test_a_device_that_writes_again_after_it_lost_the_right_opens_a_new_chain(self, peers: Peers) -> None:
        anna, _, rob = await owners(peers)
        first = await rob.write(b"first", b"1")
        await anna.take_from(rob)
        await anna.replica.propose(lambda: make_role(anna.replica, rob.id, Role.READER))
        await rob.take_from(anna)
        with pytest.raises(RoleForbids):
            await rob.write(b"refused", b"2")
        await anna.replica.propose(lambda: make_role(anna.replica, rob.id, Role.WRITER))
        await rob.take_from(anna)
        again = await rob.write(b"again", b"3")
        await anna.take_from(rob)
        assert again.chain != first.chain
        assert anna.shows() == rob.shows() == {b"first": b"1", b"again": b"3"} and not anna.replica.quarantined

    async def test_only_an_owner_signs_membership(self, peers: Peers) -> None:
        anna, ben, rob = await owners(peers)
        membership = anna.replica.membership
        forged = sign_change(
            rob.keys, anna.replica.folder, membership.head, membership.seq + 1, ChangeRole(rob.id, Role.OWNER)
        )
        with pytest.raises(RoleForbids) as refused:
            await anna.replica.receive_membership(membership.seq + 1, (forged.data,))
        assert (refused.value.device, refused.value.folder) == (short(rob.id), short(anna.replica.folder))
        with pytest.raises(RoleForbids):
            await rob.replica.propose(lambda: make_removal(rob.replica, peers.runtime, ben.id))
        assert anna.replica.membership == membership == rob.replica.membership
