"""An edit that a crash left in the staging area is the user's: the next start puts it into the folder (P1, P8)."""

from __future__ import annotations

from pathlib import Path

from tests.support.member_scene import Scene


async def test_an_edit_in_the_staging_area_is_in_the_folder_after_the_next_start(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    edit = scene.root / ".meshsync" / "staging" / f"swap-1-1-1-2-0-1-1-{'a' * 32}"
    edit.write_bytes(b"written while it was being replaced")
    await scene.start()
    try:
        assert list(scene.files().values()) == [b"written while it was being replaced"]
        assert not edit.exists()
        (row,) = scene.folder.rows()
        assert row.name.startswith(b"recovered ")
    finally:
        await scene.close()
