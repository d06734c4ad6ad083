"""B19 at the device: malformed bytes of a member end its link with a typed error; the folder and other links go on."""

from __future__ import annotations

import asyncio
import random
import struct
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from meshsync.agent.chunk_server import parts
from meshsync.agent.conversation import Conversation
from meshsync.codec.canonical import encode
from meshsync.content.batch import encode_batch
from meshsync.content.batch_wire import WireBatch, WireContent, WirePut
from meshsync.content.chunk_ids import chunk_id
from meshsync.content.manifest import Item, write_list
from meshsync.content.record import Content, Kind
from meshsync.content.seal import BlobKind
from meshsync.errors import DecompressionBomb, MalformedMessage
from meshsync.ids import ChunkId
from meshsync.limits import (
    CHUNK_SIZE_BYTES_MAX,
    FILE_SIZE_BYTES_MAX,
    SERVE_PART_BYTES,
    WANT_ITEMS_MAX,
)
from meshsync.transport.base import Priority
from meshsync.wire.frames import encode_frame
from meshsync.wire.peer_messages import (
    ChunkAbsent,
    ChunkFrame,
    FollowLog,
    OpenChunks,
    Want,
    WantItem,
    pack,
)
from tests.support.member_scene import WAIT_S, Member, Scene, open_scene


def with_tail(scene: Scene) -> bytes:
    kind, body = pack(FollowLog(scene.folder.id))
    return encode_frame(kind, body + b"\0")


def with_keys_twice(scene: Scene) -> bytes:
    body = msgspec.msgpack.encode({"folder": scene.folder.id})
    return encode_frame(FollowLog.TYPE, b"\x82" + 2 * body[1:])


STREAMS = {
    "trailing bytes": with_tail,
    "duplicate keys": with_keys_twice,
    "a length without end": lambda scene: struct.pack(">IB", 0xFFFFFFFF, FollowLog.TYPE),
    "a frame without a type": lambda scene: bytes(5),
    "an unknown type": lambda scene: encode_frame(250, b""),
    "a body that is none": lambda scene: encode_frame(FollowLog.TYPE, b"\xc1"),
    "a negative length": lambda scene: encode_frame(FollowLog.TYPE, b"\x91\xff"),
    "an answer that opens a stream": lambda scene: encode_frame(*pack(ChunkAbsent(0))),
    "an array of 2^32 items": lambda scene: encode_frame(Want.TYPE, b"\x91\xdd\xff\xff\xff\xff"),
    "nesting": lambda scene: encode_frame(Want.TYPE, b"\x91" * 100_000),
}


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS.keys())
async def test_a_malformed_stream_ends_the_link_and_nothing_else(tmp_path: Path, stream: object) -> None:
    async with open_scene(tmp_path) as scene:
        mallory, carol = await scene.member(b"m"), await scene.member(b"c")
        link = await scene.connect(mallory)
        await scene.connect(carol)
        opened = await link.open_stream(Priority.INTERACTIVE)
        await opened.send(stream(scene))  # type: ignore[operator]
        async with asyncio.timeout(WAIT_S):
            await link.wait_closed()
        await scene.gets(carol, b"next", b"1")


async def test_a_stream_cut_off_inside_a_frame_costs_that_stream_only(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        mallory = await scene.member(b"m")
        link = await scene.connect(mallory)
        opened = await link.open_stream(Priority.INTERACTIVE)
        await opened.send(encode_frame(*pack(FollowLog(scene.folder.id)))[:-1])
        await opened.finish()
        await scene.gets(mallory, b"next", b"1")


async def test_random_streams_of_a_member_never_harm_the_folder(tmp_path: Path) -> None:
    chance = random.Random(19)
    async with open_scene(tmp_path) as scene:
        mallory, carol = await scene.member(b"m"), await scene.member(b"c")
        await scene.connect(carol)
        for _ in range(20):
            link = await scene.connect(mallory)
            frame = bytearray(encode_frame(*pack(Want((WantItem(b"x" * 32, 1, 5),)))))
            for _ in range(3):
                frame[chance.randrange(len(frame))] = chance.randrange(256)
            opened = await link.open_stream(Priority.BULK)
            await opened.send(encode_frame(*pack(OpenChunks(scene.folder.id))) + bytes(frame))
            await opened.finish()
            link.close("done")
        await scene.gets(carol, b"next", b"1")


class TestPages:
    """What is served as pages of the log."""

    @pytest.mark.parametrize("damage", ["flipped", "truncated", "longer", "junk"])
    async def test_b4_a_broken_entry_ends_the_link_after_the_whole_ones_were_taken(
        self, tmp_path: Path, damage: str
    ) -> None:
        async with open_scene(tmp_path) as scene:
            mallory, carol = await scene.member(b"m"), await scene.member(b"c")
            carol.write(carol.put(b"whole", carol.hold([b"1"])))
            entry = mallory.write(mallory.put(b"broken", mallory.hold([b"2"])))
            mallory.entries += carol.entries
            good = encode(entry.signed)
            bad = {
                "flipped": good[:99] + bytes([good[99] ^ 1]) + good[100:],
                "truncated": good[:-1],
                "longer": good + b"\0",
                "junk": b"junk",
            }[damage]
            mallory.pages = lambda page: [bad, encode(carol.entries[0].signed)]
            link = await scene.connect(mallory)
            async with asyncio.timeout(WAIT_S):
                await link.wait_closed()
            assert entry.id not in scene.folder.replica.chains and carol.entries[0].id in scene.folder.replica.chains
            assert scene.folder.replica.unreadable == {}

    async def test_b4_a_broken_membership_entry_ends_the_link_and_changes_no_member(self, tmp_path: Path) -> None:
        async with open_scene(tmp_path) as scene:
            mallory = await scene.member(b"m")
            link = await scene.connect(mallory)
            before = dict(scene.folder.replica.membership.members)
            last = scene.folder.replica.membership_chain[-1].data
            mallory.members = (last[:-1] + bytes([last[-1] ^ 1]),)
            mallory.membership = (mallory.membership[0] + 1, b"h" * 32)
            mallory.announce()
            async with asyncio.timeout(WAIT_S):
                await link.wait_closed()
            assert scene.folder.replica.membership.members == before


def wire_put(content: WireContent) -> bytes:
    return encode(WireBatch(0, (), (WirePut(None, content, False, 0, (), b"", b"f", (b"f",), ()),)))


BATCHES = {
    "a size of 2^63": wire_put(WireContent(Kind.FILE, 1 << 63, b"r" * 32, 6, b"")),
    "a negative size": wire_put(WireContent(Kind.FILE, -1, b"r" * 32, 0, b"")),
    "a depth of 10,000": wire_put(WireContent(Kind.FILE, 1 << 40, b"r" * 32, 10_000, b"")),
    "a chunk of 1 GiB": wire_put(WireContent(Kind.FILE, 1 << 30, b"r" * 32, 0, b"")),
    "trailing bytes": encode_batch([], b"o" * 32) + b"\0",  # type: ignore[arg-type]
    "no batch": b"junk",
    "nesting": b"\x93" * 100_000,
    "an array of 2^32 operations": b"\x93\x00\x90\xdd\xff\xff\xff\xff",
    "a bomb": bytes(64 << 20),
}


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES.keys())
async def test_operations_out_of_bounds_change_nothing_and_are_reported(tmp_path: Path, batch: bytes) -> None:
    async with open_scene(tmp_path) as scene:
        mallory = await scene.member(b"m")
        await scene.connect(mallory)
        entry = mallory.write_batch(batch)
        await scene.gets(mallory, b"next", b"1")
        error = scene.folder.replica.unreadable[entry.id]
        assert isinstance(error, MalformedMessage | DecompressionBomb) and error.device and error.folder
        assert scene.files() == {b"next": b"1"}


async def test_b6_a_batch_sealed_as_another_kind_or_with_another_count_is_unreadable(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        mallory = await scene.member(b"m")
        await scene.connect(mallory)
        put = mallory.put(b"file", mallory.hold([b"1"]))
        other_kind = mallory.write_batch(encode_batch([put], mallory.chain), kind=BlobKind.CHUNK)
        other_count = mallory.write(put, op_count=1000)
        await scene.gets(mallory, b"next", b"1")
        assert set(scene.folder.replica.unreadable) == {other_kind.id, other_count.id}
        assert scene.files() == {b"next": b"1"}


def lists(member: Member, items: list[Item], depth: int, size: int) -> Content:
    """Hold a tree whose every level names the same list below, `depth` levels high; say that it has `size` bytes."""
    for level in range(1, depth + 1):
        data = write_list(level, items)
        name = chunk_id(member.keys, BlobKind.MANIFEST, data)
        member.plain[name] = data
        items = [Item(name, sum(item.size for item in items))] * len(items)
    return Content(Kind.FILE, size, items[0].id, depth)


class TestManifests:
    async def waits(self, path: Path, make: object) -> str:
        """Return why a file waits whose manifest is what `make` gives; an ordinary file arrives meanwhile."""
        async with open_scene(path) as scene:
            mallory = await scene.member(b"m")
            await scene.connect(mallory)
            mallory.write(mallory.put(b"file", make(mallory)))  # type: ignore[operator]
            loop = scene.folder.loop
            assert loop is not None
            await scene.until(lambda: (b"file",) in loop.blocked())
            await scene.gets(mallory, b"next", b"1")
            assert scene.files() == {b"next": b"1"}
            return loop.blocked()[b"file",]

    async def test_10_to_the_9_chunks_of_one_byte(self, tmp_path: Path) -> None:
        def make(member: Member) -> Content:
            chunk = chunk_id(member.keys, BlobKind.CHUNK, b"x")
            member.plain[chunk] = b"x"
            return lists(member, [Item(chunk, 1)] * 180, 4, 180**4)

        assert "a chunk of 1 bytes" in await self.waits(tmp_path, make)

    async def test_a_pebibyte(self, tmp_path: Path) -> None:
        content = Content(Kind.FILE, FILE_SIZE_BYTES_MAX, ChunkId(b"r" * 32), 6)
        assert "1125899923619840 bytes are needed" in await self.waits(tmp_path, lambda member: content)

    async def test_a_list_where_another_level_belongs(self, tmp_path: Path) -> None:
        def make(member: Member) -> Content:
            content = member.hold([b"a" * 20_000] * 2)
            return replace(content, depth=3)

        assert "level" in await self.waits(tmp_path, make)

    async def test_sizes_that_do_not_add_up(self, tmp_path: Path) -> None:
        def make(member: Member) -> Content:
            return replace(member.hold([b"a" * 20_000, b"b" * 20_000]), size=50_000)

        assert "not 50000" in await self.waits(tmp_path, make)

    @pytest.mark.parametrize("lie", [-1, 1])
    async def test_a_chunk_of_another_length_than_stated(self, tmp_path: Path, lie: int) -> None:
        def make(member: Member) -> Content:
            return member.hold([b"a" * 20_000, b"b" * 20_000], [20_000, 20_000 + lie])

        assert "chunk of 20000" in await self.waits(tmp_path, make)


async def test_a_want_that_lies_about_sizes_gets_nothing_and_costs_no_memory(tmp_path: Path) -> None:
    """1,024 items that state no byte each must not make a part of 256 MiB."""
    async with open_scene(tmp_path) as scene:
        data = random.Random(1).randbytes(3 * CHUNK_SIZE_BYTES_MAX)
        (scene.root / "file").write_bytes(data)
        mallory = await scene.member(b"m")
        link = await scene.connect(mallory)
        scene.folder.loop.look_at(None)  # type: ignore[union-attr]
        await scene.until(lambda: bool(scene.folder.rows()))
        chunks = scene.folder.chunk_rows.file_chunks(scene.folder.rows()[0].node)
        honest_items = [WantItem(chunk, 1, size) for chunk, size in chunks]
        lying = [WantItem(chunk, 1, size - 1) for chunk, size in chunks]
        talk = Conversation(await link.open_stream(Priority.BULK))
        await talk.send(OpenChunks(scene.folder.id))
        await talk.send(Want(tuple(honest_items + lying)))
        await talk.finish()
        answers = [await talk.receive() for _ in range(2 * len(chunks))]
        assert all(isinstance(answer, ChunkFrame) for answer in answers[: len(chunks)])
        assert all(isinstance(answer, ChunkAbsent) for answer in answers[len(chunks) :])


def test_parts_of_a_want_are_bounded_by_what_it_states() -> None:
    items = [WantItem(b"x" * 32, 1, CHUNK_SIZE_BYTES_MAX)] * WANT_ITEMS_MAX
    made = list(parts(items))
    assert sum(map(len, made)) == WANT_ITEMS_MAX
    assert max(sum(item.size for _, item in part) for part in made) < SERVE_PART_BYTES + CHUNK_SIZE_BYTES_MAX
