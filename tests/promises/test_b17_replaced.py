"""B17: links are put where the agent writes, in the worst moment. Nothing outside is touched, neither content nor mode
nor time.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from meshsync.agent.machine import SYSTEM
from meshsync.content.record import Attr, Drop, Dropped, Put
from meshsync.folder.syscalls import Syscalls
from meshsync.ids import ROOT, NodeId
from tests.support.member_scene import Member, Scene, open_scene


class Swapping(Syscalls):
    """While `armed`, whoever opens `f` for reading, or to set what belongs to it, finds a link to `outside` there."""

    def __init__(self, outside: Path) -> None:
        super().__init__()
        self.outside, self.armed, self.times = outside, False, 0

    def open_file(self, fd: int, name: bytes) -> int:
        if not self.armed or name != b"f":
            return super().open_file(fd, name)
        self.times += 1
        os.rename(name, b"f~", src_dir_fd=fd, dst_dir_fd=fd)
        os.symlink(self.outside, name, dir_fd=fd)
        try:
            return super().open_file(fd, name)
        finally:
            os.unlink(name, dir_fd=fd)
            os.rename(b"f~", name, src_dir_fd=fd, dst_dir_fd=fd)


async def arrives(scene: Scene, member: Member, name: str) -> None:
    member.write(member.put(name.encode(), member.hold([b"1"])))
    await scene.until((scene.root / name).is_file)


def state_of(victim: Path) -> tuple[bytes, int, int, int]:
    stat = victim.lstat()
    return victim.read_bytes(), stat.st_mode, stat.st_mtime_ns, stat.st_ctime_ns


async def test_mode_and_time_stop_at_a_link_that_took_the_place_and_nothing_is_read_through_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    victim = outside / "victim"
    victim.write_bytes(b"safe")
    victim.chmod(0o640)
    before = state_of(victim)
    syscalls = Swapping(victim)
    async with open_scene(tmp_path, dataclasses.replace(SYSTEM, syscalls=syscalls)) as scene:
        mallory = await scene.member(b"m")
        await scene.connect(mallory)
        version = mallory.write(mallory.put(b"f", mallory.hold([b"0"]))).dot(0)
        await scene.until(lambda: scene.files() == {b"f": b"0"})
        node = NodeId(version)
        syscalls.armed = True
        mallory.write(Attr(node, True))
        await arrives(scene, mallory, "beside")
        await scene.until(lambda: syscalls.times > 0)
        assert state_of(victim) == before
        touched = Put(node, mallory.hold([b"0"]), True, 10**9, (version,), ROOT, b"f", (b"f",))
        version = mallory.write(touched).dot(0)
        await arrives(scene, mallory, "another")
        mallory.write(Drop((Dropped(node, (version,), version, -1),)))
        await arrives(scene, mallory, "last")
        assert state_of(victim) == before and list(outside.iterdir()) == [victim]
        shown = [shown.content for _, shown in scene.folder.replica.view.walk()]
        assert mallory.hold([b"safe"]) not in shown


async def test_a_staging_area_that_became_a_link_leads_nowhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    async with open_scene(tmp_path) as scene:
        mallory = await scene.member(b"m")
        await scene.connect(mallory)
        staging = scene.root / ".meshsync" / "staging"
        staging.rename(tmp_path / "aside")
        staging.symlink_to(outside)
        mallory.write(mallory.put(b"f", mallory.hold([b"1"])))
        loop = scene.folder.loop
        assert loop is not None
        await scene.until(lambda: (b"f",) in loop.blocked() or b"f" in scene.files() or bool(loop.problem))
        assert list(outside.iterdir()) == []
        staging.unlink()
        (tmp_path / "aside").rename(staging)
        await scene.gets(mallory, b"next", b"2")
        assert list(outside.iterdir()) == []


async def test_a_link_with_the_name_of_a_coming_file_is_kept_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"safe")
    async with open_scene(tmp_path) as scene:
        mallory = await scene.member(b"m")
        await scene.connect(mallory)
        (scene.root / "f").symlink_to(outside)
        coming = dataclasses.replace(mallory.put(b"f", mallory.hold([b"coming"])), executable=True, mtime_ns=10**9)
        mallory.write(coming)
        await scene.until(
            lambda: any(path.is_file() and path.read_bytes() == b"coming" for path in scene.root.glob("f*"))
        )
        assert [path.readlink() for path in scene.root.iterdir() if path.is_symlink()] == [outside]
        assert outside.read_bytes() == b"safe" and outside.stat().st_mtime_ns != 10**9
        assert not outside.stat().st_mode & 0o111
