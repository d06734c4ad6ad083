"""Manifests. Spec: docs/spec/content.md 3."""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshsync.codec.canonical import encode
from meshsync.content.chunk_ids import chunk_id
from meshsync.content.manifest import Item, Node, expand, parse_list, root_node, walk, write_list
from meshsync.content.manifest_builder import Built, ManifestBuilder
from meshsync.content.record import Content, Kind
from meshsync.content.seal import BlobKind
from meshsync.crypto.folder_keys import FolderKeys, commitment
from meshsync.errors import ManifestMismatch, ResourceError
from meshsync.ids import ChunkId, FolderId
from meshsync.limits import (
    CHUNK_SIZE_BYTES_MAX,
    FILE_SIZE_BYTES_MAX,
    MANIFEST_DEPTH_MAX,
    MANIFEST_LIST_BYTES_MAX,
    MANIFEST_LIST_ITEMS_MAX,
)

FOLDER, EPOCH_KEY = FolderId(b"F" * 32), b"e" * 32
EPOCH = commitment(EPOCH_KEY)
KEYS = FolderKeys(FOLDER, b"s" * 32, {EPOCH: EPOCH_KEY}, EPOCH)
SIZE = 64 * 1024
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "content.json").read_text())


def items(count: int, seed: int = 1) -> list[Item]:
    source = random.Random(seed)
    return [Item(ChunkId(source.randbytes(32)), source.randint(1, SIZE)) for _ in range(count)]


def build(chunks: Iterable[Item]) -> Built:
    builder = ManifestBuilder(KEYS)
    for chunk in chunks:
        builder.add(*chunk)
    return builder.finish()


def leaves(built: Built) -> Iterator[Node]:
    lists = dict(built.lists)
    return walk(built.content, lambda node: lists[node.id])


class TestTree:
    @pytest.mark.parametrize(
        ("count", "depth"), [(0, 0), (1, 0), (2, 1), (31, 1), (33, 1), (600, 2), (5000, 2), (40_000, 3)]
    )
    def test_the_walk_gives_back_the_chunks_in_order(self, count: int, depth: int) -> None:
        chunks = items(count)
        built = build(chunks)
        assert built.content.depth == depth and built.content.size == sum(size for _, size in chunks)
        offset = 0
        for chunk, leaf in zip(chunks, leaves(built), strict=True):
            assert (leaf.id, leaf.size, leaf.offset, leaf.level) == (*chunk, offset, 0)
            offset += leaf.size

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 2000), st.integers(0, 100))
    def test_any_number_of_chunks_makes_a_tree_that_walks(self, count: int, seed: int) -> None:
        chunks = items(count, seed)
        built = build(chunks)
        assert [Item(leaf.id, leaf.size) for leaf in leaves(built)] == chunks
        assert all(chunk_id(KEYS, BlobKind.MANIFEST, data) == id for id, data in built.lists)

    def test_the_tree_is_that_of_the_specification(self) -> None:
        built = build(items(700, 7))
        assert (built.content.root.hex(), built.content.depth) == tuple(VECTORS["manifest"]["root"])
        assert write_list(1, items(2, 8)).hex() == VECTORS["manifest"]["list"]

    def test_one_chunk_is_its_own_root_and_an_empty_file_has_none(self) -> None:
        (chunk,) = items(1)
        assert build([chunk]) == Built(Content(Kind.FILE, chunk.size, chunk.id, 0), ())
        assert build([]) == Built(Content(Kind.FILE), ())

    def test_one_changed_byte_in_1_gib_changes_one_list_for_each_level(self) -> None:
        chunks = [Item(item.id, SIZE) for item in items(16_384)]
        before = build(chunks)
        assert before.content.size == 1 << 30
        changed = []
        for at in range(100, 16_384, 1500):
            edited = [*chunks[:at], Item(ChunkId(at.to_bytes(32, "little")), chunks[at].size), *chunks[at + 1 :]]
            changed.append(len({*build(edited).lists} - {*before.lists}))
        assert sorted(changed)[len(changed) // 2] == before.content.depth  # the list naming the chunk, up to the root
        assert max(changed) <= 8  # where the edit made or unmade the end of a list

    def test_inserted_and_removed_chunks_leave_most_lists_alone(self) -> None:
        chunks, source, changed = items(3000), random.Random(3), []
        before = {*build(chunks).lists}  # about 30
        for _ in range(25):
            at, removed, inserted = source.randrange(3000), source.randrange(4), items(source.randrange(4), 2)
            changed.append(len({*build([*chunks[:at], *inserted, *chunks[at + removed :]]).lists} - before))
        assert statistics.mean(changed) <= 3

    def test_lists_can_be_taken_while_a_huge_file_is_read(self) -> None:
        builder, taken, most = ManifestBuilder(KEYS), [], 0
        for chunk in items(20_000):
            builder.add(*chunk)
            part = builder.take()
            most = max(most, len(part))
            taken += part
        built = builder.finish()
        assert most <= 2 and [*taken, *built.lists] == [*build(items(20_000)).lists]

    def test_a_file_beyond_the_bound_is_refused(self) -> None:
        builder = ManifestBuilder(KEYS)
        builder.add(ChunkId(bytes(32)), FILE_SIZE_BYTES_MAX)
        with pytest.raises(ResourceError):
            builder.add(ChunkId(bytes(32)), 1)


class TestList:
    @given(st.integers(1, MANIFEST_LIST_ITEMS_MAX), st.integers(1, MANIFEST_DEPTH_MAX))
    def test_what_was_written_parses(self, count: int, level: int) -> None:
        written = items(count)
        assert list(parse_list(write_list(level, written), level)) == written

    def test_the_largest_list_stays_within_its_bound(self) -> None:
        largest = [Item(ChunkId(bytes(32)), FILE_SIZE_BYTES_MAX // MANIFEST_LIST_ITEMS_MAX)] * MANIFEST_LIST_ITEMS_MAX
        assert len(write_list(6, largest)) <= MANIFEST_LIST_BYTES_MAX
        assert len(parse_list(write_list(6, largest), 6)) == MANIFEST_LIST_ITEMS_MAX

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            encode((1, b"", ())),
            encode((2, bytes(32), (5,))),
            encode((0, bytes(32), (5,))),
            encode((1, bytes(31), (5,))),
            encode((1, bytes(64), (5,))),
            encode((1, bytes(32), (5, 5))),
            encode((1, bytes(32), (0,))),
            encode((1, bytes(32), (-5,))),
            encode((1, bytes(32), (1 << 63,))),
            encode((1, bytes(32), (CHUNK_SIZE_BYTES_MAX + 1,))),
            encode((1, bytes(32 * 513), (5,) * 513)),
            encode((1, bytes(32), (5,), 0)),
            encode((1, bytes(32), (5,))) + b"\0",
            encode((1, bytes(32), (5,)))[:-1],
            encode((1, bytes(32), (5.0,))),
            b"\x93\xcc\x01" + encode((1, bytes(32), (5,)))[2:],
            bytes(MANIFEST_LIST_BYTES_MAX + 1),
            b"\xdd\xff\xff\xff\xff",
        ],
        ids=lambda data: data[:8].hex() or "empty",
    )
    def test_anything_else_is_refused(self, data: bytes) -> None:
        with pytest.raises(ManifestMismatch):
            parse_list(data, 1)

    @pytest.mark.parametrize("level", [-1, 0, MANIFEST_DEPTH_MAX + 1, 10_000])
    def test_no_list_has_another_level(self, level: int) -> None:
        with pytest.raises(ManifestMismatch):
            parse_list(write_list(level, items(2)), level)

    @given(st.binary(max_size=200))
    def test_junk_never_crashes(self, junk: bytes) -> None:
        with pytest.raises(ManifestMismatch):
            parse_list(junk, 1)


class TestHostileTree:
    def test_sizes_that_do_not_add_up_are_refused(self) -> None:
        built = build(items(40))
        content = built.content
        for size in (content.size - 1, content.size + 1):
            lying = Content(Kind.FILE, size, content.root, content.depth)
            with pytest.raises(ManifestMismatch):
                list(leaves(Built(lying, built.lists)))

    def test_dropped_doubled_or_reordered_items_are_refused_by_size_or_by_the_lists_id(self) -> None:
        chunks = items(40)
        node = root_node(build(chunks).content)
        assert node is not None
        for wrong in (chunks[1:], [*chunks, chunks[0]]):
            with pytest.raises(ManifestMismatch):
                expand(node, write_list(1, wrong))
        assert chunk_id(KEYS, BlobKind.MANIFEST, write_list(1, chunks[::-1])) != node.id

    def test_a_list_that_names_itself_ends_at_the_bottom_level(self) -> None:
        id, reads = ChunkId(b"c" * 32), []

        def read(node: Node) -> bytes:
            reads.append(node)
            return write_list(node.level, [Item(id, 5)])

        assert [leaf.size for leaf in walk(Content(Kind.FILE, 5, id, MANIFEST_DEPTH_MAX), read)] == [5]
        assert [node.level for node in reads] == [6, 5, 4, 3, 2, 1]

    def test_a_tree_of_10_to_the_9_chunks_is_walked_in_flat_memory(self) -> None:
        one_list = {
            level: write_list(level, [Item(ChunkId(bytes(32)), 512 ** (level - 1))] * 512) for level in (1, 2, 3)
        }
        walking = walk(Content(Kind.FILE, 512**3, ChunkId(bytes(32)), 3), lambda node: one_list[node.level])
        for _, leaf in zip(range(2000), walking, strict=False):
            assert leaf.size == 1

    @pytest.mark.parametrize(
        "content",
        [
            Content(Kind.FILE, 0, ChunkId(bytes(32)), 0),
            Content(Kind.FILE, 0, ChunkId(b""), 1),
            Content(Kind.FILE, 5, ChunkId(b""), 0),
            Content(Kind.FILE, 5, ChunkId(bytes(31)), 0),
            Content(Kind.FILE, -5, ChunkId(bytes(32)), 0),
            Content(Kind.FILE, CHUNK_SIZE_BYTES_MAX + 1, ChunkId(bytes(32)), 0),
            Content(Kind.FILE, FILE_SIZE_BYTES_MAX + 1, ChunkId(bytes(32)), 6),
            Content(Kind.FILE, 1 << 63, ChunkId(bytes(32)), 6),
            Content(Kind.FILE, 5, ChunkId(bytes(32)), -1),
            Content(Kind.FILE, 5, ChunkId(bytes(32)), MANIFEST_DEPTH_MAX + 1),
            Content(Kind.FILE, 5, ChunkId(bytes(32)), 10_000),
        ],
    )
    def test_a_root_that_does_not_fit_its_file_is_refused_before_anything_is_read(self, content: Content) -> None:
        with pytest.raises(ManifestMismatch):
            next(walk(content, lambda node: pytest.fail("read")))
