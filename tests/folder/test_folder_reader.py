"""Reading for publish and for serving; when a file must be read again (P13)."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from meshsync.chunking.cut import CutParams
from meshsync.chunking.cut import Cutter as FolderCutter
from meshsync.folder.detect import is_racy, must_read, same_object
from meshsync.folder.reader import Buffer, Read, read_file, read_range, read_start
from meshsync.folder.types import Blocked, Changed, Reason, RelativePath, Stat
from meshsync.limits import (
    FOLDER_RACY_WINDOW_NS,
    FOLDER_RANGE_BYTES_MAX,
    FOLDER_READ_WINDOW_BYTES,
    FOLDER_WRITEBACK_WINDOW_NS,
)
from tests.support.folder_tree import FaultySyscalls, FolderTree

LATER_NS = 10 * FOLDER_RACY_WINDOW_NS


class Whole:
    """Cuts every window as one chunk."""

    def feed(self, window: bytes, last: bool, /) -> list[Buffer]:
        return [window] if window else []


def read(tree: FolderTree, *path: bytes, after_ns: int = LATER_NS) -> tuple[Read | Changed | Blocked, bytes]:
    parts: list[bytes] = []
    outcome = read_file(
        tree.root, path, Whole(), lambda chunk: parts.append(bytes(chunk)), lambda: time.time_ns() + after_ns
    )
    return outcome, b"".join(parts)


@pytest.mark.parametrize("size", [0, 1, FOLDER_READ_WINDOW_BYTES, 2 * FOLDER_READ_WINDOW_BYTES + 3])
def test_a_file_is_read_whole(any_tree: FolderTree, size: int) -> None:
    data = os.urandom(size)
    (any_tree.path / "f").write_bytes(data)
    assert read(any_tree, b"f") == (Read(any_tree.scan()[0][b"f",].stat, executable=False, racy=False), data)


def test_chunks_of_the_folder_cutter_join_to_the_file(tree: FolderTree) -> None:
    data = os.urandom(3 * FOLDER_READ_WINDOW_BYTES)
    (tree.path / "f").write_bytes(data)
    chunks: list[bytes] = []
    cutter = FolderCutter(7, CutParams(16 << 10, 64 << 10, 256 << 10))
    outcome = read_file(tree.root, (b"f",), cutter, lambda chunk: chunks.append(bytes(chunk)), time.time_ns)
    assert isinstance(outcome, Read) and len(chunks) > 10 and b"".join(chunks) == data


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def edit_in_place(path: Path) -> None:
    """Change the bytes and put size and mtime back."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"Z")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def save_by_rename(path: Path) -> None:
    (path.parent / "new").write_bytes(b"x" * path.stat().st_size)
    os.rename(path.parent / "new", path)


CHANGES = {
    "it grows": grow,
    "it is cut short": lambda path: os.truncate(path, 1),
    "it is edited in place under its old size and mtime": edit_in_place,
    "another file is renamed over it": save_by_rename,
    "it is removed": lambda path: path.unlink(),
    "it is replaced by a link": lambda path: (path.unlink(), path.symlink_to("x")),
    "only its mode changes": lambda path: path.chmod(0o755),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_file_that_changes_while_it_is_read_is_not_published(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    syscalls = FaultySyscalls()
    tree = FolderTree(tmp_path / "root", syscalls)
    path = tree.path / "f"
    path.write_bytes(b"x" * 100)
    os.utime(path, ns=(1, 1))
    syscalls.before["read"] = lambda: (change(path), None)[1]
    assert isinstance(read(tree, b"f")[0], Changed)
    tree.close()


def test_a_file_that_grows_for_ever_does_not_hold_the_reader(tmp_path: Path) -> None:
    class Growing(FaultySyscalls):
        reads = 0

        def read(self, fd: int, size: int, offset: int) -> bytes:
            if size < FOLDER_READ_WINDOW_BYTES:
                return super().read(fd, size, offset)  # the marker
            self.reads += 1
            assert self.reads < 10
            return bytes(size)

    tree = FolderTree(tmp_path / "root", Growing())
    (tree.path / "f").write_bytes(b"x")
    assert isinstance(read(tree, b"f")[0], Changed)
    tree.close()


def test_what_is_not_a_file_is_not_opened(tree: FolderTree) -> None:
    os.mkfifo(tree.path / "fifo")
    (tree.path / "d").mkdir()
    (tree.path / "secret").write_bytes(b"secret")
    (tree.path / "link").symlink_to("secret")
    for name in (b"fifo", b"d", b"link", b"missing"):
        assert isinstance(read(tree, name)[0], Changed), name
        assert isinstance(read_range(tree.root, (name,), 0, 1), Changed), name
    assert isinstance(read(tree, b"link", b"x")[0], Changed)


def test_unreadable_file_waits_with_a_reason(tmp_path: Path) -> None:
    syscalls = FaultySyscalls()
    tree = FolderTree(tmp_path / "root", syscalls)
    (tree.path / "f").write_bytes(b"x")
    syscalls.fails = {"open_file": 13}
    assert read(tree, b"f")[0] == Blocked(Reason.NO_PERMISSION, "Permission denied")
    tree.close()


def test_a_range_is_served_or_refused(tree: FolderTree) -> None:
    (tree.path / "f").write_bytes(b"0123456789")
    stat = tree.stat("f")
    path: RelativePath = (b"f",)
    assert read_range(tree.root, path, 2, 3, stat) == b"234"
    assert read_range(tree.root, path, 0, 10) == b"0123456789"
    assert read_range(tree.root, path, 8, 3) == Changed(stat)
    assert read_range(tree.root, path, 0, 1, stat._replace(ctime_ns=0)) == Changed(stat)
    with pytest.raises(AssertionError):
        read_range(tree.root, path, 0, FOLDER_RANGE_BYTES_MAX + 1)


def test_the_start_of_a_small_file(tree: FolderTree) -> None:
    (tree.path / ".meshignore").write_bytes(b"*.tmp")
    assert read_start(tree.root, (b".meshignore",), 100) == b"*.tmp"
    assert read_start(tree.root, (b".meshignore",), 2) == b"*."
    assert read_start(tree.root, (b"missing",), 2) == Changed(None)


STAT = Stat(inode=7, birth_ns=1, size=100, mtime_ns=5_000_000_000, ctime_ns=6_000_000_000)


@pytest.mark.parametrize("field", Stat._fields)
def test_any_difference_in_the_stat_is_a_reason_to_read(field: str) -> None:
    assert must_read(STAT, STAT._replace(**{field: 0}), racy=False)
    assert not must_read(STAT, STAT, racy=False)
    assert must_read(STAT, STAT, racy=True) and must_read(None, STAT, racy=False)


def test_a_stat_in_the_tick_of_its_reading_is_racy() -> None:
    assert is_racy(STAT, STAT.ctime_ns) and is_racy(STAT, STAT.ctime_ns + FOLDER_RACY_WINDOW_NS)
    assert not is_racy(STAT, STAT.ctime_ns + FOLDER_RACY_WINDOW_NS + 1)
    assert not is_racy(STAT, STAT.ctime_ns - LATER_NS), "a clock that was set back shows a write by a smaller ctime"


def test_a_rename_keeps_an_object_the_same_and_an_edit_does_not() -> None:
    assert same_object(STAT, STAT._replace(ctime_ns=9), directory=False)
    assert same_object(STAT, STAT._replace(birth_ns=0), directory=False), "birth times are not known everywhere"
    for field in ("inode", "birth_ns", "size", "mtime_ns"):
        assert not same_object(STAT, STAT._replace(**{field: 2}), directory=False), field
    assert same_object(STAT, STAT._replace(size=1, mtime_ns=1), directory=True)


def test_an_edit_in_the_tick_of_the_reading_is_caught_by_the_racy_rule(tree: FolderTree) -> None:
    path = tree.path / "f"
    path.write_bytes(b"a")
    outcome, data = read(tree, b"f", after_ns=0)
    assert isinstance(outcome, Read) and data == b"a"
    edit_in_place(path)
    assert must_read(outcome.stat, tree.stat("f"), outcome.racy)


def test_reused_inode_with_equal_size_and_mtime_is_noticed(tree: FolderTree) -> None:
    path = tree.path / "f"
    path.write_bytes(b"a")
    os.utime(path, ns=(1, 1))
    before = tree.stat("f")
    path.unlink()
    path.write_bytes(b"b")
    os.utime(path, ns=(1, 1))
    assert must_read(before, tree.stat("f"), racy=False)


def test_a_write_through_a_hard_link_is_noticed(tree: FolderTree) -> None:
    (tree.path / "f").write_bytes(b"a")
    os.link(tree.path / "f", tree.path.parent / "elsewhere")
    before = tree.stat("f")
    edit_in_place(tree.path.parent / "elsewhere")
    assert must_read(before, tree.stat("f"), racy=False)


def test_a_write_through_a_memory_map_after_the_reading_is_noticed(tree: FolderTree) -> None:
    path = tree.path / "f"
    path.write_bytes(bytes(mmap.PAGESIZE))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
        pages[0] = 1  # the page is dirty now: without a write-back further writes would leave no trace
        outcome, _ = read(tree, b"f", after_ns=FOLDER_WRITEBACK_WINDOW_NS // 2)
        assert isinstance(outcome, Read)
        deadline = time.monotonic() + 5
        while time.time_ns() <= outcome.stat.mtime_ns + 20_000_000 and time.monotonic() < deadline:
            pass  # the next clock tick of the file system
        pages[0] = 2
        assert must_read(outcome.stat, tree.stat("f"), racy=False)
