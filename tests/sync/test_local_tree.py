"""The observed tree knows each object by its path and by its inode, whatever was put and removed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshsync.content.record import Content, Kind
from meshsync.sync.disk_rows import LocalRow, Path, Stat
from meshsync.sync.local_tree import LocalTree

PATHS: list[Path] = [(b"a",), (b"b",), (b"a", b"x"), (b"a", b"y"), (b"b", b"x")]
steps = st.lists(st.tuples(st.sampled_from(PATHS), st.none() | st.integers(1, 3)), max_size=20)


def row(path: Path, inode: int) -> LocalRow:
    return LocalRow(path, Content(Kind.DIRECTORY), False, Stat(inode, 0, 0, 0, 0))


@given(steps)
def test_an_object_is_found_at_each_of_its_paths_by_its_inode(drawn: list[tuple[Path, int | None]]) -> None:
    tree, known = LocalTree(), dict[Path, int]()
    for path, inode in drawn:
        if inode is None:
            tree.remove(path)
            known = {at: each for at, each in known.items() if at[: len(path)] != path}
        elif path[:-1] in known or len(path) == 1:
            tree.put(row(path, inode))
            known[path] = inode
        for each in (1, 2, 3):
            assert sorted(tree.of_inode(each)) == sorted(at for at, inode in known.items() if inode == each)
