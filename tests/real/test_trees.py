"""The comparison of trees must see every kind of difference, or the tests that rely on it prove nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.real.trees import compare_trees, observe


def build(root: Path) -> None:
    (root / "directory/empty").mkdir(parents=True)
    (root / "file").write_text("text")
    (root / "directory/inner").write_text("more")
    (root / "link").symlink_to("file")
    for name in ("file", "directory/inner"):
        os.utime(root / name, ns=(10**18, 10**18))


def rewrite_keeping_times(root: Path) -> None:
    (root / "file").write_text("tex!")
    os.utime(root / "file", ns=(10**18, 10**18))


def retarget(root: Path) -> None:
    (root / "link").unlink()
    (root / "link").symlink_to("directory")


def become_directory(root: Path) -> None:
    (root / "file").unlink()
    (root / "file").mkdir()


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": rewrite_keeping_times,
    "mtime": lambda root: os.utime(root / "file", ns=(10**18, 10**18 + 1)),
    "exec bit": lambda root: (root / "file").chmod(0o755),
    "link target": retarget,
    "type": become_directory,
    "a missing empty directory": lambda root: (root / "directory/empty").rmdir(),
    "an additional name that is not UTF-8": lambda root: Path(os.fsdecode(bytes(root) + b"/\xff")).touch(),
    "an inner control directory": lambda root: (root / "directory/.meshsync").mkdir(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_one_change_is_one_difference(tmp_path: Path, change: str) -> None:
    build(tmp_path / "a")
    build(tmp_path / "b")
    assert compare_trees(tmp_path / "a", tmp_path / "b") == []
    CHANGES[change](tmp_path / "b")
    assert len(compare_trees(tmp_path / "a", tmp_path / "b")) == 1


def test_the_control_directory_is_no_part_of_the_tree(tmp_path: Path) -> None:
    build(tmp_path)
    before = observe(tmp_path)
    (tmp_path / ".meshsync").mkdir()
    (tmp_path / ".meshsync/staged").touch()
    assert observe(tmp_path) == before
