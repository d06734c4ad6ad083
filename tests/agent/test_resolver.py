"""Ending a conflict on a real disk: only what the last look saw is replaced, and what loses is kept first."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from meshsync.agent.in_conflict import InConflict, conflict_at
from meshsync.agent.kept import content_of, find_kept, kept_of
from meshsync.agent.observer import Observer
from meshsync.agent.resolver import Resolver, Winner
from meshsync.chunking.cut import CutParams
from meshsync.crypto.folder_keys import FolderKeys, commitment
from meshsync.errors import ConfigError, ResourceError, TextsClash, TransientError
from meshsync.folder.syscalls import Syscalls
from meshsync.ids import ROOT, Dot, FolderId, NodeId
from meshsync.sync.disk_rows import Path as TreePath
from meshsync.sync.disk_rows import SyncedRow
from meshsync.sync.local_tree import LocalTree
from meshsync.sync.synced_tree import SyncedTree
from tests.support.folder_tree import Crash, FaultySyscalls, FolderTree

EPOCH = commitment(b"e" * 32)
KEYS = FolderKeys(FolderId(b"F" * 32), b"s" * 32, {EPOCH: b"e" * 32}, EPOCH)
PARAMS = CutParams(16 << 10, 64 << 10, 256 << 10)
PLAN, COPY = (b"plan.txt",), (b"plan (conflict 01ab 12345678).txt",)
NODE = NodeId(b"n" * 32)
MINE, THEIRS, BASE = b"MINE\ntwo\nthree\n", b"one\ntwo\nTHEIRS\n", b"one\ntwo\nthree\n"


@dataclass
class Scene:
    """A folder whose disk and synced tree hold `plan.txt` in conflict."""

    tree: FolderTree
    synced: SyncedTree
    resolver: Resolver

    @property
    def conflict(self) -> InConflict:
        found = conflict_at(self.synced, PLAN)
        assert found is not None
        return found

    def files(self) -> dict[str, bytes]:
        return {
            path.name: path.read_bytes()
            for path in self.tree.path.iterdir()
            if path.name != ".meshsync" and path.is_file()
        }

    def kept(self) -> list[bytes]:
        return sorted(path.read_bytes() for path in (self.tree.path / ".meshsync/kept").rglob("*") if path.is_file())


def scene(directory: Path, syscalls: Syscalls | None = None) -> Scene:
    tree = FolderTree(directory)
    (directory / os.fsdecode(PLAN[0])).write_bytes(MINE)
    (directory / os.fsdecode(COPY[0])).write_bytes(THEIRS)
    if syscalls is not None:
        tree.root.close()
        tree.open(syscalls)
    observer = Observer(tree.root, KEYS, PARAMS, LocalTree(), lambda: 0)
    observer.look(None)
    synced = SyncedTree(
        [row(observer.local, PLAN, NODE, None), row(observer.local, COPY, NodeId(b"c" * 32), NODE)],
    )
    resolver = Resolver(tree.runtime, tree.root, tree.applier, observer.local, synced, lambda: KEYS, PARAMS)
    return Scene(tree, synced, resolver)


def row(local: LocalTree, path: TreePath, node: NodeId, copy_of: NodeId | None) -> SyncedRow:
    seen = local.at(path)
    assert seen is not None
    dot = Dot(node + bytes(12))
    return SyncedRow(
        node, (dot,), None, ROOT, path[0], path[0], copy_of, 0, seen.content, False, seen.stat.mtime_ns, seen.stat
    )


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Scene]:
    found = scene(tmp_path / "root")
    yield found
    found.tree.close()


@pytest.mark.parametrize(
    ("winner", "files", "kept"),
    [
        (Winner.MINE, {"plan.txt": MINE}, [THEIRS]),
        (Winner.THEIRS, {"plan.txt": THEIRS}, [MINE]),
        (Winner.BOTH, {"plan.txt": MINE, "plan (desk).txt": THEIRS}, []),
        (Winner.MERGED, {"plan.txt": b"MINE\ntwo\nTHEIRS\n"}, [MINE, THEIRS]),
    ],
)
def test_who_wins_lies_there_and_who_loses_is_kept(
    made: Scene, winner: Winner, files: dict[str, bytes], kept: list[bytes]
) -> None:
    done = made.resolver.resolve(made.conflict, winner, "desk", BASE)
    assert (made.files(), made.kept()) == (files, kept)
    assert [os.fsdecode(b"/".join(path)) for path in done.now] == list(files)
    for path, lost in done.lost:
        found = find_kept(made.tree.path, lost.content, KEYS, PARAMS)
        assert found is not None and b"".join(found.pieces()) in (MINE, THEIRS), path
    assert made.tree.staged_names() == []


def test_a_plain_name_that_is_taken_is_not_replaced(made: Scene) -> None:
    (made.tree.path / "plan (desk).txt").write_bytes(b"another")
    with pytest.raises(TransientError):
        made.resolver.resolve(made.conflict, Winner.BOTH, "desk")
    assert made.files() == {"plan.txt": MINE, os.fsdecode(COPY[0]): THEIRS, "plan (desk).txt": b"another"}


def test_the_name_of_a_device_never_leads_out_of_the_directory(made: Scene) -> None:
    made.resolver.resolve(made.conflict, Winner.BOTH, "../../x\n")
    assert set(made.files()) == {"plan.txt", "plan (....x).txt"}


@pytest.mark.parametrize("winner", Winner)
@pytest.mark.parametrize("changed", ["plan.txt", os.fsdecode(COPY[0])])
def test_a_file_that_was_changed_since_the_last_look_stays_as_it_is(made: Scene, winner: Winner, changed: str) -> None:
    (made.tree.path / changed).write_bytes(b"edited just now")
    with suppress(TransientError):
        made.resolver.resolve(made.conflict, winner, "desk", BASE)
    assert b"edited just now" in made.files().values()
    values = [*made.files().values(), *made.kept()]
    assert (THEIRS if changed == "plan.txt" else MINE) in values


def test_an_edit_at_the_last_moment_is_not_replaced(tmp_path: Path) -> None:
    syscalls = FaultySyscalls()
    made = scene(tmp_path / "root", syscalls)
    syscalls.before["exchange"] = lambda: (made.tree.path / "plan.txt").write_bytes(b"edited just now") and None
    with pytest.raises(TransientError):
        made.resolver.resolve(made.conflict, Winner.THEIRS, "desk")
    assert made.files() == {"plan.txt": b"edited just now", os.fsdecode(COPY[0]): THEIRS}
    made.tree.close()


def test_a_clash_changes_nothing(made: Scene) -> None:
    with pytest.raises(TextsClash):
        made.resolver.resolve(made.conflict, Winner.MERGED, "desk", b"one\nII\nthree\n" * 2)
    assert made.files() == {"plan.txt": MINE, os.fsdecode(COPY[0]): THEIRS} and made.kept() == []


def test_what_is_no_text_is_not_merged(made: Scene) -> None:
    with pytest.raises(TextsClash):
        made.resolver.resolve(made.conflict, Winner.MERGED, "desk", b"\0")
    assert made.files() == {"plan.txt": MINE, os.fsdecode(COPY[0]): THEIRS} and made.kept() == []


def test_a_directory_at_the_path_is_not_replaced(made: Scene) -> None:
    (made.tree.path / "plan.txt").unlink()
    (made.tree.path / "plan.txt").mkdir()
    observer = Observer(made.tree.root, KEYS, PARAMS, LocalTree(), lambda: 0)
    observer.look(None)
    made.synced.put(row(observer.local, PLAN, NODE, None))
    with pytest.raises(ConfigError):
        made.resolver.resolve(made.conflict, Winner.THEIRS, "desk")
    assert (made.tree.path / "plan.txt").is_dir()


@pytest.mark.parametrize("winner", [Winner.MINE, Winner.THEIRS, Winner.MERGED])
def test_where_the_file_system_has_no_second_names_a_copy_is_kept(tmp_path: Path, winner: Winner) -> None:
    syscalls = FaultySyscalls()
    syscalls.fails["link"] = errno.EPERM
    made = scene(tmp_path / "root", syscalls)
    done = made.resolver.resolve(made.conflict, winner, "desk", BASE)
    assert len(made.kept()) == len(done.lost) and set(made.files()) == {"plan.txt"}
    made.tree.close()


@pytest.mark.parametrize("call", ["create", "write", "exchange", "link", "make_directory"])
def test_an_error_of_the_disk_leaves_every_value_where_it_was(tmp_path: Path, call: str) -> None:
    syscalls = FaultySyscalls()
    made = scene(tmp_path / "root", syscalls)
    syscalls.fails[call] = errno.EIO
    with pytest.raises(ResourceError):
        made.resolver.resolve(made.conflict, Winner.THEIRS, "desk")
    assert made.files() == {"plan.txt": MINE, os.fsdecode(COPY[0]): THEIRS}
    made.tree.close()


@pytest.mark.parametrize("winner", Winner)
def test_a_crash_at_any_call_loses_nothing_and_the_path_is_never_empty(tmp_path: Path, winner: Winner) -> None:
    for number in range(200):
        syscalls = FaultySyscalls()
        made = scene(tmp_path / str(number), syscalls)
        syscalls.calls, syscalls.crash_at = 0, number
        try:
            made.resolver.resolve(made.conflict, winner, "desk", BASE)
        except Crash:
            pass
        else:
            made.tree.close()
            assert number > 1
            return
        made.tree.open(Syscalls())
        made.tree.staging.recover()
        assert "plan.txt" in made.files(), number
        values = {*made.files().values(), *made.kept()}
        assert {MINE, THEIRS} <= values, (number, values)
        made.tree.close()
    raise AssertionError("it never ends")


def test_what_was_set_aside_counts_as_kept_and_nothing_else_does(made: Scene) -> None:
    done = made.resolver.resolve(made.conflict, Winner.MINE, "desk", BASE)
    ((_, lost),) = done.lost
    never = content_of([b"x" * lost.content.size], KEYS, PARAMS)[0]
    assert kept_of(made.tree.path, {lost.content, never}, KEYS, PARAMS) == {lost.content}
    assert kept_of(made.tree.path, set(), KEYS, PARAMS) == set()
