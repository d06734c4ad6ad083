"""A user who moves or removes what apply has only just put in place is heard (P1, P13)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from meshsync.agent.machine import SYSTEM
from meshsync.content.record import Content, Drop, Dropped, Kind
from meshsync.folder.syscalls import Syscalls
from meshsync.ids import ROOT
from tests.support.member_scene import open_scene

NAME = b"thing"


class UserAtOnce(Syscalls):
    """The system with a user who acts as soon as something was put in place under NAME."""

    def __init__(self, root: Path, act: Callable[[Path], object]) -> None:
        self._path = root / os.fsdecode(NAME)
        self._act = act
        self.acted = False

    def exchange(self, old_fd: int, old: bytes, new_fd: int, new: bytes) -> None:
        super().exchange(old_fd, old, new_fd, new)
        self._user(old, new)

    def rename_new(self, old_fd: int, old: bytes, new_fd: int, new: bytes) -> None:
        super().rename_new(old_fd, old, new_fd, new)
        self._user(old, new)

    def _user(self, old: bytes, new: bytes) -> None:
        if NAME in (old, new) and self._path.is_dir() and not self.acted:
            self.acted = True
            self._act(self._path)


@pytest.mark.parametrize(
    ("act", "left"),
    [(lambda path: path.rename(path.with_name("elsewhere")), {b"elsewhere"}), (shutil.rmtree, set())],
    ids=["moved", "removed"],
)
async def test_a_directory_that_took_the_place_of_a_file_and_went_at_once_stays_gone(
    tmp_path: Path, act: Callable[[Path], object], left: set[bytes]
) -> None:
    user = UserAtOnce(tmp_path / "root", act)
    async with open_scene(tmp_path, replace(SYSTEM, syscalls=user)) as scene:
        folder, loop = scene.folder, scene.folder.loop
        assert loop is not None
        (scene.root / os.fsdecode(NAME)).write_bytes(b"a file")
        await scene.until(lambda: loop.idle and folder.replica.view.resolve((NAME,)) is not None)
        shown = folder.replica.view.resolve((NAME,))
        assert shown is not None
        face = shown.face
        member = await scene.member(b"m")
        await scene.connect(member)
        drop = Drop((Dropped(face.node, face.versions, face.placement, -1),), ())
        directory = member.put(NAME, Content(Kind.DIRECTORY))
        assert directory.parent == ROOT
        member.write(drop, directory)
        await scene.until(lambda: user.acted)
        await scene.until(lambda: loop.idle and {path[0] for path, _ in folder.replica.view.walk()} == left)
        assert scene.files().keys() == left
