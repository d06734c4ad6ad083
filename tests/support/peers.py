"""Replicas of one folder on real indexes, which take from each other what a link would bring. No disks, no links.

Invariant: keys are real; a peer signs what its user says, whether it may or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from meshsync.agent.founding import enter_folder, found_folder
from meshsync.agent.index_mark import IndexMark
from meshsync.agent.kept_keys import read_kept
from meshsync.agent.members_keys import renewed
from meshsync.agent.replica import Replica
from meshsync.content.record import Content, Kind, Put
from meshsync.crypto.envelope import box
from meshsync.crypto.folder_keys import pack_bundle
from meshsync.crypto.identity import DeviceKeys
from meshsync.ids import ROOT, ChunkId, DeviceId, NodeId
from meshsync.index.database import Database
from meshsync.index.log_rows import LogRows
from meshsync.metalog.entry import OpenedEntry
from meshsync.metalog.membership_entry import Admit, Invite, open_membership, sign_change
from meshsync.roles import Role
from meshsync.runtime import SystemRuntime

LONG_S = 1 << 40


@dataclass
class Peer:
    """A device with its replica of the folder."""

    keys: DeviceKeys
    replica: Replica

    @property
    def id(self) -> DeviceId:
        return self.keys.device

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


class Peers:
    """Devices of one folder; the first founds it."""

    def __init__(self, path: Path) -> None:
        self.runtime = SystemRuntime(threads=2)
        self.all: list[Peer] = []
        self._path = path

    async def add(self, name: str, role: Role = Role.WRITER) -> Peer:
        """Make a device a member: the first one founds the folder and invites the others, who have its whole log."""
        number = len(self.all) + 1
        keys = DeviceKeys(bytes([number]) * 64)
        home, root = self._path / name, self._path / f"{name} files"
        home.mkdir()
        root.mkdir()
        if not self.all:
            found_folder(self.runtime, home, keys, root, "docs", name)
        else:
            owner = self.all[0].replica
            ticket = DeviceKeys(bytes([0x40 + number]) * 64)
            sealed = box(ticket.box_public, bytes([number]) * 32, pack_bundle(owner.keys)) if role.may_read else b""
            await owner.change_membership(Invite(ticket.device, role, LONG_S, owner.keys.current, sealed))
            admit = Admit(ticket.device, role, keys.box_public)
            head = owner.membership
            await owner.admit(sign_change(keys, owner.folder, head.head, head.seq + 1, admit, ticket=ticket).data)
            enter_folder(home, keys, owner.keys, owner.membership_chain, root, "docs")
        state = next((home / "folders").iterdir())
        database = Database(state / "index.sqlite3")
        chain = [open_membership(data) for data in LogRows(database).membership()]
        held = read_kept(state / "keys", keys, chain[0].folder)
        replica = Replica(self.runtime, database, keys, chain, held, state / "keys")
        replica.renew = lambda change: renewed(replica, self.runtime, change)
        replica.load(IndexMark(b"", b""))
        peer = Peer(keys, replica)
        for other in self.all:
            await other.take_from(self.all[0])
        if self.all:
            await peer.take_from(self.all[0])
        self.all.append(peer)
        return peer

    def close(self) -> None:
        """Close every index."""
        for peer in self.all:
            peer.replica.database.close()
        self.runtime.close()


@contextmanager
def open_peers(path: Path) -> Iterator[Peers]:
    """Peers that are closed at the end."""
    peers = Peers(path)
    try:
        yield peers
    finally:
        peers.close()
