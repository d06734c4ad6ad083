"""Promises B9 and B10: a removed device is served nothing and changes nothing; keys that differ are noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshsync.agent import members_health
from meshsync.agent.conversation import Conversation
from meshsync.agent.members_keys import make_rekey, make_removal
from meshsync.agent.members_notes import MemberNotes
from meshsync.codec.canonical import encode
from meshsync.content.seal import BlobKind
from meshsync.crypto.envelope import box
from meshsync.crypto.folder_keys import pack_bundle
from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import CommitmentMismatch, LinkClosed, TicketInvalid
from meshsync.ids import ChunkId, short
from meshsync.metalog.entry import OpenedEntry
from meshsync.metalog.membership_entry import Admit, Box, ChangeRole, Rekey, Remove, open_membership, sign_change
from meshsync.roles import Role
from meshsync.transport.base import Link, Priority
from meshsync.wire.peer_messages import (
    ChunkAbsent,
    ChunkFrame,
    FollowLog,
    FollowRefused,
    GetEntries,
    GetMembership,
    Heads,
    MembershipPage,
    Message,
    OpenChunks,
    Want,
    WantItem,
)
from tests.support.member_scene import Member, Scene, open_scene


async def remove(scene: Scene, member: Member) -> None:
    replica = scene.folder.replica
    await replica.propose(lambda: make_removal(replica, scene.runtime, member.device.device))
    for link in scene.links:
        link.refresh()


async def open_stream(scene: Scene, link: Link, first: Message) -> Conversation:
    conversation = Conversation(await link.open_stream(Priority.INTERACTIVE))
    await conversation.send(first)
    return conversation


async def publish(scene: Scene, name: str, data: bytes) -> ChunkId:
    (scene.root / name).write_bytes(data)
    assert scene.folder.loop is not None
    scene.folder.loop.look_at(None)
    await scene.until(lambda: any(row.name == name.encode() for row in scene.folder.rows()))
    return next(row for row in scene.folder.rows() if row.name == name.encode()).content.root


class TestWhatARemovedDeviceGets:
    async def test_on_a_log_stream_that_is_open_it_gets_the_entry_that_removed_it_and_nothing_else(
        self, tmp_path: Path
    ) -> None:
        async with open_scene(tmp_path) as scene:
            rob = await scene.member(b"r")
            link = await scene.connect(rob)
            stream = await open_stream(scene, link, FollowLog(scene.folder.id))
            assert isinstance(await stream.receive(), Heads)
            await remove(scene, rob)
            await publish(scene, "secret", b"1")
            last = await stream.receive()
            while isinstance(last, Heads) and last.membership_head != scene.folder.replica.membership.head:
                last = await stream.receive()
            assert isinstance(last, Heads) and last.chains == last.applied == ()
            await scene.folder.replica.change_membership(ChangeRole(scene.own.device, Role.OWNER))
            await stream.send(GetMembership(0))
            page = await stream.receive()
            assert isinstance(page, MembershipPage)
            told = open_membership(page.entries[-1])
            assert isinstance(told.change, Remove) and told.change.device == rob.device.device
            assert told.author == scene.own.device
            assert len(page.entries) == scene.folder.replica.membership_count() - 1, "nothing that came after it"
            await stream.send(GetEntries((), 1 << 20))
            assert isinstance(await stream.receive(), FollowRefused)

    async def test_a_chunk_stream_that_is_open_ends_and_no_other_is_served(self, tmp_path: Path) -> None:
        async with open_scene(tmp_path) as scene:
            rob = await scene.member(b"r")
            link = await scene.connect(rob)
            root = await publish(scene, "plan", b"precious")
            want = Want((WantItem(root, int(BlobKind.CHUNK), 100),))
            stream = await open_stream(scene, link, OpenChunks(scene.folder.id))
            await stream.send(want)
            assert isinstance(await stream.receive(), ChunkFrame)
            await remove(scene, rob)
            with pytest.raises(LinkClosed):
                await stream.send(want)
                assert not isinstance(await stream.receive(), ChunkFrame | ChunkAbsent)
                raise LinkClosed("the stream has ended in order")
            again = await open_stream(scene, link, OpenChunks(scene.folder.id))
            assert isinstance(await again.receive(), FollowRefused)

    async def test_its_ticket_lets_nobody_in_again(self, tmp_path: Path) -> None:
        async with open_scene(tmp_path) as scene:
            rob = await scene.member(b"r")
            await remove(scene, rob)
            before = scene.folder.replica.membership
            ticket = DeviceKeys(b"R" * 64)
            for who in (rob.device, DeviceKeys(b"x" * 64)):
                admit = Admit(ticket.device, Role.WRITER, who.box_public)
                entry = sign_change(who, scene.folder.id, before.head, before.seq + 1, admit, ticket=ticket)
                with pytest.raises(TicketInvalid) as refused:
                    await scene.folder.replica.admit(entry.data)
                assert refused.value.folder == short(scene.folder.id)
            assert scene.folder.replica.membership == before


class TestWhatARemovedDeviceWrites:
    @pytest.mark.parametrize("forgery", ["extends its chain", "backdates a branch", "opens a new chain"])
    async def test_it_is_kept_apart_and_listed_whoever_brings_it(self, tmp_path: Path, forgery: str) -> None:
        async with open_scene(tmp_path) as scene:
            rob, carol = await scene.member(b"r"), await scene.member(b"c")
            await scene.connect(rob)
            rob.write(rob.put(b"one", rob.hold([b"1"])))
            rob.write(rob.put(b"two", rob.hold([b"2"])))
            await scene.until(lambda: scene.files().keys() == {b"one", b"two"})
            await remove(scene, rob)
            honest = list(rob.entries)
            late = self.forge(rob, forgery)
            # Carol had it before she heard of the removal, and built on it.
            carol.entries = [*honest, late]
            carol.pages = lambda page: [encode(late.signed)]
            await scene.connect(carol)
            await scene.until(lambda: late.id in scene.folder.replica.quarantined)
            assert scene.files() == {b"one": b"1", b"two": b"2"}
            assert scene.folder.replica.quarantined == {late.id}
            (told,) = members_health.items(scene.folder, MemberNotes(scene.folder.database))
            assert told.what == f"Docs: 1 changes of {short(rob.device.device)} came after its end and are kept apart"
            assert told.next == "meshsync held"

    def forge(self, rob: Member, forgery: str) -> OpenedEntry:
        after = {"extends its chain": rob.entries[-1], "backdates a branch": rob.entries[0], "opens a new chain": None}
        kept = list(rob.entries)
        place = after[forgery]
        rob.entries = [] if place is None else kept[: kept.index(place) + 1]
        late = rob.write(rob.put(b"late", rob.hold([b"3"])))
        rob.entries = kept
        return late


class TestOtherKeys:
    async def test_b10_another_key_than_the_committed_one_is_noticed_named_and_never_used(self, tmp_path: Path) -> None:
        """An owner gives this device another key than the others, in an entry that all of them accept."""
        async with open_scene(tmp_path) as scene:
            mallory = await scene.member(b"m")
            replica = scene.folder.replica
            await replica.change_membership(ChangeRole(mallory.device.device, Role.OWNER))
            honest = make_rekey(replica, scene.runtime)
            other = replica.keys.with_epoch(b"for this device only...........!", make_current=True)
            mine = Box(scene.own.device, box(scene.own.box_public, b"e" * 32, pack_bundle(other)))
            boxes = tuple(mine if each.recipient == scene.own.device else each for each in honest.boxes)
            rekey = Rekey(honest.epoch, boxes, honest.wrapped)
            entry = sign_change(
                mallory.device, scene.folder.id, replica.membership.head, replica.membership.seq + 1, rekey
            )
            before = replica.keys
            await replica.receive_membership(replica.membership_count(), (entry.data,))
            assert replica.keys == before
            (told,) = members_health.items(scene.folder, MemberNotes(scene.folder.database))
            assert told.code == "CommitmentMismatch" and short(mallory.device.device) in told.why
            problem = replica.key_problem
            assert isinstance(problem, CommitmentMismatch)
            assert (problem.device, problem.folder) == (short(mallory.device.device), short(scene.folder.id))
            (scene.root / "secret").write_bytes(b"1")
            assert scene.folder.loop is not None
            scene.folder.loop.look_at(None)
            await scene.until(lambda: scene.folder.loop is not None and bool(scene.folder.loop.problem))
            assert not replica.chains.heads(), "nothing is written under a key that others do not hold"
