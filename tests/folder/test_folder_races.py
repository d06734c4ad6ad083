"""Other processes at work on the same paths (P5, B16, B17)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshsync.folder.reader import read_range
from meshsync.folder.types import Done, RelativePath
from tests.support.folder_tree import MTIME_NS, FolderTree

SWAPPER = """
import os, sys
root, outside = sys.argv[1:]
print(flush=True)
while True:
    os.rename(root + "/d", root + "/aside")
    os.symlink(outside, root + "/d")
    os.unlink(root + "/d")
    os.rename(root + "/aside", root + "/d")
"""
READER = """
import sys
path, seen = sys.argv[1], 0
print(flush=True)
while True:
    with open(path, "rb") as file:  # raises if the path is absent
        data = file.read()
    if len(data) != 40000 or data.count(data[:1]) != 40000:
        sys.exit("partial")
    seen += 1
"""


@contextmanager
def other_process(code: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def state_of(directory: Path) -> list[tuple[str, int, int, int, int, bytes]]:
    """Return everything in and of a directory that a change would show in."""
    found = []
    for path in (directory, *sorted(directory.iterdir())):
        stat = path.lstat()
        content = b"" if path.is_dir() else path.read_bytes()
        found.append((path.name, stat.st_mode, stat.st_nlink, stat.st_mtime_ns, stat.st_ctime_ns, content))
    return found


@pytest.mark.slow
def test_swapping_a_directory_and_a_link_redirects_nothing(any_tree: FolderTree) -> None:
    outside = any_tree.path.parent / "outside"
    outside.mkdir()
    (outside / "victim").write_bytes(b"safe")
    (outside / "victim").chmod(0o640)
    before = state_of(outside)
    (any_tree.path / "d").mkdir()
    victim: RelativePath = (b"d", b"victim")
    applier, done = any_tree.applier, 0
    with other_process(SWAPPER, str(any_tree.path), str(outside)) as process:
        for number in range(400):
            new: RelativePath = (b"d", b"new%d" % number)
            staged = any_tree.stage(b"x")
            outcomes = [
                applier.replace(new, staged, None),
                applier.make_directory((b"d", b"sub%d" % number)),
                applier.make_link((b"d", b"link%d" % number), b"x", 0),
                applier.remove_file(victim, any_tree.stat("../outside/victim")),
                applier.set_attributes(victim, any_tree.stat("../outside/victim"), True, MTIME_NS),
                applier.move(victim, (b"stolen",), any_tree.stat("../outside/victim")),
            ]
            done += sum(isinstance(outcome, Done) for outcome in outcomes)
            assert not isinstance(read_range(any_tree.root, victim, 0, 4), bytes)
            any_tree.scan()
        assert process.poll() is None, process.stderr and process.stderr.read()
    assert done > 0, "some changes met the directory"
    assert state_of(outside) == before


@pytest.mark.slow
def test_a_reader_sees_the_whole_old_or_the_whole_new_file(tree: FolderTree) -> None:
    (tree.path / "f").write_bytes(b"0" * 40_000)
    with other_process(READER, str(tree.path / "f")) as process:
        for number in range(1000):
            staged = tree.stage(bytes([65 + number % 26]) * 40_000)
            assert isinstance(tree.applier.replace((b"f",), staged, tree.stat("f")), Done)
        assert process.poll() is None, process.stderr and process.stderr.read()
    assert tree.staged_names() == []
