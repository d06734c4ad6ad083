"""One version's content, into a staged file. Promises B4, B5, P8; examples of what a hostile manifest may not do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.agent.fetcher import Absent, Fetcher, Need, Sealed
from meshsync.agent.local_chunks import LocalChunks
from meshsync.agent.opening import open_answer
from meshsync.agent.version_fetch import BaseChunks, VersionFetch
from meshsync.content.chunk_ids import chunk_id
from meshsync.content.manifest_builder import ManifestBuilder
from meshsync.content.record import Content
from meshsync.content.seal import BlobKind, seal_chunk
from meshsync.crypto.folder_keys import FolderKeys, commitment
from meshsync.errors import ManifestMismatch
from meshsync.ids import ChunkId, FolderId
from meshsync.index.chunk_rows import ChunkRows
from meshsync.index.database import Database
from meshsync.transport.base import Priority
from tests.support.virtual_runtime import VirtualRuntime

EPOCH = commitment(b"e" * 32)
KEYS = FolderKeys(FolderId(b"F" * 32), b"s" * 32, {EPOCH: b"e" * 32}, EPOCH)
CHUNK_MIN = 42
CHUNKS = [b"%d:" % number + bytes([number % 251]) * 40 for number in range(600)]

letters = st.sampled_from([ChunkId(bytes([letter]) * 32) for letter in b"abcdefgh"])


def data_id(data: bytes) -> ChunkId:
    return chunk_id(KEYS, BlobKind.CHUNK, data)


class StagedTwin:
    """A staged file in memory that, like the real one, takes nothing beyond its size and nothing once closed."""

    def __init__(self, size: int) -> None:
        self.data, self.closed, self.written = bytearray(size), False, 0

    def write(self, offset: int, data: bytes) -> None:
        assert not self.closed and offset + len(data) <= len(self.data)
        self.data[offset : offset + len(data)] = data
        self.written += 1

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self.data[offset : offset + length])


class Member:
    """A source that holds `blobs` and seals them as it is asked."""

    name = "member"

    def __init__(self) -> None:
        self.plain: dict[ChunkId, bytes] = {}
        self.asked: list[ChunkId] = []

    def offer(self, chunks: Sequence[bytes], sizes: Sequence[int] = ()) -> Content:
        """Hold a file of `chunks`; return its content, whose manifest states `sizes` where they are given."""
        builder = ManifestBuilder(KEYS)
        for data, size in zip(chunks, sizes or map(len, chunks), strict=True):
            self.plain[data_id(data)] = data
            builder.add(data_id(data), size)
        built = builder.finish()
        self.plain.update(built.lists)
        return built.content

    def may_have(self, need: Need) -> bool:
        return True

    async def fetch(self, needs: Sequence[Need], priority: Priority) -> AsyncGenerator[Sealed | Absent, None]:
        for need in needs:
            self.asked.append(need.chunk)
            yield Sealed(need, 0, EPOCH, seal_chunk(KEYS, EPOCH, need.kind, self.plain[need.chunk]))


class Scene:
    def __init__(self, path: Path) -> None:
        self.runtime, self.member = VirtualRuntime(), Member()
        self.database = Database(path / "index.sqlite3")
        self.rows = ChunkRows(self.database)
        self.local = LocalChunks(self.rows, lambda *place: None, lambda node: None, lambda: KEYS, lambda path: None)
        self.fetcher = Fetcher(
            self.runtime, lambda answer: open_answer(lambda: KEYS, answer), lambda *_: None, lambda *_: None
        )

    def version(self, content: Content) -> VersionFetch:
        return VersionFetch(
            self.runtime, self.fetcher, self.local, KEYS, content=content, chunk_min=CHUNK_MIN, path="docs/a"
        )

    async def fetch(self, content: Content, staged: StagedTwin, resumed: bool = False) -> None:
        await self.fetcher.add_source(self.member)
        try:
            await self.version(content).into(staged, resumed)  # type: ignore[arg-type]
        finally:
            await self.fetcher.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.database.close()


@pytest.mark.parametrize("count", [0, 1, 2, 40, 600])
async def test_a_version_arrives_whole(scene: Scene, count: int) -> None:
    content = scene.member.offer(CHUNKS[:count])
    staged = StagedTwin(content.size)
    await scene.fetch(content, staged)
    assert staged.data == b"".join(CHUNKS[:count]) and len(set(scene.member.asked)) == len(scene.member.asked)


async def test_what_an_earlier_run_wrote_is_not_asked_for(scene: Scene) -> None:
    content = scene.member.offer(CHUNKS[:40])
    staged = StagedTwin(content.size)
    staged.data[:] = b"".join(CHUNKS[:40])
    staged.data[-1] ^= 1
    await scene.fetch(content, staged, resumed=True)
    assert staged.data == b"".join(CHUNKS[:40])
    assert [id for id in scene.member.asked if scene.member.plain[id] in CHUNKS] == [data_id(CHUNKS[39])]


@pytest.mark.parametrize("lie", [-1, 1])
async def test_a_manifest_that_lies_about_a_chunks_length_is_refused(scene: Scene, lie: int) -> None:
    sizes = [len(CHUNKS[0]), len(CHUNKS[1]) + lie]
    content = scene.member.offer(CHUNKS[:2], sizes)
    with pytest.raises(ManifestMismatch):
        await scene.fetch(content, StagedTwin(content.size))


async def test_a_file_of_chunks_below_the_folders_minimum_is_refused_at_the_first(scene: Scene) -> None:
    content = scene.member.offer([b"x" * (CHUNK_MIN - 1)] * 500)
    staged = StagedTwin(content.size)
    with pytest.raises(ManifestMismatch):
        await scene.fetch(content, staged)
    assert staged.written == 0 and data_id(b"x" * (CHUNK_MIN - 1)) not in scene.member.asked


async def test_the_last_chunk_may_be_as_small_as_it_is(scene: Scene) -> None:
    content = scene.member.offer([*CHUNKS[:2], b"end"])
    staged = StagedTwin(content.size)
    await scene.fetch(content, staged)
    assert staged.data.endswith(b"end")


async def test_reading_without_placing_refuses_the_same(scene: Scene) -> None:
    content = scene.member.offer(CHUNKS[:2], [len(CHUNKS[0]), len(CHUNKS[1]) - 1])
    await scene.fetcher.add_source(scene.member)
    read = []
    with pytest.raises(ManifestMismatch):
        async for piece in scene.version(content).pieces():
            read.append(piece)
    assert read == CHUNKS[:1]
    await scene.fetcher.close()


async def test_nothing_is_written_once_a_fetch_was_cancelled(scene: Scene) -> None:
    content = scene.member.offer(CHUNKS[:40])
    staged = StagedTwin(content.size)
    running = asyncio.ensure_future(scene.version(content).into(staged, False))  # type: ignore[arg-type]
    await scene.runtime.settle()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    staged.closed = True
    await scene.fetcher.add_source(scene.member)
    await scene.runtime.settle()
    assert staged.written == 0 and scene.fetcher.pending == 0
    await scene.fetcher.close()


class TestBases:
    def test_a_chunk_is_paired_with_the_one_at_its_place(self) -> None:
        a, b, c, x, y = (ChunkId(bytes([letter]) * 32) for letter in b"abcxy")
        bases = BaseChunks([(a, 1), (b, 1), (c, 1)])
        assert [bases.base_for(chunk) for chunk in (a, x, c, y)] == [None, b, None, None]

    def test_after_an_insertion_equal_chunks_find_the_place_again(self) -> None:
        a, b, c, x, y = (ChunkId(bytes([letter]) * 32) for letter in b"abcxy")
        bases = BaseChunks([(a, 1), (b, 1), (c, 1)])
        assert [bases.base_for(chunk) for chunk in (x, a, b, y)] == [a, None, None, c]

    @given(st.lists(letters), st.lists(letters))
    def test_a_base_is_always_an_old_chunk_and_never_the_chunk_itself(
        self, old: list[ChunkId], new: list[ChunkId]
    ) -> None:
        bases = BaseChunks([(chunk, 1) for chunk in old])
        for chunk in new:
            base = bases.base_for(chunk)
            assert base is None or (base in old and base != chunk)
            assert base is None or chunk not in old
