"""B23: clocks ten years off. (A full disk and a full relay: `tests/real/test_six_failures.py`, `tests/agent/`.)"""

from __future__ import annotations

from pathlib import Path

import pytest

from meshsync.runtime import SystemRuntime
from tests.support import member_scene
from tests.support.member_scene import open_scene

TEN_YEARS_NS = 10 * 365 * 86_400 * 10**9


def shifted(by_ns: int) -> type[SystemRuntime]:
    class Shifted(SystemRuntime):
        def wall_time_ns(self) -> int:
            return super().wall_time_ns() + by_ns

    return Shifted


@pytest.mark.parametrize("by_ns", [-TEN_YEARS_NS, TEN_YEARS_NS], ids=["ten years back", "ten years ahead"])
async def test_with_a_clock_ten_years_off_files_and_edits_go_both_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_ns: int
) -> None:
    monkeypatch.setattr(member_scene, "SystemRuntime", shifted(by_ns))
    async with open_scene(tmp_path) as scene:
        carol = await scene.member(b"c")
        await scene.connect(carol)
        await scene.gets(carol, b"theirs", b"1")
        (scene.root / "ours").write_bytes(b"2")
        (scene.root / "theirs").write_bytes(b"edited here")
        loop = scene.folder.loop
        assert loop is not None
        loop.look_at(None)
        await scene.until(
            lambda: (
                {(row.name, len(row.versions)) for row in scene.folder.rows()} >= {(b"ours", 1), (b"theirs", 1)}
                and len(scene.folder.replica.chains.heads()) == 2
            )
        )
        await scene.gets(carol, b"later", b"3")
        assert scene.files() == {b"theirs": b"edited here", b"ours": b"2", b"later": b"3"}
