"""What was read of a file is kept until it is synced, whatever lay at its path before (P12)."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshsync.agent.observer import Observer
from meshsync.chunking.cut import CutParams
from meshsync.content.record import Kind
from meshsync.crypto.folder_keys import FolderKeys, commitment
from meshsync.folder.types import Reason
from meshsync.ids import FolderId
from meshsync.limits import FOLDER_RACY_WINDOW_NS
from meshsync.sync.local_tree import LocalTree
from tests.support.folder_tree import FaultySyscalls, FolderTree

EPOCH = commitment(b"e" * 32)
KEYS = FolderKeys(FolderId(b"F" * 32), b"s" * 32, {EPOCH: b"e" * 32}, EPOCH)
PARAMS = CutParams(16 << 10, 64 << 10, 256 << 10)
P, BELOW = (b"p",), (b"p", b"below")


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[FolderTree]:
    tree = FolderTree(tmp_path / "root")
    yield tree
    tree.close()


def make_link(path: Path) -> None:
    path.symlink_to("target")


def make_directory(path: Path) -> None:
    path.mkdir()
    (path / "below").write_text("beneath")


def take_away(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        (path / "below").unlink()
        path.rmdir()
    else:
        path.unlink()


@pytest.mark.parametrize("before", [make_link, make_directory])
def test_the_chunks_of_a_file_that_took_the_place_of_another_kind_are_known(
    tree: FolderTree, before: Callable[[Path], None]
) -> None:
    # Without them this device could serve and upload nothing of a file that it has published.
    observer = Observer(tree.root, KEYS, PARAMS, LocalTree(), lambda: 0)
    before(tree.path / "p")
    observer.look(None)
    take_away(tree.path / "p")
    (tree.path / "p").write_text("a file now")
    seen = observer.look([P])
    row = observer.local.at(P)
    assert row is not None and row.kind is Kind.FILE and P in seen.changed
    assert observer.hashed[P].content == row.content
    assert BELOW not in observer.hashed and observer.local.at(BELOW) is None


@pytest.mark.parametrize("after", [make_link, make_directory])
def test_nothing_is_kept_of_a_file_whose_place_another_kind_took(
    tree: FolderTree, after: Callable[[Path], None]
) -> None:
    observer = Observer(tree.root, KEYS, PARAMS, LocalTree(), lambda: 0)
    (tree.path / "p").write_text("a file")
    observer.look(None)
    take_away(tree.path / "p")
    after(tree.path / "p")
    seen = observer.look([P])
    row = observer.local.at(P)
    assert row is not None and row.kind is not Kind.FILE and P in seen.changed
    assert P not in observer.hashed


CHANGES: dict[str, Callable[[Path], object]] = {
    "an edit": lambda top: (top / "below").write_text("edited"),
    "another mode": lambda top: (top / "below").chmod(0o755),
    "a new file": lambda top: (top / "new").touch(),
    "a removal": lambda top: (top / "below").unlink(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_directory_is_as_seen_until_something_in_it_changes(
    tree: FolderTree, change: Callable[[Path], object]
) -> None:
    make_directory(tree.path / "p")
    observer = Observer(tree.root, KEYS, PARAMS, LocalTree(), tree.runtime.wall_time_ns)
    observer.look(None)
    assert observer.is_as_seen(P)
    change(tree.path / "p")
    assert not observer.is_as_seen(P)
    observer.look([P])
    assert observer.is_as_seen(P)


def test_a_file_below_a_directory_that_nobody_told_of_is_observed_with_it(tree: FolderTree) -> None:
    observer = Observer(tree.root, KEYS, PARAMS, LocalTree(), lambda: 0)
    observer.look(None)
    (tree.path / "d" / "e").mkdir(parents=True)
    (tree.path / "d" / "e" / "f").write_text("one")
    observer.look([(b"d", b"e", b"f")])
    assert [observer.local.at(path) is not None for path in ((b"d",), (b"d", b"e"), (b"d", b"e", b"f"))] == [True] * 3


def test_it_is_told_when_what_could_not_be_observed_can_be(tmp_path: Path) -> None:
    calls = FaultySyscalls()
    tree = FolderTree(tmp_path / "root", calls)
    try:
        (tree.path / "d").mkdir()
        observer = Observer(tree.root, KEYS, PARAMS, LocalTree(), lambda: 0)
        calls.fails = {"names": errno.EIO}
        assert not observer.look([(b"d",)]).cleared and observer.problems
        assert not observer.look([(b"d",)]).cleared
        calls.fails = {}
        assert observer.look([(b"d",)]).cleared and not observer.problems
        assert not observer.look([(b"d",)]).cleared
    finally:
        tree.close()


def test_what_can_be_looked_into_again_is_planned_again_though_it_looks_as_before(tmp_path: Path) -> None:
    syscalls = FaultySyscalls()
    tree = FolderTree(tmp_path / "flaky", syscalls)
    observer = Observer(tree.root, KEYS, PARAMS, LocalTree(), tree.runtime.wall_time_ns)
    observer.look(None)
    make_directory(tree.path / "p")
    syscalls.fails["names"] = errno.EIO
    assert observer.look([P]).problems[P].reason is Reason.IO
    syscalls.fails.clear()
    seen = observer.look([P])
    assert P in seen.changed and not seen.problems and observer.problems == {}
    tree.close()


def test_a_file_that_was_just_emptied_is_told_of_once_it_stays_so(tree: FolderTree) -> None:
    # Whoever rewrites a file in place empties it first: an empty version would meet others' changes as a conflict.
    file = tree.path / "p"
    age_ns = 0
    observer = Observer(tree.root, KEYS, PARAMS, LocalTree(), lambda: file.stat().st_ctime_ns + age_ns)
    file.write_text("before")
    observer.look(None)
    before = observer.local.at(P)
    file.write_text("")
    seen = observer.look([P])
    assert not seen.changed and seen.again == {P} and observer.local.at(P) == before
    age_ns = FOLDER_RACY_WINDOW_NS + 1
    seen = observer.look([P])
    now = observer.local.at(P)
    assert seen.changed == {P} and not seen.again and now is not None and now.content.size == 0


def test_what_is_written_into_a_file_that_was_emptied_is_told_of_at_once(tree: FolderTree) -> None:
    file = tree.path / "p"
    observer = Observer(tree.root, KEYS, PARAMS, LocalTree(), lambda: file.stat().st_ctime_ns)
    file.write_text("before")
    observer.look(None)
    file.write_text("")
    observer.look([P])
    file.write_text("after it")
    assert observer.look([P]).changed == {P}


@pytest.mark.parametrize("hinted", [BELOW, (*BELOW, b"deeper")])
def test_what_lies_below_a_path_that_was_a_file_shows_that_it_is_none_any_more(
    tree: FolderTree, hinted: tuple[bytes, ...]
) -> None:
    # The hint about the path itself was lost. A child of a file would be published as new at every look, for ever.
    observer = Observer(tree.root, KEYS, PARAMS, LocalTree(), lambda: 0)
    (tree.path / "p").write_text("a file")
    observer.look(None)
    take_away(tree.path / "p")
    make_directory(tree.path / "p")
    seen = observer.look([hinted])
    found = {path: row.kind for path in (P, BELOW) if (row := observer.local.at(path)) is not None}
    assert found == {P: Kind.DIRECTORY, BELOW: Kind.FILE}
    assert {P, BELOW} <= seen.changed


@pytest.mark.parametrize("kind", [make_directory, make_link, lambda path: path.write_text("a file")])
def test_where_something_came_from_is_looked_at_with_it(tree: FolderTree, kind: Callable[[Path], None]) -> None:
    # The watcher may tell of one end of a rename only. Seen alone, the new name would be published as a copy, and the
    # old one as removed later, when another device may have taken the copy for the only one.
    observer = Observer(tree.root, KEYS, PARAMS, LocalTree(), lambda: 0)
    kind(tree.path / "p")
    (tree.path / "other").write_text("a file")
    observer.look(None)
    (tree.path / "p").rename(tree.path / "new")
    seen = observer.look([(b"new",)])
    assert {P, (b"new",)} <= seen.changed
    assert observer.local.at(P) is None and observer.local.at(BELOW) is None
    assert observer.local.at((b"other",)) is not None


def test_where_something_came_from_is_looked_at_through_any_number_of_renames(tree: FolderTree) -> None:
    observer = Observer(tree.root, KEYS, PARAMS, LocalTree(), lambda: 0)
    for name in "abcd":
        (tree.path / name).write_text(name)
    observer.look(None)
    for name, after in ("de", "cd", "bc", "ab"):
        (tree.path / name).rename(tree.path / after)
    observer.look([(b"b",)])
    # What lies at e came from d, and nothing that was looked at tells of it.
    assert [row.path for row in observer.local.walk()] == [(b"b",), (b"c",), (b"d",)]


def test_a_second_name_of_a_file_leaves_the_first(tree: FolderTree) -> None:
    observer = Observer(tree.root, KEYS, PARAMS, LocalTree(), lambda: 0)
    (tree.path / "p").write_text("a file")
    observer.look(None)
    (tree.path / "new").hardlink_to(tree.path / "p")
    observer.look([(b"new",)])
    assert [row.path for row in observer.local.walk()] == [(b"new",), P]
