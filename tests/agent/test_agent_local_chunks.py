"""Chunks that lie in the user's own files are what they are called, or they are not given out (P19)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from meshsync.agent.local_chunks import LocalChunks
from meshsync.content.chunk_ids import chunk_id
from meshsync.content.seal import BlobKind
from meshsync.crypto.folder_keys import FolderKeys, commitment
from meshsync.folder.reader import read_ranges
from meshsync.ids import ChunkId, FolderId, NodeId
from meshsync.index.chunk_rows import ChunkRows
from meshsync.index.database import Database
from meshsync.limits import RANGES_PER_CHUNK_MAX
from tests.support.folder_tree import FolderTree

EPOCH = commitment(b"k" * 32)
KEYS = FolderKeys(FolderId(b"f" * 32), b"s" * 32, {EPOCH: b"k" * 32}, EPOCH)
FIRST, SECOND = b"first chunk", b"the second"
ONE, OTHER = NodeId(b"1" * 32), NodeId(b"2" * 32)
PATHS = {ONE: (b"one",), OTHER: (b"other",)}


def name_of(data: bytes) -> ChunkId:
    return chunk_id(KEYS, BlobKind.CHUNK, data)


class Files:
    """Two files of the same two chunks, as the index knows them."""

    def __init__(self, path: Path) -> None:
        (path / "root").mkdir()
        self.tree = FolderTree(path / "root")
        self.database = Database(path / "index.db")
        rows = ChunkRows(self.database)
        for node, (name,) in PATHS.items():
            (self.tree.path / name.decode()).write_bytes(FIRST + SECOND)
            rows.set_file(node, [(name_of(FIRST), len(FIRST)), (name_of(SECOND), len(SECOND))])
        self.stale: list[tuple[bytes, ...]] = []
        self.chunks = LocalChunks(
            rows, lambda at, ranges: read_ranges(self.tree.root, at, ranges), PATHS.get, lambda: KEYS, self.stale.append
        )

    def edit(self, name: str, data: bytes) -> None:
        (self.tree.path / name).write_bytes(data)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    made = Files(tmp_path)
    yield made
    made.database.close()
    made.tree.close()


def test_chunks_are_read_from_where_they_lie(files: Files) -> None:
    assert files.chunks.find_chunks([name_of(FIRST), name_of(SECOND)]) == {
        name_of(FIRST): FIRST,
        name_of(SECOND): SECOND,
    }
    assert files.stale == []


def test_a_range_that_was_edited_is_passed_over_and_told(files: Files) -> None:
    files.edit("one", b"FIRST" + FIRST[5:] + SECOND)
    assert files.chunks.find_chunks([name_of(FIRST), name_of(SECOND)]) == {
        name_of(FIRST): FIRST,
        name_of(SECOND): SECOND,
    }
    assert files.stale == [PATHS[ONE]]


def test_what_lies_nowhere_any_more_is_not_given_out(files: Files) -> None:
    for name in ("one", "other"):
        files.edit(name, b"x" * len(FIRST) + SECOND)
    assert files.chunks.find_chunks([name_of(FIRST)]) == {}
    assert files.stale == [PATHS[ONE], PATHS[OTHER]]
    (files.tree.path / "one").unlink()
    assert files.chunks.find_chunks([name_of(SECOND)]) == {name_of(SECOND): SECOND}


def test_a_chunk_that_is_longer_here_than_stated_is_not_read(files: Files) -> None:
    assert files.chunks.find_chunks([name_of(FIRST)], {name_of(FIRST): len(FIRST) - 1}) == {}
    assert files.stale == []


def test_a_file_that_repeats_a_chunk_and_holds_it_no_more_hides_no_other(files: Files) -> None:
    ChunkRows(files.database).set_file(ONE, [(name_of(FIRST), len(FIRST))] * (RANGES_PER_CHUNK_MAX + 1))
    files.edit("one", b"something else")
    assert files.chunks.find_chunks([name_of(FIRST)]) == {name_of(FIRST): FIRST}
