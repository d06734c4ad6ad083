"""The watcher: dirty paths, bounded, coalesced, quiet when the tree is quiet (P20)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from watchdog.observers.inotify_c import InotifyConstants, InotifyEvent, InotifyFD, Mask, WatchDescriptor

from meshsync.folder.syscalls import Syscalls
from meshsync.folder.types import RelativePath
from meshsync.folder.watch import Dirty, Watcher
from meshsync.limits import FOLDER_DIRTY_PATHS_MAX
from tests.support.folder_tree import FolderTree

LONGEST_S = 10


class Watched:
    """A watched folder and what was told about it."""

    def __init__(self, tree: FolderTree) -> None:
        self.path, self.tree = tree.path, tree
        self.told: list[Dirty] = []
        self._news = asyncio.Event()
        self.watcher = Watcher(os.fsencode(tree.path), asyncio.get_running_loop(), self._tell)

    def _tell(self, dirty: Dirty) -> None:
        self.told.append(dirty)
        self._news.set()

    async def until(self, wanted: Callable[[set[RelativePath]], bool]) -> set[RelativePath]:
        """Return all paths told, once `wanted` holds of them."""
        async with asyncio.timeout(LONGEST_S):
            while not wanted(self.paths()):
                await self._news.wait()
                self._news.clear()
        return self.paths()

    async def until_told(self, *paths: RelativePath) -> set[RelativePath]:
        return await self.until(lambda told: set(paths) <= told)

    async def until_rescan(self) -> None:
        await self.until(lambda _: any(dirty.rescan for dirty in self.told))

    def write_everywhere(self) -> set[RelativePath]:
        """Forget what was told, write a file into each directory and return the paths."""
        self.told.clear()
        written = set()
        for directory, below, _ in os.walk(self.path):
            if ".meshsync" in below:
                below.remove(".meshsync")
            path = Path(directory) / "new"
            path.write_bytes(b"x")
            written.add(tuple(os.fsencode(path.relative_to(self.path)).split(b"/")))
        return written

    def paths(self) -> set[RelativePath]:
        return {path for dirty in self.told for path in dirty.paths}

    async def all_told(self) -> set[RelativePath]:
        """Return what was told of everything before now: inotify keeps the order, so a last change closes the list."""
        (self.path / "last").touch()
        return await self.until_told((b"last",)) - {(b"last",)}


@pytest.fixture
async def watched(tree: FolderTree) -> AsyncIterator[Watched]:
    (tree.path / "d").mkdir()
    (tree.path / "d" / "f").write_bytes(b"old")
    watched = Watched(tree)
    watched.watcher.start()
    yield watched
    watched.watcher.stop()


CHANGES: dict[str, tuple[Callable[[Path], object], set[RelativePath]]] = {
    "create": (lambda root: (root / "d" / "new").write_bytes(b"x"), {(b"d", b"new")}),
    "write": (lambda root: (root / "d" / "f").write_bytes(b"x"), {(b"d", b"f")}),
    "remove": (lambda root: (root / "d" / "f").unlink(), {(b"d", b"f")}),
    "mode": (lambda root: (root / "d" / "f").chmod(0o700), {(b"d", b"f")}),
    "rename": (lambda root: (root / "d" / "f").rename(root / "g"), {(b"d", b"f"), (b"g",)}),
    "rename a directory": (lambda root: (root / "d").rename(root / "e"), {(b"d",), (b"e",)}),
    "make a directory": (lambda root: (root / "d" / "e").mkdir(), {(b"d", b"e")}),
    "make a link": (lambda root: (root / "l").symlink_to("x"), {(b"l",)}),
    "not UTF-8": (lambda root: (root / os.fsdecode(b"\xff\xfe")).touch(), {(b"\xff\xfe",)}),
}


@pytest.mark.parametrize(("change", "paths"), CHANGES.values(), ids=CHANGES)
async def test_a_change_is_told_as_its_paths(
    watched: Watched, change: Callable[[Path], object], paths: set[RelativePath]
) -> None:
    change(watched.path)
    await watched.until_told(*paths)
    assert await watched.all_told() == paths
    assert not any(dirty.rescan for dirty in watched.told)


async def test_reading_and_scanning_tell_nothing(watched: Watched) -> None:
    assert (watched.path / "d" / "f").read_bytes() == b"old"
    watched.tree.scan()
    os.listdir(watched.path / "d")
    assert await watched.all_told() == set()


async def test_the_control_directory_tells_nothing(watched: Watched) -> None:
    staged = watched.tree.stage(b"x")
    staged.discard()
    (watched.path / ".meshsync" / "staging" / "x").write_bytes(b"x")
    assert await watched.all_told() == set()


async def test_an_applied_file_is_told_by_its_path_only(watched: Watched) -> None:
    watched.tree.applier.replace((b"d", b"f"), watched.tree.stage(b"new"), watched.tree.stat("d", "f"))
    await watched.until_told((b"d", b"f"))
    assert await watched.all_told() == {(b"d", b"f")}


async def test_changes_in_directories_that_are_new_or_moved_are_told(watched: Watched) -> None:
    (watched.path / "a" / "b" / "c").mkdir(parents=True)
    await watched.until_told((b"a",))
    (watched.path / "d").rename(watched.path / "a" / "moved")
    await watched.until_told((b"a", b"moved"))
    watched.told.clear()
    (watched.path / "a" / "moved" / "f").write_bytes(b"more")
    await watched.until_told((b"a", b"moved", b"f"))


def swap(one: Path, other: Path) -> None:
    """As apply does it: in one system call."""
    top = os.open(one.parent, os.O_RDONLY)
    Syscalls().exchange(top, os.fsencode(one.name), top, os.fsencode(other.name))
    os.close(top)


def swap_twice(one: Path, other: Path) -> None:
    swap(one, other)
    swap(one / "x", one / "only")
    swap(one, other)


def swap_by_renames(one: Path, other: Path) -> None:
    """As people do it."""
    one.rename(one.parent / "aside")
    other.rename(one)
    (one.parent / "aside").rename(other)


def replace_tree(one: Path, other: Path) -> None:
    shutil.rmtree(other)
    one.rename(other)


def replace_empty(one: Path, other: Path) -> None:
    shutil.rmtree(other)
    other.mkdir()
    one.rename(other)


def into_each_other(one: Path, other: Path) -> None:
    one.rename(other / "inner")
    (other / "inner").rename(one.parent / "out")
    other.rename(one.parent / "out" / "x" / "deep")


DIRECTORY_MOVES = [swap, swap_twice, swap_by_renames, replace_tree, replace_empty, into_each_other]


@pytest.mark.parametrize("move", DIRECTORY_MOVES)
async def test_what_changes_in_directories_that_moved_is_told_where_it_is(
    tree: FolderTree, move: Callable[[Path, Path], None]
) -> None:
    for top in ("one", "two"):
        (tree.path / top / "x" / "y").mkdir(parents=True)
        (tree.path / top / "only" / f"in {top}").mkdir(parents=True)
    watched = Watched(tree)
    watched.watcher.start()
    move(tree.path / "one", tree.path / "two")
    await watched.all_told()
    written = watched.write_everywhere()
    assert await watched.until_told(*written) - {(b"last",)} == written
    watched.watcher.stop()


async def test_what_left_the_folder_is_not_watched_any_more(watched: Watched, tmp_path: Path) -> None:
    (watched.path / "d" / "deep").mkdir()
    await watched.until_told((b"d", b"deep"))
    (watched.path / "d").rename(tmp_path / "outside")
    await watched.until_told((b"d",))
    watched.told.clear()
    (tmp_path / "outside" / "f").write_bytes(b"not ours")
    (tmp_path / "outside" / "deep" / "f").write_bytes(b"not ours")
    assert await watched.all_told() == set()


@pytest.mark.parametrize("leave", ["remove", "rename"])
async def test_a_root_that_goes_away_is_a_rescan(tree: FolderTree, tmp_path: Path, leave: str) -> None:
    watched = Watched(tree)
    watched.watcher.start()
    if leave == "remove":
        shutil.rmtree(tree.path)
    else:
        tree.path.rename(tmp_path / "elsewhere")
    await watched.until_rescan()
    watched.watcher.stop()


async def test_many_changes_are_told_together(watched: Watched) -> None:
    for number in range(500):
        (watched.path / "d" / str(number)).touch()
    await watched.until(lambda paths: len(paths) >= 500)
    assert len(watched.told) < 50


async def test_more_paths_than_can_be_remembered_are_a_rescan(tree: FolderTree) -> None:
    watched = Watched(tree)
    for number in range(FOLDER_DIRTY_PATHS_MAX + 1):
        watched.watcher._changed(os.fsencode(tree.path / str(number)))
    await watched.until_rescan()
    assert watched.told == [Dirty(frozenset(), rescan=True)]
    watched.watcher.stop()


async def test_a_lost_event_is_a_rescan(watched: Watched) -> None:
    overflow = InotifyEvent(WatchDescriptor(-1), Mask(InotifyConstants.IN_Q_OVERFLOW), 0, b"")
    assert watched.watcher._inotify is not None
    watched.watcher._inotify.handle_event(overflow)
    await watched.until_rescan()
    watched.told.clear()
    (watched.path / "d" / "f").write_bytes(b"after")  # and watching goes on
    await watched.until_told((b"d", b"f"))


async def test_running_out_of_watches_is_told_and_scanned(tree: FolderTree, monkeypatch: pytest.MonkeyPatch) -> None:
    add = InotifyFD.add_callback

    def limited(self: InotifyFD, path: bytes, *rest: object) -> WatchDescriptor:
        if path.endswith(b"/one-too-many"):
            raise OSError(28, "inotify watch limit reached")
        return add(self, path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(InotifyFD, "add_callback", limited)
    (tree.path / "one-too-many").mkdir()
    watched = Watched(tree)
    watched.watcher.start()
    await watched.until_rescan()
    assert watched.watcher.limited
    watched.watcher.stop()


async def test_a_missing_root_is_no_error(tmp_path: Path) -> None:
    told: list[Dirty] = []
    watcher = Watcher(os.fsencode(tmp_path / "missing"), asyncio.get_running_loop(), told.append)
    watcher.start()
    assert watcher.limited
    watcher.stop()


async def test_nothing_is_told_after_stop(watched: Watched) -> None:
    watched.watcher.stop()
    watched.watcher.stop()
    (watched.path / "f").touch()
    await asyncio.sleep(0)
    assert watched.told == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
async def test_random_moves_of_directories_lose_nothing(tree: FolderTree, seed: int) -> None:
    generator = random.Random(seed)
    for number in range(20):
        (tree.path / f"t{number}" / "a" / "b").mkdir(parents=True)
    watched = Watched(tree)
    watched.watcher.start()
    directories = [
        Path(name) for name, _, _ in os.walk(tree.path) if ".meshsync" not in name and Path(name) != tree.path
    ]
    top = os.open(tree.path, os.O_RDONLY)
    for _ in range(2000):
        one, other = generator.sample(directories, 2)
        names = [os.fsencode(path.relative_to(tree.path)) for path in (one, other)]
        with contextlib.suppress(OSError):  # one that is not there, or would go into itself
            if generator.random() < 0.5:
                Syscalls().exchange(top, names[0], top, names[1])
            else:
                one.rename(other / f"moved {generator.randrange(3)}")
        if generator.random() < 0.01:
            await watched.all_told()
            (tree.path / "last").unlink()
            watched.told.clear()
    os.close(top)
    await watched.all_told()
    written = watched.write_everywhere()
    assert await watched.until_told(*written) - {(b"last",)} == written
    watched.watcher.stop()


@pytest.mark.slow
async def test_20000_directories(tree: FolderTree) -> None:
    for number in range(20_000):
        os.makedirs(tree.path / str(number % 100) / str(number))
    watched = Watched(tree)
    watched.watcher.start()
    assert not watched.watcher.limited
    tree.scan()
    assert await watched.all_told() == set(), "a scan of 20,000 directories raises no event"
    writer = (
        "import sys, pathlib; [(pathlib.Path(sys.argv[1], str(n % 100), str(n), 'f')).touch() for n in range(20000)]"
    )
    subprocess.run([sys.executable, "-c", writer, str(tree.path)], check=True)
    await watched.until(lambda paths: len(paths) >= 20_000 or any(dirty.rescan for dirty in watched.told))
    watched.watcher.stop()
