"""How a large version is stored at a relay: list by list, so that the next one names again only what changed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshsync.agent.stored_parts import Part, Piece, is_in_parts, parts_of, pieces_of
from meshsync.content.manifest import walk
from meshsync.content.manifest_builder import ManifestBuilder
from meshsync.content.record import Content, Kind
from meshsync.content.seal import BlobKind
from meshsync.crypto.folder_keys import FolderKeys, commitment
from meshsync.crypto.hashing import digest
from meshsync.ids import ChunkId, FolderId

EPOCH = commitment(b"k" * 32)
KEYS = FolderKeys(FolderId(b"f" * 32), b"s" * 32, {EPOCH: b"k" * 32}, EPOCH)
MANY = 3_000  # chunks: some dozens of lists, and one above them


class Manifests:
    """Files of chunks that are numbers; remembers all lists."""

    def __init__(self) -> None:
        self.lists: dict[ChunkId, bytes] = {}

    def file(self, chunks: list[int]) -> Content:
        builder = ManifestBuilder(KEYS)
        for number in chunks:
            builder.add(ChunkId(digest("chunk", number.to_bytes(8, "big"))), 100_000)
        built = builder.finish()
        self.lists.update(built.lists)
        return built.content


def pieces(parts: list[Part]) -> set[Piece]:
    return {piece for part in parts for piece in part.pieces}


@given(st.integers(600, MANY), st.integers(0, 1 << 40))
def test_parts_hold_every_chunk_and_list_and_come_children_first(count: int, start: int) -> None:
    made = Manifests()
    content = made.file([start + number for number in range(count)])
    assert is_in_parts(content)
    parts = list(parts_of(content, made.lists.get, lambda name: False))
    assert parts[-1].id == content.root
    seen: set[ChunkId] = set()
    for part in parts:
        assert seen.issuperset(part.lists)
        seen.add(part.id)
    chunks = {node.id for node in walk(content, lambda node: made.lists[node.id])}
    assert {piece.chunk for piece in pieces(parts) if piece.kind is BlobKind.CHUNK} == chunks
    assert {piece.chunk for piece in pieces(parts) if piece.kind is BlobKind.MANIFEST} == made.lists.keys()


@given(st.integers(0, MANY - 1))
def test_one_changed_chunk_makes_few_new_parts(at: int) -> None:
    made = Manifests()
    numbers = list(range(MANY))
    before = list(parts_of(made.file(numbers), made.lists.get, lambda name: False))
    stored = {part.id for part in before}
    numbers[at] = MANY + 1
    new = list(parts_of(made.file(numbers), made.lists.get, stored.__contains__))
    assert 2 <= len(new) <= 5  # the list of the chunk, a neighbour where its end moved, and those above
    assert stored.issuperset(name for part in new for name in part.lists if name not in {p.id for p in new})


def test_what_is_stored_already_has_no_parts_left() -> None:
    made = Manifests()
    content = made.file(list(range(MANY)))
    assert list(parts_of(content, made.lists.get, {content.root}.__contains__)) == []


def test_a_version_with_one_list_or_none_is_not_stored_in_parts() -> None:
    made = Manifests()
    few, one, none = made.file([1, 2, 3]), made.file([1]), made.file([])
    assert not any(map(is_in_parts, (few, one, none, Content(Kind.DIRECTORY))))
    found = pieces_of(few, made.lists.get)
    assert found is not None and [piece.kind for piece in found] == [BlobKind.MANIFEST, *[BlobKind.CHUNK] * 3]
    assert pieces_of(few, {}.get) is None
    assert len(pieces_of(one, {}.get) or ()) == 1 and pieces_of(none, {}.get) == []
    assert pieces_of(Content(Kind.DIRECTORY), {}.get) == []
