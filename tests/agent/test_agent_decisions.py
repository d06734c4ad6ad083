"""A decision about a hold is carried out whole, or the files are as they were and whoever asked is told why (P5)."""

from __future__ import annotations

import asyncio
import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from meshsync.agent.decisions import Verb
from meshsync.agent.machine import SYSTEM
from meshsync.errors import NotFound, ResourceError
from meshsync.folder.syscalls import Syscalls
from meshsync.limits import SAFETY_CHANGES_MIN
from tests.support.member_scene import Scene, open_scene

COUNT = SAFETY_CHANGES_MIN + 1
NAMES = [f"{number:03}" for number in range(COUNT)]


class NoLinks(Syscalls):
    """A file system without second names. From `refuse` on it refuses every new file below the kept area."""

    def __init__(self) -> None:
        self.left = -1
        self.absent: set[str] = set()
        self.root = Path()

    def link(self, old_fd: int, old: bytes, new_fd: int, new: bytes) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    def create(self, fd: int, name: bytes) -> int:
        if os.fsdecode(name) in NAMES:
            self._look()
            if self.left == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.left -= 1
        return super().create(fd, name)

    def rename_new(self, old_fd: int, old: bytes, new_fd: int, new: bytes) -> None:
        super().rename_new(old_fd, old, new_fd, new)
        if os.fsdecode(old) in NAMES:
            self._look()

    def _look(self) -> None:
        self.absent.update(name for name in NAMES if not (self.root / name).exists())


def write_all(scene: Scene, word: str) -> None:
    for name in NAMES:
        (scene.root / name).write_text(f"{word} {name}")


def reads(scene: Scene, word: str) -> bool:
    return all((scene.root / name).read_text() == f"{word} {name}" for name in NAMES)


async def held_rewrite(scene: Scene) -> str:
    """Publish files, rewrite them all; return the id under which that is held."""
    loop = scene.folder.loop
    assert loop is not None
    write_all(scene, "old")
    await scene.until(lambda: loop.idle and len(scene.folder.synced.rows) == COUNT)
    write_all(scene, "new")
    await scene.until(lambda: loop.settled and sum(hold.count for hold in scene.folder.guard.holds.values()) == COUNT)
    (hold,) = scene.folder.guard.holds.values()
    return hold.id


@pytest.mark.slow
async def test_a_rejection_that_fails_half_way_leaves_every_file_at_its_path(tmp_path: Path) -> None:
    disk = NoLinks()
    async with open_scene(tmp_path, replace(SYSTEM, syscalls=disk)) as scene:
        loop = scene.folder.loop
        assert loop is not None
        hold = await held_rewrite(scene)
        disk.root, disk.left = scene.root, 5
        with pytest.raises(ResourceError) as refused:
            await loop.decisions.ask(hold, Verb.REJECT)
        assert refused.value.path and refused.value.next_step
        assert reads(scene, "new") and not disk.absent
        assert scene.folder.guard.find(hold) is not None


@pytest.mark.slow
async def test_a_rejection_without_second_names_keeps_copies_and_brings_the_old_files(tmp_path: Path) -> None:
    disk = NoLinks()
    async with open_scene(tmp_path, replace(SYSTEM, syscalls=disk)) as scene:
        loop = scene.folder.loop
        assert loop is not None
        hold = await held_rewrite(scene)
        disk.root = scene.root
        decided = await loop.decisions.ask(hold, Verb.REJECT)
        kept = {path.name: path.read_text() for path in Path(decided.kept_in).iterdir()}
        assert kept == {name: f"new {name}" for name in NAMES}
        assert reads(scene, "new") and not disk.absent


async def test_who_decides_when_the_folder_is_closed_is_told(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        loop = scene.folder.loop
        assert loop is not None
        early = asyncio.create_task(loop.decisions.ask("123456", Verb.RELEASE))
        with pytest.raises(NotFound):
            await early
    with pytest.raises(ResourceError):
        await loop.decisions.ask("123456", Verb.RELEASE)
