"""The root: control directory, marker, resolution beneath it (`docs/spec/disk.md` 1, 3)."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from meshsync.errors import ConfigError
from meshsync.folder import control
from meshsync.folder.root import Root, open_root
from meshsync.folder.syscalls import Syscalls
from meshsync.folder.types import RootMissing, RootState
from meshsync.ids import FolderId
from tests.support.folder_tree import FOLDER, FaultySyscalls, FolderTree

MARKER = (
    b"meshsync folder 1\n"
    b"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"
)  # fmt: skip


def test_marker_golden_bytes(tree: FolderTree) -> None:
    assert control.marker_bytes(FOLDER) == MARKER
    assert (tree.path / ".meshsync" / "folder").read_bytes() == MARKER
    assert control.parse_marker(MARKER) == FOLDER


@pytest.mark.parametrize("damaged", [b"", MARKER[:-1], MARKER + b"x", MARKER.upper(), b"\xff" * 83])
def test_damaged_marker_names_no_folder(damaged: bytes) -> None:
    assert control.parse_marker(damaged) is None


def test_control_directory_is_private(tree: FolderTree) -> None:
    for name in (".meshsync", ".meshsync/staging"):
        assert stat.S_IMODE((tree.path / name).stat().st_mode) == 0o700


def test_creating_again_changes_nothing_and_another_folder_is_refused(tree: FolderTree) -> None:
    before = (tree.path / ".meshsync" / "folder").stat()
    control.create(os.fsencode(tree.path), FOLDER, Syscalls())
    assert (tree.path / ".meshsync" / "folder").stat() == before
    with pytest.raises(ConfigError):
        control.create(os.fsencode(tree.path), FolderId(bytes(32)), Syscalls())


def test_control_directory_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "root" / ".meshsync").symlink_to(tmp_path / "outside")
    with pytest.raises(Exception, match="cannot set up the folder"):
        control.create(os.fsencode(tmp_path / "root"), FOLDER, Syscalls())
    assert list((tmp_path / "outside").iterdir()) == []


def state(path: Path) -> RootState:
    root = open_root(os.fsencode(path), FOLDER, Syscalls())
    if isinstance(root, Root):
        root.close()
        return RootState.PRESENT
    return root.state


def test_absence_is_not_an_empty_folder(tmp_path: Path) -> None:
    tree = FolderTree(tmp_path / "root")
    assert state(tree.path) is RootState.PRESENT and tree.root.check() is None
    os.rename(tree.path, tmp_path / "away")
    assert state(tree.path) is RootState.MISSING and tree.root.check() == RootMissing(RootState.MISSING)
    tree.path.mkdir()  # an unmounted disk leaves the empty mount point
    assert state(tree.path) is RootState.MARKER_MISSING
    assert tree.root.check() == RootMissing(RootState.MARKER_MISSING)
    control.create(os.fsencode(tree.path), FolderId(bytes(32)), Syscalls())
    assert state(tree.path) is RootState.OTHER_FOLDER
    tree.close()


def test_nothing_outside_is_resolved(any_tree: FolderTree) -> None:
    outside = any_tree.path.parent / "outside"
    outside.mkdir()
    (any_tree.path / "link").symlink_to(outside)
    (any_tree.path / "up").symlink_to("..")
    (any_tree.path / "file").write_bytes(b"")
    for path in [(b"link",), (b"up",), (b"up", b"outside"), (b"file",), (b"missing",)]:
        with pytest.raises(OSError), any_tree.root.directory(path):
            pass


def test_parent_directory_is_never_resolved(tree: FolderTree) -> None:
    with pytest.raises(OSError), tree.root.directory((b"..",)):
        pass


def test_paths_longer_than_one_system_call_takes(any_tree: FolderTree) -> None:
    name = b"d" * 200
    path = [name] * 50  # 10,050 bytes; PATH_MAX is 4096
    for depth in range(1, len(path) + 1):
        any_tree.applier.make_directory(tuple(path[:depth]))
    with any_tree.root.directory(tuple(path)) as fd:
        os.close(os.open(b"deep", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    observed, problems = any_tree.scan()
    assert (*path, b"deep") in observed and problems == {}


def test_descriptors_are_given_back(any_tree: FolderTree) -> None:
    (any_tree.path / "a" / "b").mkdir(parents=True)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        any_tree.scan()
        with any_tree.root.directory((b"a", b"b")):
            pass
        with pytest.raises(OSError), any_tree.root.directory((b"a", b"b", b"c")):
            pass
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_root_whose_status_cannot_be_read_is_unreadable(tmp_path: Path) -> None:
    calls = FaultySyscalls()
    tree = FolderTree(tmp_path / "root", calls)
    try:
        calls.fails = {"status": errno.EIO}
        assert tree.root.check() == RootMissing(RootState.UNREADABLE)
    finally:
        tree.close()


@pytest.mark.parametrize("call", ["status", "open_beneath"])
def test_a_root_that_the_disk_does_not_let_be_looked_at_is_not_opened(tmp_path: Path, call: str) -> None:
    FolderTree(tmp_path / "root").close()
    calls = FaultySyscalls()
    calls.fails = {call: errno.EIO}
    found = open_root(os.fsencode(tmp_path / "root"), FOLDER, calls)
    assert found == RootMissing(RootState.UNREADABLE)
