"""P11 on a target that folds names: twins are held with a report, never merged, replaced or dropped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from meshsync.agent.machine import SYSTEM
from meshsync.content.record import Content, Drop, Dropped, Kind, Place, Put
from meshsync.folder.types import Reason
from meshsync.ids import ROOT, NodeId
from tests.support.folding import FoldingSyscalls
from tests.support.member_scene import Member, Scene, open_scene


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_scene(tmp_path, replace(SYSTEM, syscalls=FoldingSyscalls())) as made:
        yield made


async def linked(scene: Scene) -> Member:
    member = await scene.member(b"m")
    await scene.connect(member)
    return member


def waiting(scene: Scene) -> dict[bytes, str]:
    assert scene.folder.loop is not None
    return {b"/".join(path): why for path, why in scene.folder.loop.blocked().items()}


TWINS = [(b"README", b"readme"), ("caf\u00e9".encode(), "cafe\u0301".encode()), (b"STRASSE", "straße".encode())]


@pytest.mark.parametrize(("first", "second"), TWINS)
async def test_the_second_of_two_files_waits_and_the_first_stays(scene: Scene, first: bytes, second: bytes) -> None:
    member = await linked(scene)
    await scene.gets(member, first, b"first")
    member.write(member.put(second, member.hold([b"second"])))
    await scene.until(lambda: second in waiting(scene))
    assert waiting(scene) == {second: Reason.NAME_COLLIDES.value}
    await scene.gets(member, b"another", b"is not held up")
    assert scene.files() == {first: b"first", b"another": b"is not held up"}


async def test_twin_directories_are_not_merged(scene: Scene) -> None:
    member = await linked(scene)
    one = member.write(Put(None, Content(Kind.DIRECTORY), False, 0, (), ROOT, b"Docs", (b"Docs",)))
    await scene.until(lambda: scene.files() == {b"Docs": b"/"})
    other = member.write(Put(None, Content(Kind.DIRECTORY), False, 0, (), ROOT, b"docs", (b"docs",)))
    held = member.hold([b"inside docs"])
    parent = NodeId(other.dot(0))
    member.write(Put(None, held, False, 0, (), parent, b"inside", (b"docs", b"inside")))
    inside = member.hold([b"inside Docs"])
    member.write(Put(None, inside, False, 0, (), NodeId(one.dot(0)), b"its own", (b"Docs", b"its own")))
    await scene.until(lambda: (scene.root / "Docs" / "its own").exists() and b"docs" in waiting(scene))
    assert [path.name for path in (scene.root / "Docs").iterdir()] == ["its own"]


async def test_a_twin_comes_when_the_name_is_free(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshsync.agent.folder_loop.RETRY_BLOCKED_S", 0.05)
    member = await linked(scene)
    first = member.write(member.put(b"README", member.hold([b"first"])))
    await scene.until(lambda: scene.files() == {b"README": b"first"})
    member.write(member.put(b"readme", member.hold([b"second"])))
    await scene.until(lambda: b"readme" in waiting(scene))
    version = first.dot(0)
    member.write(Place(NodeId(version), ROOT, b"old", (version,), (b"old",)))
    await scene.until(lambda: (scene.root / "readme").exists() and not waiting(scene))
    assert scene.files() == {b"old": b"first", b"readme": b"second"}


async def test_a_rename_that_changes_only_the_case_waits(scene: Scene) -> None:
    member = await linked(scene)
    first = member.write(member.put(b"note", member.hold([b"text"])))
    await scene.until(lambda: scene.files() == {b"note": b"text"})
    version = first.dot(0)
    member.write(Place(NodeId(version), ROOT, b"NOTE", (version,), (b"NOTE",)))
    await scene.until(lambda: bool(waiting(scene)))
    assert scene.files() == {b"note": b"text"}


async def test_a_held_twin_that_its_author_removes_is_forgotten(scene: Scene) -> None:
    member = await linked(scene)
    await scene.gets(member, b"README", b"first")
    second = member.write(member.put(b"readme", member.hold([b"second"])))
    await scene.until(lambda: b"readme" in waiting(scene))
    version = second.dot(0)
    member.write(Drop((Dropped(NodeId(version), (version,), version, -1),)))
    await scene.until(lambda: not waiting(scene))
    assert scene.files() == {b"README": b"first"}
