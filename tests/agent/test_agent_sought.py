"""A rejected deletion of what nobody has any more ends: it is told, holds nothing up, and can be given up (P1, P18)."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshsync.agent.decisions import Verb
from meshsync.content.chunk_ids import chunk_id
from meshsync.content.seal import BlobKind
from meshsync.roles import Role
from tests.support.member_scene import Member, Scene, open_scene

NAMES = [f"{number:02}" for number in range(12)]
LOST = {"03", "07"}


def data_of(name: str) -> bytes:
    return b"content " + name.encode()


def have(member: Member, names: set[str]) -> None:
    for name in names:
        member.plain[chunk_id(member.keys, BlobKind.CHUNK, data_of(name))] = data_of(name)


async def held_deletion(scene: Scene) -> str:
    """Publish files, remove them all; return the id under which that is held."""
    loop = scene.folder.loop
    assert loop is not None
    for name in NAMES:
        (scene.root / name).write_bytes(data_of(name))
    await scene.until(lambda: loop.idle and len(scene.folder.synced.rows) == len(NAMES))
    for name in NAMES:
        (scene.root / name).unlink()
    await scene.until(lambda: loop.settled and bool(scene.folder.guard.holds))
    (hold,) = scene.folder.guard.holds.values()
    return hold.id


def expected(names: set[str]) -> dict[bytes, bytes]:
    return {name.encode(): data_of(name) for name in names}


@pytest.mark.slow
async def test_what_nobody_has_is_told_and_the_rest_comes_back(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        loop = scene.folder.loop
        assert loop is not None
        owner = await scene.member(b"m", Role.OWNER)
        hold = await held_deletion(scene)
        have(owner, set(NAMES) - LOST)
        await scene.connect(owner)
        await scene.until(lambda: bool(scene.folder.fetcher.source_names()))
        decided = await loop.decisions.ask(hold, Verb.REJECT)
        assert decided.lost == tuple((name.encode(),) for name in sorted(LOST))
        await scene.until(lambda: loop.settled and scene.files() == expected(set(NAMES) - LOST))
        assert loop.idle and not scene.folder.fetcher.pending
        assert set(scene.folder.sought.lost) == {(name.encode(),) for name in LOST}
        await scene.gets(owner, b"other", b"comes in")
        # A device that was away has them.
        other = await scene.member(b"n", Role.OWNER)
        have(other, LOST)
        await scene.connect(other)
        await scene.until(lambda: expected(set(NAMES)).items() <= scene.files().items())
        await scene.until(lambda: loop.idle and not scene.folder.sought.lost and scene.folder.sought.look_s is None)


@pytest.mark.slow
async def test_what_nobody_has_can_be_given_up_and_nobody_waits_for_it_any_more(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        loop = scene.folder.loop
        assert loop is not None
        hold = await held_deletion(scene)
        decided = await loop.decisions.ask(hold, Verb.REJECT)
        assert len(decided.lost) == len(NAMES)
        await scene.until(lambda: loop.idle)
        given_up = await loop.decisions.ask(hold, Verb.RELEASE)
        assert given_up.count == len(NAMES)
        await scene.until(lambda: loop.idle and not scene.folder.sought.lost)
        assert scene.folder.replica.view.resolve((b"03",)) is None and scene.files() == {}


@pytest.mark.slow
async def test_another_file_in_place_of_what_nobody_has_is_what_is_meant(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        loop = scene.folder.loop
        assert loop is not None
        hold = await held_deletion(scene)
        await loop.decisions.ask(hold, Verb.REJECT)
        (scene.root / "03").write_bytes(b"written anew")
        (scene.root / "07").write_bytes(data_of("07"))
        await scene.until(lambda: loop.idle and not {(b"03",), (b"07",)} & set(scene.folder.sought.lost))
        assert scene.files() == {b"03": b"written anew", b"07": data_of("07")}
        shown = [path for path, _ in scene.folder.replica.view.walk()]
        assert sorted(shown) == [(name.encode(),) for name in NAMES]
