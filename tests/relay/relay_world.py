"""A relay on a network in memory, and devices that talk to it: the only place in these tests that wires one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from meshsync.codec.canonical import encode
from meshsync.crypto.hashing import blob_id
from meshsync.crypto.identity import DeviceKeys
from meshsync.ids import BlobId, Dot, RecordId
from meshsync.metalog.entry import OpenedEntry
from meshsync.metalog.head import LogHead, open_head
from meshsync.metalog.membership_entry import OpenedMembership
from meshsync.metalog.record_log import LogRecord, RecordKind
from meshsync.metalog.stored import make_stored
from meshsync.runtime import SystemRuntime
from meshsync.store.memory import MemoryStore
from meshsync.store.packs import PackStore
from meshsync.transport.base import Link, Priority
from meshsync.transport.framed import FramedStream
from meshsync.transport.memory import MemoryEndpoint, MemoryNetwork
from meshsync.wire.relay_messages import (
    Append,
    AppendResult,
    Attach,
    Attached,
    BlobUpload,
    CreateFolder,
    Message,
    Offer,
    Offered,
    Outcome,
    Page,
    Read,
    StoredBlobs,
    Wanted,
    creation_proof,
    pack,
    unpack,
)
from relay.core import RelayCore
from relay.drivers.hints import LocalHints
from relay.drivers.memory import MemoryLog
from relay.drivers.packs import ThreadedChunkStore
from relay.drivers.sqlite_log import SqliteLog
from relay.server import POLICY
from relay.service import RelayService
from tests.metalog.log_scene import ANNA, FOLDER, RELAY, genesis

SECRET = b"sixteen byte key"
M = TypeVar("M", bound=Message)


class Talk:
    """One stream of a device at the relay."""

    def __init__(self, framed: FramedStream) -> None:
        self.framed = framed

    async def send(self, message: Message) -> None:
        await self.framed.send_frame(*pack(message))

    async def receive(self) -> Message:
        frame = await self.framed.receive_frame()
        assert frame is not None, "the relay ended the stream"
        return unpack(*frame)

    async def ask(self, message: Message) -> Message:
        await self.send(message)
        return await self.receive()

    async def expect(self, kind: type[M], message: Message) -> M:
        answer = await self.ask(message)
        assert isinstance(answer, kind), answer
        return answer

    async def append(self, *records: LogRecord) -> list[Outcome]:
        return list((await self.expect(AppendResult, Append(records))).outcomes)

    async def upload(self, *blobs: bytes) -> StoredBlobs:
        items = tuple(Offered(blob_id(data), len(data)) for data in blobs)
        wanted = await self.expect(Wanted, Offer(items))
        for position in wanted.positions:
            await self.send(BlobUpload(position, blobs[position]))
        answer = await self.receive()
        assert isinstance(answer, StoredBlobs), answer
        return answer

    async def read_all(self) -> list[LogRecord]:
        records: list[LogRecord] = []
        while page := (await self.expect(Page, Read(len(records) + 1))).records:
            records += page
        return records


@dataclass
class RelayWorld:
    """A relay and its network. `core` is its inside."""

    runtime: SystemRuntime
    network: MemoryNetwork
    core: RelayCore
    service: RelayService
    endpoint: MemoryEndpoint
    devices: list[MemoryEndpoint] = field(default_factory=list)

    async def link(self, keys: DeviceKeys) -> Link:
        near = await MemoryEndpoint.open(self.runtime, keys, self.network)
        self.devices.append(near)
        place = f"127.0.0.1:{self.endpoint.port}"
        return await near.dial(place, expect=RELAY.device, discovery_key=None, timeout_s=5.0)

    async def talk(self, keys: DeviceKeys) -> Talk:
        link = await self.link(keys)
        return Talk(FramedStream(await link.open_stream(Priority.INTERACTIVE)))

    async def attached(self, keys: DeviceKeys) -> Talk:
        talk = await self.talk(keys)
        await talk.expect(Attached, Attach(FOLDER))
        return talk

    async def founded(self, keys: DeviceKeys = ANNA) -> Talk:
        talk = await self.talk(keys)
        proof = creation_proof(SECRET, RELAY.device, keys.device, FOLDER)
        await talk.expect(Attached, CreateFolder(genesis().data, proof))
        return talk


@asynccontextmanager
async def open_relay(directory: Path | None, quota: int = 1 << 40) -> AsyncIterator[RelayWorld]:
    """A relay over `directory`, or in memory without one."""
    runtime = SystemRuntime()
    store = PackStore(directory / "chunks") if directory else MemoryStore()
    log = SqliteLog(directory / "log.sqlite", runtime) if directory else MemoryLog()
    chunks = ThreadedChunkStore(store, runtime)
    core = RelayCore(RELAY, runtime, log, chunks, LocalHints(), lambda: [SECRET], quota)
    network = MemoryNetwork(runtime)
    endpoint = await MemoryEndpoint.open(runtime, RELAY, network, POLICY)
    world = RelayWorld(runtime, network, core, RelayService(core, endpoint), endpoint)
    world.service.start()
    try:
        yield world
    finally:
        for device in world.devices:
            await device.close()
        await world.service.close()
        await endpoint.close()
        await log.close()
        await chunks.close()
        runtime.close()


def entry_record(entry: OpenedEntry) -> LogRecord:
    return LogRecord(RecordKind.ENTRY, encode(entry.signed))


def membership_record(entry: OpenedMembership) -> LogRecord:
    return LogRecord(RecordKind.MEMBERSHIP, entry.data)


def stored_record(
    author: DeviceKeys, entry: OpenedEntry, blobs: Sequence[bytes], parts: Sequence[RecordId] = ()
) -> LogRecord:
    """The content of `entry`: its own blobs, and what earlier records hold."""
    return _stored(author, (entry.dot(0),), blobs, parts)


def stored_part(author: DeviceKeys, blobs: Sequence[bytes], parts: Sequence[RecordId] = ()) -> LogRecord:
    """A part of what later records speak of."""
    return _stored(author, (), blobs, parts)


def _stored(author: DeviceKeys, dots: tuple[Dot, ...], blobs: Sequence[bytes], parts: Sequence[RecordId]) -> LogRecord:
    ids = tuple(BlobId(blob_id(data)) for data in blobs)
    data = make_stored(
        author, FOLDER, membership=genesis().id, dots=dots, blobs=ids, parts=tuple(parts), sealed=b"sealed"
    )
    return LogRecord(RecordKind.STORED, data)


def head_of(answer: Attached | AppendResult | Page) -> LogHead:
    return open_head(answer.head, FOLDER)
