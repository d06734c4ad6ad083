from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from meshsync.folder.syscalls import Syscalls
from tests.support.folder_tree import FolderTree, OldKernel


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[FolderTree]:
    tree = FolderTree(tmp_path / "root")
    yield tree
    tree.close()


@pytest.fixture(params=[Syscalls, OldKernel], ids=["openat2 and renameat2", "old kernel"])
def any_tree(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FolderTree]:
    tree = FolderTree(tmp_path / "root", request.param())
    yield tree
    tree.close()
