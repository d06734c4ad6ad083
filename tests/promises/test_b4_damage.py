"""B4 to B7 at the device: what a member serves that is not the chunk asked for is refused and asked for elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from meshsync.agent import peer_source
from meshsync.content.chunk_ids import chunk_id
from meshsync.content.seal import BlobKind, seal_chunk
from meshsync.crypto.folder_keys import FolderKeys, commitment
from meshsync.ids import ChunkId, FolderId
from meshsync.transport.base import Priority
from meshsync.wire.peer_messages import ChunkAbsent, ChunkFrame, Message, WantItem
from tests.support.member_scene import WAIT_S, Answer, Member, honest, open_scene

CHUNKS = [bytes([number]) * 20_000 for number in range(40)]
WHOLE = b"".join(CHUNKS)


def sealed(member: Member, index: int, kind: BlobKind, data: bytes, keys: FolderKeys | None = None) -> Message:
    keys = keys or member.keys
    return ChunkFrame(index, 0, member.keys.current, seal_chunk(keys, keys.current, kind, data))


def flipped(kind: BlobKind) -> Answer:
    def answer(member: Member, index: int, item: WantItem) -> Message:
        frame = honest(member, index, item)
        if item.kind != kind or not isinstance(frame, ChunkFrame):
            return frame
        middle = len(frame.sealed) // 2
        return replace_sealed(
            frame, frame.sealed[:middle] + bytes([frame.sealed[middle] ^ 1]) + frame.sealed[middle + 1 :]
        )

    return answer


def replace_sealed(frame: ChunkFrame, data: bytes) -> ChunkFrame:
    return ChunkFrame(frame.index, frame.form, frame.epoch, data)


def swapped(member: Member, index: int, item: WantItem) -> Message:
    """Another chunk of the same file, honestly sealed."""
    if item.kind != BlobKind.CHUNK:
        return honest(member, index, item)
    other = next(data for data in CHUNKS if chunk_id(member.keys, BlobKind.CHUNK, data) != item.chunk)
    return sealed(member, index, BlobKind.CHUNK, other)


def of_another_folder(member: Member, index: int, item: WantItem) -> Message:
    other = FolderKeys(FolderId(b"x" * 32), member.keys.secret, member.keys.epochs, member.keys.current)
    return sealed(member, index, BlobKind(item.kind), member.plain[ChunkId(item.chunk)], other)


def of_another_epoch(member: Member, index: int, item: WantItem) -> Message:
    epoch = commitment(b"z" * 32)
    other = FolderKeys(member.keys.folder, member.keys.secret, {epoch: b"z" * 32}, epoch)
    return sealed(member, index, BlobKind(item.kind), member.plain[ChunkId(item.chunk)], other)


def chunk_as_manifest(member: Member, index: int, item: WantItem) -> Message:
    kind = BlobKind.CHUNK if item.kind == BlobKind.MANIFEST else BlobKind.MANIFEST
    return sealed(member, index, kind, member.plain[ChunkId(item.chunk)])


def bomb(member: Member, index: int, item: WantItem) -> Message:
    return sealed(member, index, BlobKind(item.kind), bytes(1 << 20))


def delta_nobody_asked_for(member: Member, index: int, item: WantItem) -> Message:
    frame = sealed(member, index, BlobKind.DELTA, b"\0" * 40)
    assert isinstance(frame, ChunkFrame)
    return ChunkFrame(frame.index, 1, frame.epoch, frame.sealed)


def nothing_sealed(member: Member, index: int, item: WantItem) -> Message:
    return ChunkFrame(index, 0, member.keys.current, b"")


DAMAGE: dict[str, Answer] = {
    "B4 a bit flipped in each chunk": flipped(BlobKind.CHUNK),
    "B4 a bit flipped in each list": flipped(BlobKind.MANIFEST),
    "B5 chunks swapped": swapped,
    "B6 a blob of another folder": of_another_folder,
    "B6 a blob of another epoch": of_another_epoch,
    "B6 a chunk as manifest and a manifest as chunk": chunk_as_manifest,
    "B19 a decompression bomb": bomb,
    "B19 a delta without a base": delta_nobody_asked_for,
    "B19 an empty blob": nothing_sealed,
}


@pytest.mark.parametrize("answer", DAMAGE.values(), ids=DAMAGE.keys())
async def test_only_what_was_damaged_is_fetched_from_the_other_member(tmp_path: Path, answer: Answer) -> None:
    async with open_scene(tmp_path) as scene:
        mallory, carol = await scene.member(b"m"), await scene.member(b"c")
        mallory.answer = answer
        content = mallory.hold(CHUNKS)
        carol.hold(CHUNKS)
        await scene.connect(mallory)
        mallory.write(mallory.put(b"file", content))
        await scene.until(lambda: bool(scene.folder.damaged))
        assert scene.files() == {} and set(scene.folder.damaged) == {"file"}
        await scene.connect(carol)
        await scene.until(lambda: scene.files().get(b"file") == WHOLE)
        assert scene.folder.damaged == {} and len(carol.asked) == len(set(carol.asked))


ORDER: dict[str, Callable[[int], int]] = {"reordered": lambda index: 1 - index, "doubled": lambda index: 0}


@pytest.mark.parametrize("at", ORDER.values(), ids=ORDER.keys())
async def test_b5_answers_out_of_order_end_the_link_and_the_old_file_stays(
    tmp_path: Path, at: Callable[[int], int]
) -> None:
    async with open_scene(tmp_path) as scene:
        mallory, carol = await scene.member(b"m"), await scene.member(b"c")
        await scene.connect(mallory)
        first = mallory.write(mallory.put(b"file", mallory.hold([b"old"])))
        await scene.until(lambda: scene.files() == {b"file": b"old"})

        def answer(member: Member, index: int, item: WantItem) -> Message:
            return honest(member, at(index), item) if item.kind == BlobKind.CHUNK else honest(member, index, item)

        mallory.answer = answer
        content = mallory.hold(CHUNKS)
        put = replace(mallory.put(b"file", content), node=first.dot(0), replaces=(first.dot(0),))  # type: ignore[arg-type]
        mallory.write(put)
        assert mallory.link is not None
        async with asyncio.timeout(WAIT_S):
            await mallory.link.wait_closed()
        assert scene.files() == {b"file": b"old"}
        carol.hold(CHUNKS)
        await scene.connect(carol)
        await scene.until(lambda: scene.files() == {b"file": WHOLE})


async def test_b7_a_valid_seal_around_another_plaintext_is_no_chunk(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        mallory = await scene.member(b"m")
        await scene.connect(mallory)
        mallory.answer = lambda member, index, item: sealed(member, index, BlobKind(item.kind), b"another plaintext")
        mallory.write(mallory.put(b"file", mallory.hold([b"one plaintext"])))
        await scene.until(lambda: bool(scene.folder.damaged))
        assert scene.files() == {} and scene.folder.damaged["file"]


async def test_b5_a_member_that_says_it_has_nothing_delays_nothing(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        mallory, carol = await scene.member(b"m"), await scene.member(b"c")
        await scene.connect(mallory)
        await scene.connect(carol)
        mallory.answer = lambda member, index, item: ChunkAbsent(index)
        await scene.gets(carol, b"of carol", WHOLE[:50_000])
        carol.hold(CHUNKS)
        mallory.write(mallory.put(b"announced by mallory", mallory.hold(CHUNKS)))
        carol.announce()
        await scene.until(lambda: scene.files().get(b"announced by mallory") == WHOLE)


async def test_b5_a_member_that_stays_silent_holds_up_nothing_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_source, "FETCH_ANSWER_S", 0.05)
    async with open_scene(tmp_path) as scene:
        mallory, carol = await scene.member(b"m"), await scene.member(b"c")
        mallory.answer = lambda member, index, item: None
        carol.hold(CHUNKS)
        await scene.connect(mallory)
        mallory.write(mallory.put(b"file", mallory.hold(CHUNKS)))
        await scene.until(lambda: bool(mallory.asked))
        await scene.connect(carol)
        await scene.until(lambda: scene.files().get(b"file") == WHOLE)
        assert mallory.link is not None
        await (await mallory.link.open_stream(Priority.BULK)).send(b"")  # silence costs the stream, not the link
