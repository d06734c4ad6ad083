"""A crash before every system call that changes the disk (P5, P8): enumerate, recover, look."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from meshsync.folder.syscalls import Syscalls
from meshsync.folder.types import Done, RelativePath, Stat
from tests.support.folder_tree import MTIME_NS, Crash, FaultySyscalls, FolderTree, OldKernel

F: RelativePath = (b"f",)
D: RelativePath = (b"d",)


def replace(tree: FolderTree, old: Stat) -> None:
    assert isinstance(tree.applier.replace(F, tree.stage(b"new content"), old), Done)


def create(tree: FolderTree, old: Stat) -> None:
    assert isinstance(tree.applier.replace((b"d", b"new"), tree.stage(b"new content"), None), Done)


def remove(tree: FolderTree, old: Stat) -> None:
    assert isinstance(tree.applier.remove_file(F, old), Done)


def move(tree: FolderTree, old: Stat) -> None:
    assert isinstance(tree.applier.move(F, (b"d", b"g"), old), Done)


def to_link(tree: FolderTree, old: Stat) -> None:
    assert isinstance(tree.applier.make_link(F, b"target", MTIME_NS, old), Done)


def to_directory(tree: FolderTree, old: Stat) -> None:
    assert isinstance(tree.applier.make_directory(F, old), Done)


def from_directory(tree: FolderTree, old: Stat) -> None:
    assert isinstance(tree.applier.replace(D, tree.stage(b"new content"), tree.stat("d")), Done)


OLD, NEW = b"old content", b"new content"
# operation: (what it does, contents that `f` may have at any moment; None for no such file)
OPERATIONS: dict[str, tuple[Callable[[FolderTree, Stat], None], set[object]]] = {
    "replace a file": (replace, {OLD, NEW}),
    "create a file": (create, {OLD}),
    "remove a file": (remove, {OLD, None}),
    "move a file": (move, {OLD, None}),
    "file to link": (to_link, {OLD, "link"}),
    "file to directory": (to_directory, {OLD, "directory"}),
    "directory to file": (from_directory, {OLD}),
}


def content(path: Path) -> object:
    if path.is_symlink():
        return "link"
    if path.is_dir():
        return "directory"
    return path.read_bytes() if path.exists() else None


def run(tree: FolderTree, syscalls: FaultySyscalls, operation: Callable[[FolderTree, Stat], None]) -> bool:
    """Set the scene and run `operation`. Returns whether it crashed."""
    (tree.path / "f").write_bytes(OLD)
    (tree.path / "d").mkdir()
    old = tree.stat("f")
    tree.open(syscalls)
    try:
        operation(tree, old)
    except Crash:
        return True
    return False


@pytest.mark.parametrize("system", [FaultySyscalls, OldKernel], ids=["renameat2", "old kernel"])
@pytest.mark.parametrize(("operation", "allowed"), OPERATIONS.values(), ids=OPERATIONS)
def test_every_crash_point_recovers(
    tmp_path: Path,
    operation: Callable[[FolderTree, Stat], None],
    allowed: set[object],
    system: type[FaultySyscalls],
) -> None:
    atomic = system is FaultySyscalls or "directory" not in operation.__name__
    crash_at, crashed = 0, True
    while crashed:
        tree = FolderTree(tmp_path / str(crash_at))
        crashed = run(tree, system(crash_at), operation)
        found = content(tree.path / "f")
        assert found in (allowed if atomic else allowed | {None}), f"crash at call {crash_at}"
        if (tree.path / "d" / "g").exists():
            assert (tree.path / "d" / "g").read_bytes() == OLD
        elif operation is move:
            assert found == OLD, "never gone from both places"
        assert content(tree.path / "d" / "new") in (None, NEW), "never in part"
        tree.open(Syscalls())
        assert tree.staging.recover() == [], "nothing here is a user's edit"
        assert tree.staged_names() == [], f"a stray file after a crash at call {crash_at}"
        assert content(tree.path / "f") == found, "recovery does not touch the tree"
        tree.close()
        crash_at += 1
    assert crash_at > 2


@pytest.mark.parametrize("operation", [replace, remove, to_link, to_directory])
def test_a_users_edit_in_the_staging_area_at_the_crash_is_rescued(
    tmp_path: Path, operation: Callable[[FolderTree, Stat], None]
) -> None:
    crash_at, crashed, rescues = 0, True, 0
    while crashed:
        tree = FolderTree(tmp_path / str(crash_at))
        syscalls = FaultySyscalls(crash_at)

        def save(tree: FolderTree = tree) -> None:
            (tree.path / "f.new").write_bytes(b"user")
            (tree.path / "f.new").rename(tree.path / "f")

        syscalls.before["rename" if operation is remove else "exchange"] = save
        try:
            crashed = run(tree, syscalls, operation)
        except AssertionError:
            crashed = False  # the outcome was Changed, as it should be
        tree.open(Syscalls())
        rescued = tree.staging.recover()
        rescues += len(rescued)
        for item in rescued:
            assert isinstance(tree.applier.place_rescued(item.name, (b"f (conflict)",)), Done)
        contents = {content(tree.path / "f"), content(tree.path / "f (conflict)")}
        if not syscalls.before:
            assert b"user" in contents, f"the user's edit is lost by a crash at call {crash_at}"
        assert tree.staged_names() == []
        tree.close()
        crash_at += 1
    assert rescues > 0
