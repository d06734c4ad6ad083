"""One real folder on a real directory, and members at the other end of real links whom the test plays.

Invariant: a played member holds the folder's keys and a role in its chain, and does nothing that a real one could not.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from meshsync.agent.conversation import Conversation
from meshsync.agent.counters import Counters
from meshsync.agent.faults import Faults
from meshsync.agent.folder import Folder
from meshsync.agent.founding import found_folder
from meshsync.agent.machine import SYSTEM, Machine
from meshsync.agent.member_link import MemberLink
from meshsync.codec.canonical import encode
from meshsync.content.batch import UNNAMED_CHAIN, encode_batch
from meshsync.content.chunk_ids import chunk_id
from meshsync.content.manifest_builder import ManifestBuilder
from meshsync.content.record import Content, Op, Put
from meshsync.content.seal import BlobKind, seal_chunk
from meshsync.crypto.envelope import box
from meshsync.crypto.folder_keys import FolderKeys, pack_bundle
from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import LinkClosed
from meshsync.ids import ROOT, ChainId, ChunkId, DeviceId
from meshsync.limits import COUNTER_MAX
from meshsync.metalog.entry import OpenedEntry, make_entry, make_envelope
from meshsync.metalog.membership_entry import Admit, Invite, sign_change
from meshsync.roles import Role
from meshsync.runtime import SystemRuntime
from meshsync.transport.base import Link, Policy
from meshsync.transport.memory import MemoryEndpoint, MemoryNetwork
from meshsync.wire.peer_messages import (
    ChunkAbsent,
    ChunkFrame,
    EntriesPage,
    FollowLog,
    GetEntries,
    GetMembership,
    Heads,
    MembershipPage,
    Message,
    OpenChunks,
    PairRequest,
    Want,
    WantItem,
)

WAIT_S = 10.0
DISCOVERY = b"d" * 32

Answer = Callable[["Member", int, WantItem], Message | None]


def honest(member: Member, index: int, item: WantItem) -> Message:
    """Answer a want as a real member does."""
    data = member.plain.get(ChunkId(item.chunk))
    if data is None:
        return ChunkAbsent(index)
    kind = BlobKind(item.kind)
    return ChunkFrame(index, 0, member.keys.current, seal_chunk(member.keys, member.keys.current, kind, data))


@dataclass(eq=False)
class Member:
    """A played member: its chain, what it holds, and how it answers. `asked` are the chunks that it was asked for."""

    device: DeviceKeys
    keys: FolderKeys
    membership: tuple[int, bytes]
    answer: Answer = honest
    plain: dict[ChunkId, bytes] = field(default_factory=dict)
    entries: list[OpenedEntry] = field(default_factory=list)
    pages: Callable[[list[bytes]], list[bytes]] = lambda page: page
    members: tuple[bytes, ...] = ()
    members_served: int = 0
    asked: list[ChunkId] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    link: Link | None = None

    @property
    def chain(self) -> ChainId:
        """The id by which operations name this member's own chain."""
        return self.entries[0].chain if self.entries else UNNAMED_CHAIN

    def write(self, *ops: Op, op_count: int | None = None) -> OpenedEntry:
        """Sign, seal and announce an entry with these operations."""
        return self.write_batch(encode_batch(ops, self.chain), op_count or len(ops))

    def write_batch(self, batch: bytes, op_count: int = 1, kind: BlobKind = BlobKind.BATCH) -> OpenedEntry:
        """Sign, seal and announce an entry with any bytes as its operations."""
        payload = seal_chunk(self.keys, self.keys.current, kind, batch)
        envelope = make_envelope(
            self.device,
            self.keys.folder,
            after=self.entries[-1].head if self.entries else None,
            membership=self.membership[1],  # type: ignore[arg-type]
            epoch=self.keys.current,
            payload=payload,
            op_count=op_count,
        )
        entry = make_entry(self.device, envelope, payload)
        self.entries.append(entry)
        self.announce()
        return entry

    def announce(self) -> None:
        """Tell followers the present heads."""
        event, self.changed = self.changed, asyncio.Event()
        event.set()

    def hold(self, chunks: Sequence[bytes], sizes: Sequence[int] = ()) -> Content:
        """Hold a file of `chunks`; return its content, whose manifest states `sizes` where they are given."""
        builder = ManifestBuilder(self.keys)
        for data, size in zip(chunks, sizes or map(len, chunks), strict=True):
            name = chunk_id(self.keys, BlobKind.CHUNK, data)
            self.plain[name] = data
            builder.add(name, size)
        built = builder.finish()
        self.plain.update(built.lists)
        return built.content

    def put(self, name: bytes, content: Content) -> Put:
        """Return the operation that makes a new file in the root."""
        return Put(None, content, False, 0, (), ROOT, name, (name,))

    def heads(self) -> Heads:
        """Return what this member says that it holds."""
        own = (self.entries[-1].head,) if self.entries else ()
        return Heads(*self.membership, own, own)

    # --- at the other end of a link ----------------------------------------------------------------------------

    async def serve(self, link: Link) -> None:
        """Answer streams until the link ends."""
        self.link = link
        tasks: list[asyncio.Task[None]] = []
        loop = asyncio.get_running_loop()
        try:
            while True:
                stream = await link.accept_stream()
                tasks.append(loop.create_task(self._serve_stream(Conversation(stream))))
        except LinkClosed:
            pass
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve_stream(self, conversation: Conversation) -> None:
        first = await conversation.receive()
        if isinstance(first, FollowLog):
            pusher = asyncio.get_running_loop().create_task(self._push(conversation))
            try:
                await self._serve_log(conversation)
            finally:
                pusher.cancel()
                await asyncio.gather(pusher, return_exceptions=True)
        elif isinstance(first, OpenChunks):
            want = await conversation.receive()
            assert isinstance(want, Want)
            for index, item in enumerate(want.items):
                self.asked.append(ChunkId(item.chunk))
                message = self.answer(self, index, item)
                if message is None:  # silence: the stream stays open and nothing comes
                    await conversation.receive()
                    await asyncio.Event().wait()
                    return
                await conversation.send(message)
            await conversation.finish()

    async def _push(self, conversation: Conversation) -> None:
        while True:
            changed = self.changed
            await conversation.send(self.heads())
            await changed.wait()

    async def _serve_log(self, conversation: Conversation) -> None:
        while (message := await conversation.receive()) is not None:
            if isinstance(message, GetMembership):
                self.members_served += 1
                await conversation.send(MembershipPage(message.start, self.members))
            elif isinstance(message, GetEntries):
                held = {head.chain: head.seq for head in message.chains}
                page = [encode(e.signed) for e in self.entries if e.envelope.seq > held.get(e.chain, 0)]
                await conversation.send(EntriesPage(tuple(self.pages(page)), False))


class Scene:
    """The folder under test, its root, and its links."""

    def __init__(self, path: Path, machine: Machine = SYSTEM) -> None:
        self.runtime = SystemRuntime(threads=2)
        self.network = MemoryNetwork(self.runtime)
        self.own = DeviceKeys(b"o" * 64)
        self.root = path / "root"
        self.root.mkdir()
        (path / "home").mkdir()
        home = found_folder(self.runtime, path / "home", self.own, self.root, "Docs", "owner")
        self.folder = Folder(self.runtime, home, self.own, Counters(), Faults(), lambda: None, machine)
        self.links: list[MemberLink] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._endpoints: list[MemoryEndpoint] = []

    async def start(self) -> None:
        """Begin to work on the folder."""
        policy = Policy(discovery_keys=lambda: [DISCOVERY], authorize=lambda device: None)
        self.endpoint = await MemoryEndpoint.open(self.runtime, self.own, self.network, policy)
        await self.folder.start()
        await self.until(lambda: self.folder.loop is not None and self.folder.loop.idle)

    async def member(self, name: bytes, role: Role = Role.WRITER) -> Member:
        """Invite and admit a device to be played by the test."""
        replica, keys = self.folder.replica, self.folder.keys()
        device, ticket = DeviceKeys(name * 64), DeviceKeys(name.upper() * 64)
        sealed = box(ticket.box_public, name * 32, pack_bundle(keys)) if role.may_read else b""
        await replica.change_membership(Invite(ticket.device, role, COUNTER_MAX // 10**9, keys.current, sealed))
        admit = Admit(ticket.device, role, device.box_public)
        head = replica.membership
        await replica.admit(sign_change(device, keys.folder, head.head, head.seq + 1, admit, ticket=ticket).data)
        return Member(device, keys, (replica.membership_count(), replica.membership.head))

    async def connect(self, member: Member) -> Link:
        """Link a played member; return its end."""
        member.membership = (self.folder.replica.membership_count(), self.folder.replica.membership.head)
        endpoint = await MemoryEndpoint.open(self.runtime, member.device, self.network)
        self._endpoints.append(endpoint)
        link = await endpoint.dial(
            f"10.0.0.1:{self.endpoint.port}", expect=self.own.device, discovery_key=DISCOVERY, timeout_s=WAIT_S
        )
        mine = MemberLink(self.runtime, await self.endpoint.accept(), folders=lambda: [self.folder], pair=_no_pairing)
        self.links.append(mine)
        loop = asyncio.get_running_loop()
        self._tasks += [loop.create_task(mine.run()), loop.create_task(member.serve(link))]
        return link

    async def until(self, reached: Callable[[], bool]) -> None:
        """Let everything run until `reached`."""
        async with asyncio.timeout(WAIT_S):
            while not reached():
                await asyncio.sleep(0)

    async def gets(self, member: Member, name: bytes, data: bytes) -> None:
        """See that an ordinary file written by `member` still arrives."""
        member.write(member.put(name, member.hold([data])))
        await self.until(lambda: self.files().get(name) == data)

    def files(self) -> dict[bytes, bytes]:
        """Return what the user sees in the root: name → content, directories as b"/"."""
        found = {}
        for entry in os.scandir(os.fsencode(self.root)):
            if not entry.name.startswith(b".meshsync"):
                found[entry.name] = b"/" if entry.is_dir() else Path(os.fsdecode(entry.path)).read_bytes()
        return found

    async def close(self) -> None:
        """End everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.folder.close()
        for endpoint in (*self._endpoints, self.endpoint):
            await endpoint.close()
        self.runtime.close()


async def _no_pairing(conversation: Conversation, request: PairRequest, device: DeviceId) -> None:
    raise AssertionError("nobody pairs here")


@asynccontextmanager
async def open_scene(path: Path, machine: Machine = SYSTEM) -> AsyncIterator[Scene]:
    """A folder that was founded and scanned, closed at the end."""
    scene = Scene(path, machine)
    await scene.start()
    try:
        yield scene
    finally:
        await scene.close()
