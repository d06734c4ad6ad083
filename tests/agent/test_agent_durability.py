"""What is owed to a relay, what of it this device brings, and what is kept nowhere (P9, P10)."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from meshsync.agent.durability import UploadPlace
from meshsync.content.record import Content, Kind, Put
from meshsync.crypto.envelope import box
from meshsync.crypto.folder_keys import commitment, pack_bundle, wrap_epoch
from meshsync.ids import ROOT, ChunkId, DeviceId, NodeId, dot
from meshsync.limits import ENTRY_OPS_MAX
from meshsync.metalog.entry import OpenedEntry
from meshsync.metalog.membership_entry import Box, Rekey, Remove, SetRelay, WrappedKey
from meshsync.sync.durability import is_owed, relays_needed
from tests.support.member_scene import Member, Scene, open_scene

RELAYS = [DeviceId(b"r" * 32), DeviceId(b"q" * 32)]
UNKNOWN = Content(Kind.FILE, 1, ChunkId(b"?" * 32))


@given(st.integers(0, 16))
def test_some_relay_is_enough_but_one_there_must_be(relays: int) -> None:
    assert relays_needed(relays) == (1 if relays else 0)


@given(st.booleans(), st.booleans())
def test_what_is_in_quarantine_is_owed_by_nobody(author_remains: bool, shown: bool) -> None:
    assert not is_owed(author_remains=author_remains, counts=False, shown=shown)


@given(st.booleans(), st.booleans())
def test_it_is_owed_as_long_as_its_author_can_close_it_or_the_folder_shows_it(remains: bool, shown: bool) -> None:
    assert is_owed(author_remains=remains, counts=True, shown=shown) == (remains or shown)


async def relayed(scene: Scene) -> None:
    """Let the folder be stored at two relays, which are not there."""
    for relay in RELAYS:
        await scene.folder.replica.change_membership(SetRelay(relay, ("quic://192.0.2.1:1",)))


def edits(member: Member, name: bytes, count: int) -> OpenedEntry:
    """Write a file and edit it, `count` versions in all, of which nothing is held but the last entry's name."""
    seq, node = len(member.entries) + 1, None
    ops = []
    for index in range(count):
        before = () if node is None else (dot(member.chain, seq, index - 1),)
        ops.append(Put(node, UNKNOWN, False, 0, before, ROOT, name, (name,)))
        node = NodeId(dot(member.chain, seq, 0))
    return member.write(*ops)


async def remove(scene: Scene, member: Member, last: OpenedEntry) -> None:
    """Remove a member whose last entry that counts is `last`."""
    replica = scene.folder.replica
    fresh = replica.keys.with_epoch(b"n" * 32, make_current=True)
    boxes = [
        Box(device, box(other.box_public, device, pack_bundle(fresh)))
        for device, other in sorted(replica.membership.members.items())
        if device != member.device.device
    ]
    wrapped = WrappedKey(
        replica.keys.current, wrap_epoch(b"n" * 32, replica.keys.epochs[replica.keys.current], replica.folder)
    )
    rekey = Rekey(commitment(b"n" * 32), tuple(boxes), (wrapped,))
    await replica.change_membership(Remove(member.device.device, (last.head,), rekey))


async def test_what_nobody_can_bring_now_hides_nothing_that_lies_here(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        member = await scene.member(b"m")
        await relayed(scene)
        link = await scene.connect(member)
        for entry in range(5):
            edits(member, b"lost %d" % entry, ENTRY_OPS_MAX)
        await scene.gets(member, b"present", b"it lies here")
        link.close("away")
        await scene.until(lambda: not scene.folder.peers)
        for relay in RELAYS:
            found, _ = await scene.folder.durability.to_upload(relay, UploadPlace(), 1000)
            assert [row.path for row in found] == [b"present"]


async def test_versions_of_a_removed_device_count_only_while_they_are_shown(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        member = await scene.member(b"m")
        await relayed(scene)
        link = await scene.connect(member)
        edits(member, b"edited", 3)
        await scene.gets(member, b"counted", b"by its pin")
        last = member.entries[-1]
        await scene.gets(member, b"quarantined", b"beyond its pin")
        link.close("away")
        await scene.until(lambda: not scene.folder.peers)
        assert scene.folder.durability.owing().not_durable == 5, "its author may come back"
        await remove(scene, member, last)
        owing = scene.folder.durability.owing()
        # Of the edits the last one is shown: whoever has it brings it. The file lies here.
        assert (owing.not_durable, owing.not_kept) == (2, 3)


async def test_a_version_is_durable_at_one_relay_and_owed_to_the_other(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        (scene.root / "file").write_bytes(b"content")
        await scene.until(lambda: bool(scene.folder.rows()))
        await relayed(scene)
        (version,) = scene.folder.replica.versions.all(9)
        durability = scene.folder.durability
        assert not durability.is_durable(version.dot) and durability.owing().not_durable == 1
        scene.folder.replica.versions.mark_stored(RELAYS[0], [version.dot])
        assert durability.is_durable(version.dot) and durability.owing().not_durable == 0
        assert durability.holders([version.dot]) == {version.dot: [RELAYS[0]]}
        for relay, owed in zip(RELAYS, ([], [version]), strict=True):
            assert (await durability.to_upload(relay, UploadPlace(), 9))[0] == owed
        await scene.folder.replica.change_membership(SetRelay(RELAYS[0], ()))
        assert not durability.is_durable(version.dot), "a relay that the folder left does not count"
        assert durability.owing().not_durable == 1
