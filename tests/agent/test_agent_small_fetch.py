"""Of a small file that two sources give nothing stays behind but what is put in place (P8)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from meshsync.agent.small_fetch import _Held
from meshsync.agent.staged import Staged
from tests.support.folder_tree import FolderTree


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[FolderTree]:
    tree = FolderTree(tmp_path / "root")
    yield tree
    tree.close()


def staged_files(tree: FolderTree) -> list[str]:
    return sorted(path.name for path in (tree.path / ".meshsync").rglob("stage-*"))


def test_what_a_second_source_gives_goes_away(tree: FolderTree) -> None:
    held = _Held()
    first, second = (Staged(tree.staging.create(5), (), ()) for _ in range(2))
    held.keep(first)
    held.keep(second)
    assert held.staged is first
    assert staged_files(tree) == [first.file.name.decode()]
    held.let_go()
    held.keep(Staged(tree.staging.create(5), (), ()))
    assert staged_files(tree) == []
