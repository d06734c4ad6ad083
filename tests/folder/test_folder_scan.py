"""What a scan reports, and what it must never conclude (P12, P13, P14, P15)."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from pathlib import Path

import pytest

from meshsync.content.record import Kind
from meshsync.folder.ignore import IgnoreRules
from meshsync.folder.scan import Batch, Complete, scan
from meshsync.folder.types import Problem, Reason, RootMissing, RootState
from meshsync.limits import FOLDER_SCAN_BATCH_ITEMS_MAX
from tests.support.folder_tree import FaultySyscalls, FolderTree


def test_every_kind_is_seen_as_it_is(any_tree: FolderTree) -> None:
    (any_tree.path / "dir" / "empty").mkdir(parents=True)
    (any_tree.path / "dir" / "file").write_bytes(b"12345")
    (any_tree.path / "run").write_bytes(b"#!")
    (any_tree.path / "run").chmod(0o755)
    (any_tree.path / "link").symlink_to("/nowhere/at/all")
    (any_tree.path / os.fsdecode(b"\xff\xfe\n")).write_bytes(b"")
    observed, problems = any_tree.scan()
    assert problems == {}
    assert {path: found.kind for path, found in observed.items()} == {
        (b"dir",): Kind.DIRECTORY,
        (b"dir", b"empty"): Kind.DIRECTORY,
        (b"dir", b"file"): Kind.FILE,
        (b"link",): Kind.LINK,
        (b"run",): Kind.FILE,
        (b"\xff\xfe\n",): Kind.FILE,
    }
    assert observed[b"link",].target == b"/nowhere/at/all"
    assert observed[b"run",].executable and not observed[b"dir", b"file"].executable
    real = os.stat(any_tree.path / "dir" / "file")
    stat = observed[b"dir", b"file"].stat
    assert (stat.inode, stat.size, stat.mtime_ns, stat.ctime_ns) == (
        real.st_ino, 5, real.st_mtime_ns, real.st_ctime_ns,
    )  # fmt: skip


def test_directories_come_before_their_content_in_byte_order(tree: FolderTree) -> None:
    for name in ("b/x", "a/y", "a/b/z", "c"):
        (tree.path / name).mkdir(parents=True)
    assert list(tree.scan()[0]) == [
        (b"a",), (b"b",), (b"c",), (b"a", b"b"), (b"a", b"y"), (b"a", b"b", b"z"), (b"b", b"x"),
    ]  # fmt: skip


def test_special_files_are_skipped_and_never_opened(tree: FolderTree) -> None:
    os.mkfifo(tree.path / "fifo")  # opening it would wait for ever
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fsencode(tree.path / "socket"))
        observed, problems = tree.scan()
    assert observed == {}
    assert {path: problem.reason for path, problem in problems.items()} == {
        (b"fifo",): Reason.SPECIAL,
        (b"socket",): Reason.SPECIAL,
    }


def test_control_directory_is_silent_and_its_disguises_are_reported(tree: FolderTree) -> None:
    (tree.path / ".MeshSync").mkdir()
    (tree.path / "sub").mkdir()
    (tree.path / "sub" / ".meshsync").mkdir()
    (tree.path / "sub" / ".meshsync" / "secret").write_bytes(b"")
    observed, problems = tree.scan()
    assert set(observed) == {(b"sub",)}
    assert set(problems) == {(b".MeshSync",), (b"sub", b".meshsync")}
    assert all(problem.reason is Reason.NAME_RESERVED for problem in problems.values())


def test_unreadable_directory_is_not_observed_rather_than_empty(tmp_path: Path) -> None:
    syscalls = FaultySyscalls()
    tree = FolderTree(tmp_path / "root", syscalls)
    (tree.path / "d" / "e").mkdir(parents=True)
    steps = scan(tree.root, IgnoreRules())
    syscalls.fails = {"names": errno.EACCES}
    whole = list(steps)
    assert whole[0] == Batch(problems=[Problem((), Reason.NO_PERMISSION, "Permission denied")])
    tree.close()


def test_directory_that_goes_away_under_the_scan_is_not_observed(tmp_path: Path) -> None:
    syscalls = FaultySyscalls()
    tree = FolderTree(tmp_path / "root", syscalls)
    (tree.path / "d").mkdir()
    syscalls.before["link_target"] = (tree.path / "d").rmdir
    (tree.path / "l").symlink_to("x")
    _, problems = tree.scan()
    assert problems[b"d",].reason is Reason.VANISHED
    tree.close()


def test_ignored_is_not_observed(tree: FolderTree) -> None:
    (tree.path / "build" / "deep").mkdir(parents=True)
    (tree.path / "a.tmp").write_bytes(b"")
    (tree.path / "a.txt").write_bytes(b"")
    observed, problems = tree.scan(b"build/\n*.tmp\n")
    assert set(observed) == {(b"a.txt",)}
    assert {path: problem.reason for path, problem in problems.items()} == {
        (b"build",): Reason.IGNORED,
        (b"a.tmp",): Reason.IGNORED,
    }


def test_root_that_vanishes_gives_root_missing_never_an_empty_folder(tree: FolderTree) -> None:
    (tree.path / "f").write_bytes(b"")
    away = tree.path.with_name("away")
    os.rename(tree.path, away)
    assert list(scan(tree.root, IgnoreRules())) == [RootMissing(RootState.MISSING)]
    os.rename(away, tree.path)
    steps = scan(tree.root, IgnoreRules())
    next(steps)
    shutil.rmtree(tree.path)  # in the middle of a scan
    assert list(steps)[-1] == RootMissing(RootState.MISSING)


def test_emptied_root_that_lost_its_marker_is_missing(tree: FolderTree) -> None:
    (tree.path / ".meshsync" / "folder").unlink()
    assert list(scan(tree.root, IgnoreRules())) == [RootMissing(RootState.MARKER_MISSING)]


def test_dirty_paths_are_looked_at_with_all_beneath_them(any_tree: FolderTree) -> None:
    (any_tree.path / "d" / "e").mkdir(parents=True)
    (any_tree.path / "d" / "f").write_bytes(b"")
    (any_tree.path / "other").write_bytes(b"")
    (any_tree.path / "link").symlink_to("d")
    found = any_tree.scan_paths((b"d",), (b"d", b"f"), (b"gone", b"x"), (b"other", b"x"), (b"link", b"f"))
    assert [item.path for item in found.observed] == [(b"d",), (b"d", b"e"), (b"d", b"f")]
    assert found.absent == [(b"gone", b"x"), (b"link", b"f"), (b"other", b"x")]
    assert found.problems == []


def test_dirty_paths_respect_what_is_ignored_above_them(tree: FolderTree) -> None:
    (tree.path / "build").mkdir()
    (tree.path / "build" / "x").write_bytes(b"")
    found = tree.scan_paths((b"build", b"x"), (b".meshsync", b"folder"), ignore=b"build/")
    assert found == Batch(problems=[Problem((b"build", b"x"), Reason.IGNORED)])


def test_dirty_root_is_a_whole_scan(tree: FolderTree) -> None:
    (tree.path / "a").mkdir()
    assert [item.path for item in tree.scan_paths((), (b"a",)).observed] == [(b"a",)]


def test_steps_are_bounded(tree: FolderTree) -> None:
    count = FOLDER_SCAN_BATCH_ITEMS_MAX + 7
    for number in range(count):
        (tree.path / f"{number:05}").touch()
    steps = list(scan(tree.root, IgnoreRules()))
    assert [step.size() for step in steps[:-1] if isinstance(step, Batch)] == [FOLDER_SCAN_BATCH_ITEMS_MAX, 7]
    assert steps[-1] == Complete(count, 0)


def test_names_too_deep_are_reported_and_not_entered(tree: FolderTree) -> None:
    path: tuple[bytes, ...] = ()
    for _ in range(512):
        path = (*path, b"d")
        tree.applier.make_directory(path)
    with tree.root.directory(path) as fd:
        os.mkdir(b"d", dir_fd=fd)
    observed, problems = tree.scan()
    assert len(observed) == 512 and problems[(*path, b"d")].reason is Reason.TOO_DEEP


@pytest.mark.slow
def test_directory_of_100000_entries(tree: FolderTree) -> None:
    (tree.path / "big").mkdir()
    for number in range(100_000):
        (tree.path / "big" / str(number)).touch()
    steps = list(scan(tree.root, IgnoreRules()))
    assert steps[-1] == Complete(100_001, 0)
    assert all(step.size() <= FOLDER_SCAN_BATCH_ITEMS_MAX for step in steps if isinstance(step, Batch))
