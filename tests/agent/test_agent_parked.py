"""What a move keeps out of the tree for a moment, and somebody takes away there, is had anew (P2, P20)."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from meshsync.agent.machine import SYSTEM
from meshsync.content.record import Content, Kind, Put
from meshsync.folder.linux import Status
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


class Unseen(Syscalls):
    """A disk that exchanges two things once and then lets neither be looked at nor be exchanged back."""

    failing = 0
    exchanged = 0

    def exchange(self, a: int, first: bytes, b: int, second: bytes) -> None:
        if self.exchanged == 1:
            self.exchanged = 2
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().exchange(a, first, b, second)
        self.exchanged += 1

    def status(self, fd: int, name: bytes = b"") -> Status:
        if self.exchanged == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().status(fd, name)


class Edited(Unseen):
    """The same, and the user's program goes on writing to the file where it is."""

    def exchange(self, a: int, first: bytes, b: int, second: bytes) -> None:
        super().exchange(a, first, b, second)
        if self.exchanged == 1:
            at = next(number for number, name in ((a, first), (b, second)) if name.startswith(b"parked-"))
            name = first if at == a else second
            with open(os.open(name, os.O_WRONLY | os.O_APPEND, dir_fd=at), "ab") as file:
                file.write(b" and more")


@pytest.mark.parametrize(("disk", "content"), [(Unseen, b"mine"), (Edited, b"mine and more")])
async def test_what_changed_unseen_out_of_the_tree_comes_back_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: type[Unseen], content: bytes
) -> None:
    monkeypatch.setattr("meshsync.agent.folder_loop.RETRY_BLOCKED_S", 0.05)
    calls = disk()
    async with open_scene(tmp_path, replace(SYSTEM, syscalls=calls)) as scene:
        owner = await scene.member(b"m", Role.OWNER)
        await scene.connect(owner)
        (scene.root / "c").write_bytes(b"mine")
        await scene.until(lambda: resolves(scene, b"c"))
        owner.write(Put(None, DIRECTORY, False, 0, (), ROOT, b"c", (b"c",)))
        loop = scene.folder.loop
        assert loop is not None
        await scene.until(lambda: calls.exchanged == 2 and sorted(scene.files().values()) == [b"/", content])
        await scene.until(lambda: loop.settled)
        shown = {row.content.size for row in scene.folder.synced.rows.values() if row.kind is Kind.FILE}
        assert shown == {len(content)}
        assert not list((scene.root / ".meshsync").glob("parked-*"))


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
