"""Actions on a real disk, and what is said to be true afterwards (P16, docs/spec/view.md 6 and 7)."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from meshsync.agent.applying import ActionRunner, Applied, Intended
from meshsync.agent.folder_store import FolderStore
from meshsync.agent.staged import Staged
from meshsync.content.record import Content, Kind
from meshsync.crypto.folder_keys import FolderKeys, commitment
from meshsync.ids import ROOT, Dot, FolderId, NodeId
from meshsync.index.database import Database
from meshsync.sync.actions import Action, InParked, MakeDirectory, MakeLink, Move, Parked, Remove, SetAttr
from meshsync.sync.disk_rows import Stat, SyncedRow, parked_id
from tests.support.folder_tree import MTIME_NS, FaultySyscalls, FolderTree

EPOCH = commitment(b"e" * 32)
KEYS = FolderKeys(FolderId(b"F" * 32), b"s" * 32, {EPOCH: b"e" * 32}, EPOCH)
F, G = (b"f",), (b"g",)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[FolderTree]:
    tree = FolderTree(tmp_path / "root")
    (tree.path / "f").write_text("one")
    (tree.path / "g").write_text("other")
    yield tree
    tree.close()


def run(tree: FolderTree, *actions: Action) -> Applied:
    def intend(_: Sequence[Intended]) -> None:
        pass

    def record(_: Applied, __: dict[NodeId, Staged]) -> None:
        pass

    return ActionRunner(tree.applier, lambda: KEYS, intend, record).run(actions, {}, [])


def row_of(tree: FolderTree, name: bytes, executable: bool = False) -> SyncedRow:
    dot = Dot(name * 40)
    stat = Stat(*tree.stat(name.decode()))
    content = Content(Kind.FILE, stat.size, depth=0)
    return SyncedRow(NodeId(dot), (dot,), dot, ROOT, name, name, None, 0, content, executable, stat.mtime_ns, stat)


def test_an_mtime_and_an_exec_bit_are_set_and_seen(tree: FolderTree) -> None:
    before = row_of(tree, b"f")
    after = replace(before, executable=True, mtime_ns=MTIME_NS)
    applied = run(tree, SetAttr(before.node, F, True, MTIME_NS, before.stat, (after,)))
    (row,), (local,) = applied.rows, applied.local
    now = os.stat(tree.path / "f")
    assert (now.st_mtime_ns, bool(now.st_mode & 0o100), now.st_ino) == (MTIME_NS, True, before.stat.inode)  # type: ignore[union-attr]
    assert row == replace(after, stat=local.stat) and local.executable and local.stat == Stat(*tree.stat("f"))


def test_an_exec_bit_alone_moves_no_mtime(tree: FolderTree) -> None:
    before = row_of(tree, b"f")
    run(tree, SetAttr(before.node, F, True, None, before.stat, (replace(before, executable=True),)))
    assert os.stat(tree.path / "f").st_mtime_ns == before.mtime_ns


def test_a_file_that_was_changed_since_keeps_its_mtime(tree: FolderTree) -> None:
    before = row_of(tree, b"f")
    (tree.path / "f").write_text("edited meanwhile")
    edited = os.stat(tree.path / "f").st_mtime_ns
    applied = run(tree, SetAttr(before.node, F, False, MTIME_NS, before.stat, (before,)))
    assert not applied.rows and len(applied.changed) == 1
    assert os.stat(tree.path / "f").st_mtime_ns == edited


def test_two_exchanged_files_are_each_recorded_with_their_own_stat(tree: FolderTree) -> None:
    one, other = row_of(tree, b"f"), row_of(tree, b"g")
    rows = (replace(one, name=b"g"), replace(other, name=b"f"))
    applied = run(tree, Move(one.node, F, G, True, one.stat, other.stat, rows))
    assert {row.name: row.stat for row in applied.rows} == {
        b"g": Stat(*tree.stat("g")),
        b"f": Stat(*tree.stat("f")),
    }
    assert (tree.path / "g").read_text() == "one"


def test_what_is_shown_as_one_with_another_file_is_recorded_where_that_lies(tree: FolderTree) -> None:
    other = row_of(tree, b"g")
    moved = replace(other, name=b"f", order=1)
    applied = run(tree, Remove(other.node, G, Kind.FILE, other.stat, (moved,), ()))
    assert applied.rows == [moved] and applied.removed == [G]


def parked(tree: FolderTree) -> set[str]:
    return {path.name for path in (tree.path / ".meshsync").glob("parked-*")}


def made_in_place_of(tree: FolderTree, name: bytes, make: type[MakeDirectory] | type[MakeLink]) -> list[Action]:
    """What a plan does to put a directory or link where a file is that goes elsewhere."""
    before = row_of(tree, name)
    dot, content = Dot(b"n" * 44), Content(Kind.LINK, target=b"t")
    node = NodeId(dot)
    if make is MakeDirectory:
        made: Action = MakeDirectory(node, Parked(0), ())
    else:
        made = MakeLink(node, Parked(0), content, dot, MTIME_NS, None, (), ())
    new = SyncedRow(node, (dot,), dot, ROOT, name, name, None, 0, content, False, MTIME_NS, None)
    aside = (name + b" aside",)
    return [
        made,
        Move(node, Parked(0), (name,), True, None, before.stat, (new,)),
        Move(before.node, Parked(0), aside, False, before.stat, None, (replace(before, name=aside[0]),)),
    ]


@pytest.mark.parametrize("make", [MakeDirectory, MakeLink])
def test_what_a_plan_that_was_given_up_made_is_not_left_behind(
    tree: FolderTree, make: type[MakeDirectory] | type[MakeLink]
) -> None:
    actions = made_in_place_of(tree, b"f", make)
    (tree.path / "f").write_text("edited meanwhile")
    applied = run(tree, *actions)
    assert len(applied.changed) == 2 and parked(tree) == set()
    assert (tree.path / "f").read_text() == "edited meanwhile"


@pytest.mark.parametrize("make", [MakeDirectory, MakeLink])
@pytest.mark.parametrize("left", ["directory", "file"])
def test_what_a_crash_left_parked_does_not_stop_the_next_plan(
    tree: FolderTree, make: type[MakeDirectory] | type[MakeLink], left: str
) -> None:
    before = tree.path / ".meshsync" / "parked-0"
    if left == "directory":
        before.mkdir()
    else:
        before.touch()
    applied = run(tree, *made_in_place_of(tree, b"f", make))
    assert not applied.changed and not applied.blocked and parked(tree) == set()
    assert (tree.path / "f aside").read_text() == "one"
    assert (tree.path / "f").is_dir() == (make is MakeDirectory)


def test_what_apply_did_not_make_itself_is_never_removed_from_a_parked_place(tree: FolderTree) -> None:
    (tree.path / ".meshsync" / "parked-0").write_text("the only copy")
    applied = run(tree, *made_in_place_of(tree, b"f", MakeDirectory))
    assert not applied.changed and not applied.blocked and parked(tree) == set()
    (found,) = tree.path.glob("recovered *")
    assert found.read_text() == "the only copy"


def test_what_its_user_changed_before_it_was_parked_comes_back_into_the_tree(tree: FolderTree) -> None:
    before = row_of(tree, b"f")
    parked_directory = tree.path / ".meshsync" / "parked-0"
    parked_directory.mkdir()
    above = Stat(*tree.stat(".meshsync/parked-0"))
    (tree.path / "f").write_text("edited, and never seen")
    (tree.path / "f").rename(parked_directory / "f")
    applied = run(
        tree,
        Remove(before.node, InParked(Parked(0), F), Kind.FILE, before.stat, (), (before.node,)),
        Remove(NodeId(b"d" * 44), Parked(0), Kind.DIRECTORY, above, (), (NodeId(b"d" * 44),)),
    )
    assert applied.gone == [before.node, NodeId(b"d" * 44)] and not applied.changed and not applied.blocked
    assert parked(tree) == set()
    (found,) = tree.path.glob("recovered *")
    assert found.read_text() == "edited, and never seen"


def test_what_was_parked_and_is_gone_already_is_recorded_as_gone(tree: FolderTree) -> None:
    parked_directory = tree.path / ".meshsync" / "parked-0"
    parked_directory.mkdir()
    expected = Stat(*tree.stat(".meshsync/parked-0"))
    parked_directory.rmdir()  # as a removal does whose fsync fails
    node = NodeId(b"d" * 44)
    applied = run(tree, Remove(node, Parked(0), Kind.DIRECTORY, expected, (), (node,)))
    assert applied.gone == [node] and not applied.changed and not applied.blocked


def test_a_parked_directory_with_what_nobody_knows_comes_back_into_the_tree(tree: FolderTree) -> None:
    parked_directory = tree.path / ".meshsync" / "parked-0"
    parked_directory.mkdir()
    expected = Stat(*tree.stat(".meshsync/parked-0"))
    (parked_directory / "new").write_text("never seen")
    run(tree, Remove(NodeId(b"d" * 44), Parked(0), Kind.DIRECTORY, expected, (), (NodeId(b"d" * 44),)))
    assert parked(tree) == set()
    assert [path.read_text() for path in tree.path.glob("recovered */new")] == ["never seen"]


@pytest.mark.parametrize("below", [(b"gone", b"x"), (b"gone", b"y", b"x")])
def test_a_directory_that_went_away_is_to_be_looked_at(tree: FolderTree, below: tuple[bytes, ...]) -> None:
    # Looking at what should be in it finds nothing new: the same would be tried again and again.
    applied = run(tree, MakeDirectory(NodeId(b"n" * 46), below, ()))
    assert [path for _, path in applied.changed] == [below[:-1]] and not applied.blocked


@pytest.mark.parametrize("taken", ["file", "link"])
def test_a_directory_whose_place_was_taken_is_to_be_looked_at(tree: FolderTree, taken: str) -> None:
    place = tree.path / "d"
    place.write_text("a file now") if taken == "file" else place.symlink_to("elsewhere")
    applied = run(tree, MakeDirectory(NodeId(b"n" * 46), (b"d", b"n"), ()))
    assert [path for _, path in applied.changed] == [(b"d",)] and not applied.blocked


def test_an_edit_that_its_path_cannot_take_back_is_put_beside_it(tree: FolderTree) -> None:
    before = row_of(tree, b"f")
    calls = tree.root.syscalls = tree.applier._syscalls = FaultySyscalls()
    tree.staging.syscalls = tree.applier._swapper._syscalls = calls

    def edit() -> None:
        (tree.path / "f").write_text("edited meanwhile")

    def take_the_path() -> None:
        (tree.path / "f").write_text("and saved again")

    calls.before = {"rename": edit, "rename_new": take_the_path}
    applied = run(tree, Remove(before.node, F, Kind.FILE, before.stat, (), (before.node,)))
    found = {path.name: path.read_text() for path in tree.path.iterdir() if path.is_file()}
    (name,) = found.keys() - {"f", "g"}
    assert found[name] == "edited meanwhile" and found["f"] == "and saved again"
    assert (name.encode(),) in [path for _, path in applied.changed] and tree.staged_names() == []


@pytest.mark.parametrize("acting", ["replacing", "removing"])
def test_an_edit_whose_directory_went_away_meanwhile_is_put_above(tree: FolderTree, acting: str) -> None:
    (tree.path / "d" / "e").mkdir(parents=True)
    file = tree.path / "d" / "e" / "f"
    file.write_text("before")
    before = row_of(tree, b"d/e/f")
    calls = tree.root.syscalls = tree.applier._syscalls = FaultySyscalls()
    tree.staging.syscalls = tree.applier._swapper._syscalls = calls

    def edit() -> None:
        file.write_text("edited meanwhile")
        calls.before["rename_new" if acting == "removing" else "exchange"] = lambda: shutil.rmtree(tree.path / "d")

    path = (b"d", b"e", b"f")
    if acting == "removing":
        calls.before["rename"] = edit
        applied = run(tree, Remove(before.node, path, Kind.FILE, before.stat, (), (before.node,)))
    else:
        calls.before["exchange"] = edit
        link = Content(Kind.LINK, target=b"new")
        applied = run(tree, MakeLink(before.node, path, link, before.versions[0], MTIME_NS, before.stat, (before,)))
    (found,) = (path for path in tree.path.iterdir() if path.name not in {"f", "g", ".meshsync"})
    assert found.read_text() == "edited meanwhile"
    assert (os.fsencode(found.name),) in [path for _, path in applied.changed] and tree.staged_names() == []


def test_nothing_is_put_where_a_directory_was_to_be_that_did_not_move(tree: FolderTree) -> None:
    """Else it lies in the directory that was to leave that place."""
    for name in ("d", "e"):
        (tree.path / name).mkdir()
    wrong, other = replace(row_of(tree, b"d"), stat=row_of(tree, b"f").stat), row_of(tree, b"e")
    applied = run(
        tree,
        Move(wrong.node, (b"d",), (b"e",), True, wrong.stat, other.stat, ()),
        MakeDirectory(NodeId(b"n" * 44), (b"e", b"new"), ()),
        MakeDirectory(NodeId(b"o" * 44), (b"elsewhere",), ()),
    )
    assert [action.node for action, _ in applied.changed] == [wrong.node, NodeId(b"n" * 44)]
    assert [action.node for action in applied.done] == [NodeId(b"o" * 44)]
    assert not (tree.path / "e" / "new").exists()


def test_nodes_whose_file_was_replaced_are_gone(tree: FolderTree) -> None:
    # A row that stays would count as a file that its user put there once more.
    before, other = row_of(tree, b"f"), NodeId(b"o" * 46)
    link = Content(Kind.LINK, target=b"new")
    applied = run(tree, MakeLink(other, F, link, before.versions[0], MTIME_NS, before.stat, (), (before.node,)))
    assert applied.gone == [before.node]
    moved = row_of(tree, b"g")
    stat = Stat(*tree.stat("f"))
    applied = run(tree, Move(moved.node, G, F, False, moved.stat, stat, (moved,), (other,)))
    assert applied.gone == [other] and (tree.path / "f").read_text() == "other"


def test_a_parked_directory_of_which_something_could_not_be_removed_waits_where_it_is(tmp_path: Path) -> None:
    syscalls = FaultySyscalls()
    tree = FolderTree(tmp_path / "root", syscalls)
    (tree.path / ".meshsync" / "parked-0").mkdir()
    (tree.path / ".meshsync" / "parked-0" / "c").write_text("known")
    top, below = row_of(tree, b".meshsync/parked-0"), row_of(tree, b".meshsync/parked-0/c")
    syscalls.fails = {"unlink": errno.EIO}
    applied = run(
        tree,
        Remove(below.node, InParked(Parked(0), (b"c",)), Kind.FILE, below.stat, (), (below.node,)),
        Remove(top.node, Parked(0), Kind.DIRECTORY, top.stat, (), (top.node,)),
    )
    assert not applied.done and len(applied.blocked) == 2
    assert os.listdir(tree.path) == [".meshsync"], "nothing of it is given to the user as new"
    syscalls.fails = {}
    applied = run(
        tree,
        Remove(below.node, InParked(Parked(0), (b"c",)), Kind.FILE, below.stat, (), (below.node,)),
        Remove(top.node, Parked(0), Kind.DIRECTORY, top.stat, (), (top.node,)),
    )
    assert len(applied.done) == 2, "that it was moved and moved back meanwhile makes it nobody's edit"
    assert os.listdir(tree.path) == [".meshsync"] and not (tree.path / ".meshsync" / "parked-0").exists()
    tree.close()


def test_what_a_node_passes_through_is_intended_place_by_place(tmp_path: Path) -> None:
    database = Database(tmp_path / "index")
    store = FolderStore(database)
    row = SyncedRow(
        NodeId(b"n" * 40), (), None, parked_id(0), b"f", b"f", None, 0, Content(Kind.DIRECTORY), False, 0, None
    )
    after = replace(row, parent=ROOT)
    store.intend([(None, 5, (row,)), (F, 5, (after,))])
    assert [intent.rows for intent in FolderStore(database).intents()] == [(row,), (after,)]
    store.forget_intents([row.node])
    assert FolderStore(database).intents() == []
    database.close()


def test_intents_that_could_not_be_forgotten_are_forgotten_when_they_can(tmp_path: Path) -> None:
    database = Database(tmp_path / "index")
    store = FolderStore(database)
    row = SyncedRow(
        NodeId(b"n" * 40), (), None, parked_id(0), b"f", b"f", None, 0, Content(Kind.DIRECTORY), False, 0, None
    )
    store.intend([(None, 5, (row,)), (F, 5, (replace(row, parent=ROOT),))])
    with pytest.raises(KeyError), database.transaction():
        store.forget_intents([row.node])
        raise KeyError("the transaction is undone")
    assert len(store.intents()) == 2
    store.forget_intents([row.node])
    assert store.intents() == []
    database.close()


def test_the_intent_of_what_was_not_done_says_nothing_more(tree: FolderTree) -> None:
    # Its inode may soon be that of another file of the user's, which a restart would take for what apply did.
    before = row_of(tree, b"f")
    (tree.path / "f").write_text("edited meanwhile")
    after = replace(before, name=b"h", natural=b"h")
    applied = run(tree, Move(before.node, F, (b"h",), False, before.stat, None, (after,)))
    assert not applied.done and applied.intended == [before.node]
