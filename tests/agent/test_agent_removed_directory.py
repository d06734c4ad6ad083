"""With a directory that is removed goes what should have lain in it and its user took away unseen (P2)."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from meshsync.agent.machine import SYSTEM
from meshsync.content.record import Content, Drop, Dropped, Kind, Put
from meshsync.folder.syscalls import Syscalls
from meshsync.ids import ROOT, NodeId, dot
from meshsync.roles import Role
from tests.support.member_scene import open_scene


class TakenFirst(Syscalls):
    """A user who removes a file in the moment in which it is to be removed."""

    taken = 0

    def rename(self, old_fd: int, old: bytes, new_fd: int, new: bytes) -> None:
        if old == b"inside" and not self.taken:
            self.taken += 1
            os.unlink(old, dir_fd=old_fd)
        super().rename(old_fd, old, new_fd, new)


async def test_nothing_is_remembered_of_what_was_in_it(tmp_path: Path) -> None:
    calls = TakenFirst()
    async with open_scene(tmp_path, replace(SYSTEM, syscalls=calls)) as scene:
        owner = await scene.member(b"m", Role.OWNER)
        await scene.connect(owner)
        content = owner.hold([b"theirs"])
        chain = owner.write(Put(None, Content(Kind.DIRECTORY), False, 0, (), ROOT, b"c", (b"c",))).chain
        directory, inside = dot(chain, 1, 0), dot(chain, 2, 0)
        owner.write(Put(None, content, False, 0, (), NodeId(directory), b"inside", (b"c", b"inside")))
        await scene.until((scene.root / "c" / "inside").exists)
        listed = (
            Dropped(NodeId(directory), (directory,), directory, -1),
            Dropped(NodeId(inside), (inside,), inside, 0),
        )
        owner.write(Drop(listed))
        loop = scene.folder.loop
        assert loop is not None
        await scene.until(lambda: bool(calls.taken) and not scene.files() and loop.settled)
        assert list(scene.folder.synced.rows) == []
