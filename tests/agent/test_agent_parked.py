"""What a move keeps out of the tree for a moment, and somebody takes away there, is had anew (P2, P20)."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from meshsync.agent.machine import SYSTEM
from meshsync.content.record import Content, Kind, Put
from meshsync.folder.syscalls import Syscalls
from meshsync.ids import ROOT
from meshsync.roles import Role
from tests.support.member_scene import Scene, open_scene

DIRECTORY = Content(Kind.DIRECTORY)


class TakenAway(Syscalls):
    """A disk that loses the first thing that is moved back from out of the tree."""

    lost = 0

    def rename_new(self, old_fd: int, old: bytes, new_fd: int, new: bytes) -> None:
        if old.startswith(b"parked-") and not self.lost:
            self.lost += 1
            os.unlink(old, dir_fd=old_fd)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().rename_new(old_fd, old, new_fd, new)


async def test_a_file_that_is_lost_out_of_the_tree_is_fetched_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshsync.agent.folder_loop.RETRY_BLOCKED_S", 0.05)
    calls = TakenAway()
    async with open_scene(tmp_path, replace(SYSTEM, syscalls=calls)) as scene:
        owner = await scene.member(b"m", Role.OWNER)
        await scene.connect(owner)
        (scene.root / "c").write_bytes(b"mine")
        await scene.until(lambda: resolves(scene, b"c"))
        owner.hold([b"mine"])
        owner.write(Put(None, DIRECTORY, False, 0, (), ROOT, b"c", (b"c",)))
        loop = scene.folder.loop
        assert loop is not None
        await scene.until(lambda: bool(calls.lost) and sorted(scene.files().values()) == [b"/", b"mine"])
        await scene.until(lambda: loop.settled)
        assert not list((scene.root / ".meshsync").glob("parked-*"))


def resolves(scene: Scene, name: bytes) -> bool:
    return scene.folder.replica.view.resolve((name,)) is not None
