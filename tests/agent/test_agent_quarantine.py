"""H5 of semantics.md 6: what a removed device wrote beyond its pin blocks nobody, and takes nothing away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from meshsync.agent.founding import enter_folder, found_folder
from meshsync.agent.index_mark import IndexMark
from meshsync.agent.kept_keys import read_kept
from meshsync.agent.replica import Replica
from meshsync.content.record import Content, Kind, Put
from meshsync.crypto.envelope import box
from meshsync.crypto.folder_keys import commitment, pack_bundle, wrap_epoch
from meshsync.crypto.identity import DeviceKeys
from meshsync.ids import ROOT, ChunkId, Dot, NodeId
from meshsync.index.database import Database
from meshsync.index.log_rows import LogRows
from meshsync.metalog.entry import OpenedEntry
from meshsync.metalog.fields import ChainHead
from meshsync.metalog.membership_entry import (
    Admit,
    Box,
    Invite,
    Rekey,
    Remove,
    WrappedKey,
    open_membership,
    sign_change,
)
from meshsync.roles import Role
from meshsync.runtime import SystemRuntime
from meshsync.sync.disk_rows import SyncedRow
from meshsync.sync.settle import is_removed

LONG_S = 1 << 40


@dataclass
class Peer:
    """A device with its replica of the folder."""

    keys: DeviceKeys
    replica: Replica

    async def write(self, name: bytes, fill: bytes, over: OpenedEntry | None = None) -> OpenedEntry:
        """Publish a file called `name`; with `over`, a new version of the file that this entry made or edited."""
        replaces = () if over is None else (over.dot(0),)
        node = None if over is None else NodeId(over.dot(0))
        content = Content(Kind.FILE, 1, ChunkId(fill * 32))
        entry = await self.replica.append(
            lambda chain, seq: [Put(node, content, False, 0, replaces, ROOT, name, (name,))], lambda entry: None
        )
        assert entry is not None
        return entry

    async def take_from(self, other: Peer) -> None:
        """Take everything that `other` has, as a link would bring it."""
        await self.replica.receive_membership(0, tuple(other.replica.membership_page(0, 1 << 30)))
        entries, more = other.replica.entries_for(self.replica.heads().chains, 1 << 30)
        assert not more
        await self.replica.receive_entries(tuple(entries))

    def shows(self) -> dict[bytes, bytes]:
        """Return name → first byte of the content's root."""
        return {path[0]: shown.content.root[:1] for path, shown in self.replica.view.walk()}


def open_replica(runtime: SystemRuntime, home: Path, device: DeviceKeys) -> Replica:
    state = next((home / "folders").iterdir())
    database = Database(state / "index.sqlite3")
    membership = [open_membership(data) for data in LogRows(database).membership()]
    path = state / "keys"
    replica = Replica(runtime, database, device, membership, read_kept(path, device, membership[0].folder), path)
    replica.load(IndexMark(b"", b""))
    return replica


@pytest.fixture
async def peers(tmp_path: Path) -> AsyncIterator[tuple[Peer, Peer, Peer]]:
    """Anna owns the folder; Ben and Rob write to it."""
    runtime = SystemRuntime()
    made: list[Peer] = []
    for number, name in enumerate(("anna", "ben", "rob"), 1):
        keys = DeviceKeys(bytes([number]) * 64)
        home, root = tmp_path / name, tmp_path / f"{name} files"
        home.mkdir()
        root.mkdir()
        if not made:
            found_folder(runtime, home, keys, root, "docs", name)
        else:
            owner = made[0].replica
            ticket = DeviceKeys(bytes([0x40 + number]) * 64)
            sealed = box(ticket.box_public, bytes([number]) * 32, pack_bundle(owner.keys))
            await owner.change_membership(Invite(ticket.device, Role.WRITER, LONG_S, owner.keys.current, sealed))
            admit = Admit(ticket.device, Role.WRITER, keys.box_public)
            entry = sign_change(
                keys, owner.folder, owner.membership.head, owner.membership.seq + 1, admit, ticket=ticket
            )
            await owner.admit(entry.data)
            enter_folder(home, keys, owner.keys, owner.membership_chain, root, "docs")
        made.append(Peer(keys, open_replica(runtime, home, keys)))
    anna, ben, rob = made
    await ben.take_from(anna)
    yield anna, ben, rob
    for peer in made:
        peer.replica.database.close()
    runtime.close()


async def remove(owner: Peer, gone: Peer, pin: ChainHead) -> None:
    """Remove a member and change the key, in one entry."""
    replica = owner.replica
    new_key = b"n" * 32
    fresh = replica.keys.with_epoch(new_key, make_current=True)
    boxes = sorted(
        Box(device, box(member.box_public, device, pack_bundle(fresh)))
        for device, member in replica.membership.members.items()
        if device != gone.keys.device
    )
    wrapped = WrappedKey(
        replica.keys.current, wrap_epoch(new_key, replica.keys.epochs[replica.keys.current], replica.folder)
    )
    rekey = Rekey(commitment(new_key), tuple(boxes), (wrapped,))
    await replica.change_membership(Remove(gone.keys.device, (pin,), rekey))


async def late_scene(peers: tuple[Peer, Peer, Peer]) -> tuple[Peer, Peer, OpenedEntry, OpenedEntry]:
    """Rob's second and third entry reached Ben only; Ben edits one of the files; Anna removes Rob at his first."""
    anna, ben, rob = peers
    first = await rob.write(b"known", b"1")
    await anna.take_from(rob)
    edited = await rob.write(b"edited", b"2")
    alone = await rob.write(b"alone", b"3")
    await ben.take_from(rob)
    await ben.write(b"edited", b"4", over=edited)
    await remove(anna, rob, first.head)
    return anna, ben, edited, alone


async def test_nobody_waits_for_entries_beyond_a_pin(peers: tuple[Peer, Peer, Peer]) -> None:
    anna, ben, edited, alone = await late_scene(peers)
    await anna.take_from(ben)
    await ben.take_from(anna)
    assert anna.shows() == ben.shows() == {b"known": b"1", b"edited": b"4"}
    assert anna.replica.quarantined == ben.replica.quarantined == {edited.id, alone.id}
    later = await ben.write(b"after", b"5")
    await anna.take_from(ben)
    assert later.id in anna.replica.chains and anna.shows()[b"after"] == b"5"


async def test_a_file_of_a_quarantined_entry_is_not_removed_from_a_disk(peers: tuple[Peer, Peer, Peer]) -> None:
    anna, ben, _, alone = await late_scene(peers)
    node, version = NodeId(alone.dot(0)), Dot(alone.dot(0))
    face = ben.replica.view.face(node)
    assert face is not None
    row = SyncedRow(node, (version,), version, ROOT, b"alone", b"alone", None, 0, face.content, False, 0, None)
    await ben.take_from(anna)
    assert ben.replica.view.face(node) is None
    assert not is_removed(row, ben.replica.view), "there is no witness that anybody removed it"
    assert ben.replica.shown_anew == 1


async def test_a_restart_shows_the_same(peers: tuple[Peer, Peer, Peer]) -> None:
    anna, ben, edited, alone = await late_scene(peers)
    await anna.take_from(ben)
    replica = anna.replica
    again = Replica(
        SystemRuntime(), replica.database, anna.keys, replica.membership_chain, replica.keys, Path("unused")
    )
    again.load(IndexMark(b"", b""))
    assert again.quarantined == {edited.id, alone.id}
    assert Peer(anna.keys, again).shows() == anna.shows()
