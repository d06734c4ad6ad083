"""A device that may only read: its user's changes stay on its disk, are told by `status`, and hold nothing up (P1)."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshsync.content.record import Attr, Drop, Dropped, Put
from meshsync.ids import ROOT
from meshsync.metalog.membership_entry import ChangeRole
from meshsync.roles import Role
from tests.support.member_scene import Member, Scene, open_scene


async def demoted(scene: Scene) -> Member:
    """Make the device under test a reader; return the linked owner whom the test plays."""
    owner = await scene.member(b"m", Role.OWNER)
    await scene.folder.replica.change_membership(ChangeRole(scene.own.device, Role.READER))
    assert not scene.folder.replica.membership.may_write(scene.own.device)
    await scene.connect(owner)
    return owner


def over(scene: Scene, owner: Member, name: bytes, data: bytes) -> Put:
    shown = scene.folder.replica.view.resolve((name,))
    assert shown is not None
    face = shown.face
    return Put(face.node, owner.hold([data]), False, 0, face.versions, ROOT, name, (name,))


@pytest.mark.slow
async def test_a_reader_s_edit_stays_is_told_and_blocks_nothing_also_after_everything_is_planned(
    tmp_path: Path,
) -> None:
    async with open_scene(tmp_path) as scene:
        loop = scene.folder.loop
        assert loop is not None
        owner = await demoted(scene)
        await scene.gets(owner, b"note", b"theirs")
        await scene.until(lambda: loop.settled)
        (scene.root / "note").write_bytes(b"mine")
        (scene.root / "new").write_bytes(b"also mine")
        await scene.until(lambda: loop.only_here() == {(b"note",), (b"new",)})
        loop._replan = True  # as after a restart
        loop.look_at(None)
        await scene.gets(owner, b"other", b"comes in")
        await scene.until(lambda: loop.settled)
        assert loop.problem == "" and loop.only_here() == {(b"note",), (b"new",)}
        assert scene.files() == {b"note": b"mine", b"new": b"also mine", b"other": b"comes in"}
        assert all(head.chain == owner.chain for head in scene.folder.replica.chains.heads())


@pytest.mark.slow
async def test_what_comes_replaces_a_reader_s_edit_which_stays_beside_it(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        loop = scene.folder.loop
        assert loop is not None
        owner = await demoted(scene)
        await scene.gets(owner, b"note.txt", b"theirs")
        await scene.until(lambda: loop.settled)
        (scene.root / "note.txt").write_bytes(b"mine")
        (scene.root / "new").write_bytes(b"mine too")
        await scene.until(lambda: len(loop.only_here()) == 2)
        owner.write(over(scene, owner, b"note.txt", b"theirs again"), owner.put(b"new", owner.hold([b"theirs new"])))
        wanted = {
            b"note.txt": b"theirs again",
            b"note (conflict, only here).txt": b"mine",
            b"new": b"theirs new",
            b"new (conflict, only here)": b"mine too",
        }
        await scene.until(lambda: loop.settled and scene.files() == wanted)
        assert loop.only_here() == {(name,) for name in wanted if b"only here" in name}


@pytest.mark.slow
async def test_what_others_remove_or_edit_after_a_reader_moved_edited_or_removed_it(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        loop = scene.folder.loop
        assert loop is not None
        owner = await demoted(scene)
        for name in (b"edited", b"moved", b"removed"):
            await scene.gets(owner, name, b"old " + name)
        await scene.until(lambda: loop.settled)
        (scene.root / "edited").write_bytes(b"mine")
        (scene.root / "moved").rename(scene.root / "elsewhere")
        (scene.root / "removed").unlink()
        await scene.until(lambda: len(loop.only_here()) == 3)
        shown = scene.folder.replica.view.resolve((b"edited",))
        assert shown is not None
        drop = Drop((Dropped(shown.face.node, shown.face.versions, shown.face.placement, -1),), ())
        owner.write(drop, over(scene, owner, b"moved", b"new moved"), over(scene, owner, b"removed", b"new removed"))
        wanted = {
            b"edited": b"mine",
            b"elsewhere": b"old moved",
            b"moved": b"new moved",
            b"removed": b"new removed",
        }
        await scene.until(lambda: loop.settled and scene.files() == wanted)
        assert loop.only_here() == {(b"edited",), (b"elsewhere",)}


@pytest.mark.slow
async def test_a_writer_that_is_demoted_keeps_what_it_had_not_published(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        loop = scene.folder.loop
        assert loop is not None
        owner = await demoted(scene)
        (scene.root / "mine").write_bytes(b"not told")
        await scene.gets(owner, b"theirs", b"comes in")
        await scene.until(lambda: loop.settled and loop.only_here() == {(b"mine",)})
        assert scene.files() == {b"mine": b"not told", b"theirs": b"comes in"}


@pytest.mark.slow
async def test_an_exec_bit_that_comes_overtakes_a_reader_s_edit_as_a_version_does(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        loop = scene.folder.loop
        assert loop is not None
        owner = await demoted(scene)
        await scene.gets(owner, b"tool", b"theirs")
        await scene.until(lambda: loop.settled)
        (scene.root / "tool").write_bytes(b"mine")
        await scene.until(lambda: loop.only_here() == {(b"tool",)})
        shown = scene.folder.replica.view.resolve((b"tool",))
        assert shown is not None
        owner.write(Attr(shown.face.node, True))
        wanted = {b"tool": b"theirs", b"tool (conflict, only here)": b"mine"}
        await scene.until(lambda: loop.settled and scene.files() == wanted)
        assert (scene.root / "tool").stat().st_mode & 0o100
