"""Nothing that the user wrote is lost, whatever the user does at whatever system call (P1, P5)."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshsync.folder.syscalls import Syscalls
from meshsync.folder.types import Done, Outcome, RelativePath, Stat
from tests.support.folder_tree import MTIME_NS, Crash, FaultySyscalls, FolderTree, OldKernel

PATHS = ("a", "b")


class User:
    """Writes values that are all different, and knows which of them must still be somewhere."""

    def __init__(self, root: Path) -> None:
        self._root, self._sizes = root, itertools.count(1)
        self.alive: set[bytes] = set()

    def seen(self, name: str) -> bytes | None:
        path = self._root / name
        return path.read_bytes() if path.is_file() and not path.is_symlink() else None

    def gives_up(self, value: bytes | None) -> None:
        self.alive -= {value} if value is not None else set()

    def save(self, name: str, by_rename: bool) -> None:
        value = b"u" * next(self._sizes)
        target = self._root / (name + ".new" if by_rename else name)
        if target.is_dir() or target.is_symlink() or (self._root / name).is_dir():
            return
        self.gives_up(self.seen(name))
        target.write_bytes(value)
        os.rename(target, self._root / name)
        self.alive.add(value)

    def remove(self, name: str) -> None:
        self.gives_up(self.seen(name))
        with suppress(OSError):
            (self._root / name).unlink()

    def rename(self, name: str) -> None:
        other = PATHS[1 - PATHS.index(name)]
        if (self._root / name).exists() and not (self._root / other).is_dir() and not (self._root / name).is_dir():
            self.gives_up(self.seen(other))
            os.rename(self._root / name, self._root / other)


Act = Callable[[User, str], None]
ACTS: dict[str, Act] = {
    "save by rename": lambda user, name: user.save(name, by_rename=True),
    "save in place": lambda user, name: user.save(name, by_rename=False),
    "remove": User.remove,
    "rename": User.rename,
}
Change = Callable[[FolderTree, RelativePath, Stat | None], Outcome]


def replace(tree: FolderTree, path: RelativePath, expected: Stat | None) -> Outcome:
    staged = tree.stage(b"from another device")
    outcome = tree.applier.replace(path, staged, expected)
    staged.discard()
    return outcome


CHANGES: dict[str, Change] = {
    "replace": replace,
    "link": lambda tree, path, expected: tree.applier.make_link(path, b"target", MTIME_NS, expected),
    "directory": lambda tree, path, expected: tree.applier.make_directory(path, expected),
    "remove": lambda tree, path, expected: tree.applier.remove_file(path, expected or Stat(0, 0, 0, 0, 0)),
    "move": lambda tree, path, expected: tree.applier.move(
        path, (b"b" if path == (b"a",) else b"a",), expected or Stat(0, 0, 0, 0, 0)
    ),
}

acts = st.tuples(st.sampled_from(sorted(ACTS)), st.sampled_from(PATHS))
hooks = st.lists(
    st.tuples(st.sampled_from(["exchange", "rename", "rename_new", "fsync", "unlink", "status"]), acts), max_size=3
)
steps = st.lists(st.tuples(st.lists(acts, max_size=2), st.sampled_from(sorted(CHANGES)), hooks), max_size=6)


def values(tree: FolderTree) -> Iterator[bytes]:
    for folder, _, names in os.walk(tree.path):
        for name in names:
            with suppress(OSError):
                yield (Path(folder) / name).read_bytes()


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(script=steps, crash_at=st.integers(-1, 60))
def test_no_value_of_the_user_is_lost(script: list[object], crash_at: int) -> None:
    run(script, FaultySyscalls(crash_at))


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(script=steps)
def test_nor_without_renameat2_while_the_user_is_quiet_during_calls(script: list[object]) -> None:
    run([(before, change, []) for before, change, _ in script], OldKernel())  # type: ignore[misc]


def run(script: list[object], syscalls: FaultySyscalls) -> None:
    home = Path(tempfile.mkdtemp())
    tree = FolderTree(home / "root", syscalls)
    user = User(tree.path)
    try:
        with suppress(Crash):
            for step in script:
                play(tree, syscalls, user, *step)  # type: ignore[misc]
        tree.root.close()
        tree.open(Syscalls())
        for number, item in enumerate(tree.staging.recover()):
            tree.applier.place_rescued(item.name, (b"rescued%d" % number,))
        assert tree.staged_names() == []
        assert user.alive <= set(values(tree))
    finally:
        tree.close()
        shutil.rmtree(home)


def play(
    tree: FolderTree,
    syscalls: FaultySyscalls,
    user: User,
    before: list[tuple[str, str]],
    change: str,
    during: list[tuple[str, tuple[str, str]]],
) -> None:
    """Let the user act, then apply one change to `a` as the scan saw it, with the user acting at its system calls."""
    for act, name in before:
        ACTS[act](user, name)
    found = tree.scan()[0].get((b"a",))
    known = user.seen("a")
    syscalls.before = {
        call: (lambda act=act, name=name: ACTS[act](user, name)) for call, (act, name) in during
    }  # fmt: skip
    crashed = True
    try:
        outcome = CHANGES[change](tree, (b"a",), found.stat if found else None)
        crashed = False
    finally:
        syscalls.before = {}
        if change != "move" and (crashed or isinstance(outcome, Done)):
            user.gives_up(known)  # this is the value whose removal the plan has a witness for
