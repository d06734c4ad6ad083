"""What a decision replaces is kept first, under its path, and nothing that was kept is touched again."""

from __future__ import annotations

import errno
from pathlib import Path

from meshsync.folder.aside import kept_path, set_aside
from meshsync.folder.types import Blocked, Changed, Done, Stat
from tests.support.folder_tree import FaultySyscalls, FolderTree


def stat_of(tree: FolderTree, path: tuple[bytes, ...]) -> Stat:
    with tree.root.directory(path[:-1]) as fd:
        return tree.root.syscalls.status(fd, path[-1]).stat


def kept(tree: FolderTree) -> Path:
    return tree.path.joinpath(*(name.decode() for name in kept_path(b"label")))


def test_a_file_is_kept_and_stays_where_it_is(tree: FolderTree) -> None:
    (tree.path / "a/b").mkdir(parents=True)
    (tree.path / "a/b/f").write_bytes(b"bytes")
    outcome = set_aside(tree.root, (b"a", b"b", b"f"), b"label", stat_of(tree, (b"a", b"b", b"f")))
    assert outcome == Done(stat_of(tree, (b"a", b"b", b"f")))
    (tree.path / "a/b/f").unlink()
    assert (kept(tree) / "a/b/f").read_bytes() == b"bytes"


def test_a_link_is_kept_as_a_link(tree: FolderTree) -> None:
    (tree.path / "l").symlink_to("/etc/passwd")
    assert isinstance(set_aside(tree.root, (b"l",), b"label", stat_of(tree, (b"l",))), Done)
    assert str((kept(tree) / "l").readlink()) == "/etc/passwd"


def test_another_file_than_expected_is_left_alone(tree: FolderTree) -> None:
    (tree.path / "f").write_bytes(b"1")
    seen = stat_of(tree, (b"f",))
    (tree.path / "f").write_bytes(b"22")
    assert isinstance(set_aside(tree.root, (b"f",), b"label", seen), Changed)
    assert not (kept(tree) / "f").exists()


def test_what_was_kept_is_never_replaced(tree: FolderTree) -> None:
    (tree.path / "f").write_bytes(b"1")
    set_aside(tree.root, (b"f",), b"label", stat_of(tree, (b"f",)))
    (tree.path / "f").unlink()
    (tree.path / "f").write_bytes(b"2")
    assert isinstance(set_aside(tree.root, (b"f",), b"label", stat_of(tree, (b"f",))), Changed)
    assert (kept(tree) / "f").read_bytes() == b"1"


def test_a_link_in_the_place_of_the_kept_directory_leads_nowhere(tree: FolderTree, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tree.path / ".meshsync/kept").symlink_to(tmp_path / "outside")
    (tree.path / "f").write_bytes(b"1")
    assert isinstance(set_aside(tree.root, (b"f",), b"label", stat_of(tree, (b"f",))), Blocked)
    assert list((tmp_path / "outside").iterdir()) == []


def test_without_second_names_the_file_is_moved(tmp_path: Path) -> None:
    syscalls = FaultySyscalls()
    tree = FolderTree(tmp_path / "root", syscalls)
    (tree.path / "f").write_bytes(b"1")
    syscalls.fails["link"] = errno.EPERM
    assert set_aside(tree.root, (b"f",), b"label", stat_of(tree, (b"f",))) == Done(None)
    assert (kept(tree) / "f").read_bytes() == b"1"
    assert not (tree.path / "f").exists()
    tree.close()
