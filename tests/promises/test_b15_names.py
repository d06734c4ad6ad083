"""B15: names that no folder may hold, signed and sealed by a member: skipped with a report, the rest applies."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from meshsync.codec.canonical import encode
from meshsync.content.batch_wire import WireBatch, WireContent, WirePut
from meshsync.content.record import Content, Kind
from meshsync.errors import MalformedMessage
from meshsync.ids import ROOT, NodeId, dot, short
from tests.support.member_scene import open_scene

REFUSED = [b"..", b".", b"", b"/etc/passwd", b"a/b", b"a\0b", b"x" * 256]


def put_of(name: bytes, path: tuple[bytes, ...] | None = None) -> bytes:
    """Return a batch that this build would never write."""
    content = WireContent(Kind.FILE, 0, b"", 0, b"")
    return encode(WireBatch(0, (), (WirePut(None, content, False, 0, (), b"", name, path or (name,), ()),)))


@pytest.mark.parametrize("name", REFUSED, ids=repr)
async def test_a_name_that_is_none_makes_its_entry_unreadable_and_the_log_goes_on(tmp_path: Path, name: bytes) -> None:
    async with open_scene(tmp_path) as scene:
        mallory, carol = await scene.member(b"m"), await scene.member(b"c")
        await scene.connect(mallory)
        await scene.connect(carol)
        hostile = mallory.write_batch(put_of(name))
        await scene.until(lambda: hostile.id in scene.folder.replica.unreadable)
        await scene.gets(mallory, b"next of the same chain", b"1")
        await scene.gets(carol, b"of another", b"2")
        assert set(scene.files()) == {b"next of the same chain", b"of another"}
        report = scene.folder.replica.unreadable
        assert set(report) == {hostile.id} and isinstance(report[hostile.id], MalformedMessage)
        assert report[hostile.id].device == short(mallory.device.device)
        assert report[hostile.id].folder == short(scene.folder.id)


@pytest.mark.parametrize(
    "name", [b".meshsync", b".MeshSync", ".me\u200dshsync".encode(), b".meshsync\xef\xbb\xbf"], ids=repr
)
async def test_a_disguise_of_the_control_directory_waits_with_a_reason_and_the_rest_applies(
    tmp_path: Path, name: bytes
) -> None:
    async with open_scene(tmp_path) as scene:
        mallory = await scene.member(b"m")
        await scene.connect(mallory)
        before = sorted(path.name for path in (scene.root / ".meshsync").iterdir())
        mallory.write(mallory.put(name, mallory.hold([b"control"])))
        await scene.until(lambda: scene.folder.loop is not None and (name,) in scene.folder.loop.blocked())
        await scene.gets(mallory, b"next", b"1")
        assert scene.folder.loop is not None and scene.folder.loop.blocked()[name,]
        assert scene.files() == {b"next": b"1"}
        assert sorted(path.name for path in (scene.root / ".meshsync").iterdir()) == before


@pytest.mark.parametrize(
    "name", [b"CON", b"a\\b", b"dot.", b"line\rfeed\n", "\u202efdp.exe".encode(), b"\xff\xfe"], ids=repr
)
async def test_what_this_file_system_can_hold_arrives_byte_for_byte(tmp_path: Path, name: bytes) -> None:
    async with open_scene(tmp_path) as scene:
        mallory = await scene.member(b"m")
        await scene.connect(mallory)
        await scene.gets(mallory, name, b"1")
        assert scene.files() == {name: b"1"}


async def test_a_file_beneath_a_link_is_written_beside_it_and_never_through_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    async with open_scene(tmp_path) as scene:
        mallory = await scene.member(b"m")
        await scene.connect(mallory)
        target = Content(Kind.LINK, target=str(outside).encode())
        link = mallory.put(b"d", target)
        entry = mallory.write(link)
        beneath = replace(mallory.put(b"x", mallory.hold([b"1"])), parent=NodeId(entry.dot(0)), path=(b"d", b"x"))
        mallory.write(beneath)
        await scene.gets(mallory, b"next", b"2")
        await scene.until((scene.root / "d" / "x").is_file)
        links = [path.readlink() for path in scene.root.iterdir() if path.is_symlink()]
        assert list(outside.iterdir()) == [] and links == [outside] and not (scene.root / "d").is_symlink()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "depth"), [(b"d", 700), (b"n" * 255, 280)], ids=["deep", "long"])
async def test_directories_nested_beyond_every_path_hold_up_nothing(tmp_path: Path, name: bytes, depth: int) -> None:
    async with open_scene(tmp_path) as scene:
        mallory = await scene.member(b"m")
        await scene.connect(mallory)
        parent, index = ROOT, 0
        puts = []
        directory = mallory.put(name, Content(Kind.DIRECTORY))
        for index in range(depth):
            puts.append(replace(directory, parent=parent))
            parent = NodeId(dot(mallory.chain, 1, index))
        puts.append(replace(mallory.put(b"bottom", mallory.hold([b"1"])), parent=parent))
        mallory.write(*puts)
        await scene.gets(mallory, b"next", b"2")
        loop = scene.folder.loop
        assert loop is not None
        (scene.root / "own").write_bytes(b"3")
        (scene.root / os.fsdecode(name) / "inside").write_bytes(b"4")
        loop.look_at(None)
        await scene.until(lambda: {row.name for row in scene.folder.rows()} >= {b"own", b"inside"})
        assert loop.problem == "" and scene.folder.replica.unreadable == {}
