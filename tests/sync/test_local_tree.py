"""The observed tree: a dictionary of paths that knows its directories. Promises P14 (absence is not deletion)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshsync.content.record import Content, Kind
from meshsync.sync.disk_rows import LocalRow, Path, Stat
from meshsync.sync.local_tree import LocalTree

names = st.sampled_from([b"a", b"b", b"c"])
paths = st.lists(names, min_size=1, max_size=3).map(tuple)


def row(path: Path) -> LocalRow:
    return LocalRow(path, Content(Kind.DIRECTORY), False, Stat(1, 0, 0, 0, 0))


def closed(found: list[Path]) -> set[Path]:
    """Return the paths with every directory above them."""
    return {path[:size] for path in found for size in range(1, len(path) + 1)}


@given(st.lists(paths, max_size=8), st.lists(paths, max_size=3))
def test_a_tree_is_what_was_put_less_what_was_removed_with_all_beneath_it(put: list[Path], removed: list[Path]) -> None:
    tree = LocalTree(map(row, sorted(closed(put))))
    left = closed(put)
    for top in removed:
        tree.remove(top)
        left = {path for path in left if path[: len(top)] != top}
    assert len(tree) == len(left) and {found.path for found in tree.walk()} == left
    for path in left | {()}:
        below = sorted(other[-1] for other in left if other[:-1] == path)
        assert tree.names(path) == below and (path == () or tree.at(path) == row(path))


@given(st.lists(paths, max_size=8), paths)
def test_a_walk_begins_at_its_top_and_gives_parents_first(put: list[Path], top: Path) -> None:
    tree = LocalTree(map(row, sorted(closed(put))))
    walked = [found.path for found in tree.walk(top)]
    assert set(walked) == {path for path in closed(put) if path[: len(top)] == top}
    assert all(path == top or path[:-1] in walked[:at] for at, path in enumerate(walked))


def test_nothing_follows_from_absence_below_what_was_not_observed() -> None:
    tree = LocalTree(unobserved=[(b"a", b"b")])
    assert tree.is_observed((b"a",)) and tree.is_observed((b"a", b"c"))
    assert not tree.is_observed((b"a", b"b")) and not tree.is_observed((b"a", b"b", b"c"))
    assert LocalTree().is_observed(())
