"""Contents that are wanted and wanted no more: nothing of them stays in the staging area (P8)."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from meshsync.agent.fetch_pool import FetchPool
from meshsync.agent.fetcher import Absent, Fetcher, Need, Sealed
from meshsync.agent.folder_store import FolderStore
from meshsync.agent.local_chunks import LocalChunks
from meshsync.agent.opening import open_answer
from meshsync.agent.partial_rows import PartialRows
from meshsync.content.chunk_ids import chunk_id
from meshsync.content.manifest_builder import ManifestBuilder
from meshsync.content.record import Content
from meshsync.content.seal import BlobKind, seal_chunk
from meshsync.crypto.folder_keys import FolderKeys, commitment
from meshsync.ids import ChunkId, Dot, FolderId, NodeId
from meshsync.index.database import Database
from meshsync.limits import FETCH_PARTIAL_BYTES_MIN, FETCH_VERSIONS_MAX
from meshsync.sync.actions import WriteFile
from meshsync.transport.base import Priority
from tests.support.folder_tree import FaultySyscalls, FolderTree

EPOCH = commitment(b"e" * 32)
KEYS = FolderKeys(FolderId(b"F" * 32), b"s" * 32, {EPOCH: b"e" * 32}, EPOCH)
NODE = NodeId(b"n" * 44)
CHUNK_BYTES = 65_536
SIZES = {"one chunk": 1, "several chunks": 3, "large": FETCH_PARTIAL_BYTES_MIN // CHUNK_BYTES + 1}


class Member:
    """A source that answers once `open` is set."""

    name = "member"

    def __init__(self) -> None:
        self.open, self.asked = asyncio.Event(), asyncio.Event()
        self.sent: list[ChunkId] = []
        self._plain: dict[ChunkId, bytes] = {}

    def offer(self, letter: bytes, chunks: int) -> Content:
        """Hold a file; return its content."""
        builder = ManifestBuilder(KEYS)
        for number in range(chunks):
            data = (b"%d " % number + letter * CHUNK_BYTES)[:CHUNK_BYTES]
            chunk = chunk_id(KEYS, BlobKind.CHUNK, data)
            self._plain[chunk] = data
            builder.add(chunk, len(data))
        built = builder.finish()
        self._plain.update(built.lists)
        return built.content

    def may_have(self, need: Need) -> bool:
        return True

    async def fetch(self, needs: Sequence[Need], priority: Priority) -> AsyncGenerator[Sealed | Absent, None]:
        self.asked.set()
        for need in needs:
            await self.open.wait()
            self.sent.append(need.chunk)
            yield Sealed(need, 0, EPOCH, seal_chunk(KEYS, EPOCH, need.kind, self._plain[need.chunk]))


class Scene:
    def __init__(self, path: Path, tree: FolderTree) -> None:
        self.database = database = Database(path / "index.sqlite3")
        store, runtime = FolderStore(database), tree.runtime
        self.tree, self.member, self._news = tree, Member(), asyncio.Event()
        local = LocalChunks(store.chunks, lambda *place: None, lambda node: None, lambda: KEYS, lambda path: None)
        self.fetcher = Fetcher(
            runtime, lambda answer: open_answer(lambda: KEYS, answer), lambda *_: None, lambda *_: None
        )
        self.pool = FetchPool(
            runtime,
            self.fetcher,
            local,
            store,
            lambda: tree.staging,
            PartialRows(database),
            lambda: KEYS,
            CHUNK_BYTES,
            self._news.set,
        )

    def want(self, content: Content, node: NodeId = NODE) -> None:
        self.pool.want(WriteFile(node, (b"f",), content, Dot(b"v" * 44), False, 1, None, (), ()))

    async def until(self, reached: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not reached():
                await self._news.wait()
                self._news.clear()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    tree = FolderTree(tmp_path / "root", FaultySyscalls())
    made = Scene(tmp_path, tree)
    await made.fetcher.add_source(made.member)
    yield made
    await made.pool.close()
    await made.fetcher.close()
    tree.close()


@pytest.mark.parametrize("chunks", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("when", ["at once", "asked", "staged"])
async def test_what_is_not_wanted_any_more_leaves_nothing(scene: Scene, chunks: int, when: str) -> None:
    scene.want(scene.member.offer(b"a", chunks))
    scene.pool.start()
    if when == "at once":
        await asyncio.sleep(0)
    if when == "asked":
        await scene.member.asked.wait()
    if when == "staged":
        scene.member.open.set()
        await scene.until(scene.pool.take_finished)
    scene.pool.cancel(NODE)
    scene.member.open.set()
    await scene.pool.close()
    assert scene.tree.staged_names() == []


@pytest.mark.parametrize("chunks", SIZES.values(), ids=SIZES)
async def test_another_content_takes_the_place_of_the_first(scene: Scene, chunks: int) -> None:
    scene.want(scene.member.offer(b"a", chunks))
    scene.pool.start()
    await scene.member.asked.wait()
    content = scene.member.offer(b"b", chunks)
    scene.want(content)
    scene.pool.start()
    scene.member.open.set()
    await scene.until(scene.pool.take_finished)
    assert scene.tree.staged_names() == [scene.pool.staged(NODE).file.name.decode()]


LARGE = SIZES["large"]


@pytest.mark.parametrize("chunks", [LARGE - 1, LARGE + 7], ids=["shorter", "longer"])
@pytest.mark.parametrize("when", ["on its way", "staged"])
async def test_of_a_content_that_took_the_place_of_another_only_what_differs_is_fetched(
    scene: Scene, when: str, chunks: int
) -> None:
    """A file that grows, or is written to, more often than a fetch takes would else never be complete here."""
    scene.want(scene.member.offer(b"a", LARGE))
    scene.pool.start()
    scene.member.open.set()
    if when == "on its way":
        while len(scene.member.sent) < LARGE // 2:
            await asyncio.sleep(0)
    else:
        await scene.until(scene.pool.take_finished)
    content = scene.member.offer(b"a", chunks)
    scene.want(content)
    scene.pool.start()
    await scene.until(lambda: scene.pool.total_bytes == content.size and scene.pool.take_finished())
    assert len(set(scene.member.sent)) == len(scene.member.sent), "no chunk and no list was sent twice"
    held = scene.pool.staged(NODE)
    assert scene.tree.staged_names() == [held.file.name.decode()]
    assert [size for _, size in held.chunks] == [CHUNK_BYTES] * chunks
    for number, (chunk, size) in enumerate(held.chunks):
        assert chunk_id(KEYS, BlobKind.CHUNK, held.file.read(number * CHUNK_BYTES, size)) == chunk
    assert held.file.read(chunks * CHUNK_BYTES, 1) == b""


async def test_contents_that_take_each_others_place_faster_than_they_come_are_one_fetch(scene: Scene) -> None:
    scene.member.open.set()
    for chunks in range(LARGE, LARGE + 20):
        scene.want(scene.member.offer(b"a", chunks))
        scene.pool.start()
        before = len(scene.member.sent)
        while len(scene.member.sent) == before:
            await asyncio.sleep(0)
    await scene.until(scene.pool.take_finished)
    chunks_sent = [chunk for chunk in scene.member.sent if chunk in dict(scene.pool.staged(NODE).chunks)]
    assert len(set(chunks_sent)) == len(chunks_sent) == LARGE + 19
    assert len(scene.tree.staged_names()) == 1


@pytest.mark.parametrize("when", ["on its way", "staged"])
async def test_a_small_content_takes_the_place_of_a_large_one_and_leaves_nothing_of_it(scene: Scene, when: str) -> None:
    scene.want(scene.member.offer(b"a", LARGE))
    scene.pool.start()
    scene.member.open.set()
    if when == "on its way":
        await scene.member.asked.wait()
    else:
        await scene.until(scene.pool.take_finished)
    content = scene.member.offer(b"b", 1)
    scene.want(content)
    scene.pool.start()
    await scene.until(lambda: scene.pool.take_finished() and scene.pool.total_bytes == content.size)
    await scene.pool.close()
    assert scene.tree.staged_names() == [scene.pool.staged(NODE).file.name.decode()]


@pytest.mark.parametrize("when", ["on its way", "staged"])
async def test_what_took_the_place_of_another_and_is_wanted_no_more_leaves_nothing(scene: Scene, when: str) -> None:
    scene.want(scene.member.offer(b"a", LARGE))
    scene.pool.start()
    scene.member.open.set()
    if when == "on its way":
        await scene.member.asked.wait()
    else:
        await scene.until(scene.pool.take_finished)
    scene.want(scene.member.offer(b"b", LARGE))
    scene.pool.cancel(NODE)
    await scene.pool.close()
    assert scene.tree.staged_names() == []


async def test_a_large_content_that_is_still_wanted_stays_for_the_next_start(scene: Scene) -> None:
    scene.want(scene.member.offer(b"a", SIZES["large"]))
    scene.pool.start()
    await scene.member.asked.wait()
    await scene.pool.close()
    assert len(scene.tree.staged_names()) == 1


@pytest.mark.parametrize("when", ["at once", "asked"])
async def test_one_of_a_batch_that_is_not_wanted_any_more_is_not_waited_for(scene: Scene, when: str) -> None:
    """Its content may be nowhere: it was overwritten before anybody sent it."""
    other = NodeId(b"o" * 44)
    scene.want(scene.member.offer(b"a", 1))
    scene.want(scene.member.offer(b"b", 1), other)
    scene.pool.start()
    if when == "asked":
        await scene.member.asked.wait()
        assert scene.fetcher.pending == 2
    scene.pool.cancel(NODE)
    await scene.member.asked.wait()
    await asyncio.sleep(0)
    assert scene.fetcher.pending == 1
    scene.member.open.set()
    await scene.until(scene.pool.take_finished)
    assert scene.fetcher.pending == 0


@pytest.mark.parametrize(
    ("refusing", "chunks"), [*(("disk", size) for size in SIZES.values()), ("index", SIZES["large"])]
)
async def test_what_cannot_be_staged_leaves_nothing_and_is_told(scene: Scene, chunks: int, refusing: str) -> None:
    scene.want(scene.member.offer(b"a", chunks))
    scene.member.open.set()
    if refusing == "disk":
        assert isinstance(scene.tree.root.syscalls, FaultySyscalls)
        scene.tree.root.syscalls.fails["write"] = errno.ENOSPC
    else:
        scene.database.execute("PRAGMA query_only = ON")
    scene.pool.start()
    await scene.until(scene.pool.take_failed)
    scene.pool.cancel(NODE)
    await scene.pool.close()
    assert scene.tree.staged_names() == []


@pytest.mark.parametrize("chunks", SIZES.values(), ids=SIZES)
async def test_a_disk_that_refuses_to_remove_too_is_told_of_and_is_cleared_once_it_works(
    scene: Scene, chunks: int
) -> None:
    scene.want(scene.member.offer(b"a", chunks))
    scene.member.open.set()
    calls = scene.tree.root.syscalls
    assert isinstance(calls, FaultySyscalls)
    calls.fails |= {"write": errno.EIO, "unlink": errno.EIO}
    scene.pool.start()
    await scene.until(scene.pool.take_failed)  # or nobody would ever try again
    scene.pool.cancel(NODE)
    assert await scene.pool.clear()
    assert len(scene.tree.staged_names()) == 1
    calls.fails.clear()
    assert not await scene.pool.clear()
    assert scene.tree.staged_names() == []


@pytest.mark.parametrize("chunks", SIZES.values(), ids=SIZES)
async def test_a_staged_file_that_was_lost_on_its_way_into_the_tree_is_fetched_again(scene: Scene, chunks: int) -> None:
    content, names = scene.member.offer(b"a", chunks), []
    scene.member.open.set()
    for _ in range(2):
        scene.want(content)
        scene.pool.start()
        await scene.until(scene.pool.take_finished)
        file = scene.pool.staged(NODE).file
        names.append(file.name)
        file.name = b""
    assert len(set(names)) == 2


async def test_small_files_of_which_the_index_cannot_tell_what_is_here_are_told_to_have_failed(scene: Scene) -> None:
    scene.want(scene.member.offer(b"a", 1))
    scene.database.close()
    scene.pool.start()
    await scene.until(scene.pool.take_failed)


@pytest.mark.parametrize("chunks", [SIZES["one chunk"], SIZES["several chunks"]], ids=["one chunk", "several chunks"])
async def test_a_pool_that_was_closed_begins_nothing_that_waited_for_its_turn(scene: Scene, chunks: int) -> None:
    content = scene.member.offer(b"a", chunks)
    for number in range(FETCH_VERSIONS_MAX + 1):
        scene.want(content, NodeId(b"%044d" % number))
    scene.pool.start()
    await scene.member.asked.wait()
    before = asyncio.all_tasks()
    await scene.pool.close()
    assert asyncio.all_tasks() <= before
