"""Changing the user's files: what is replaced, what is kept, what is refused (P1, P5, P11, P12, P15, P16, B15-B17)."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest

from meshsync.content.record import Kind
from meshsync.errors import ChunkMismatch, ResourceError, StorageFull
from meshsync.folder.staging import StagedFile
from meshsync.folder.syscalls import Syscalls
from meshsync.folder.types import Blocked, Changed, Done, Reason, RelativePath, Stat
from meshsync.limits import FOLDER_STAGING_FREE_BYTES_MIN, KIB, MIB
from tests.support.folder_tree import MTIME_NS, FaultySyscalls, FolderTree, OldKernel

F: RelativePath = (b"f",)


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[tuple[FolderTree, FaultySyscalls]]:
    syscalls = FaultySyscalls()
    tree = FolderTree(tmp_path / "root", syscalls)
    yield tree, syscalls
    tree.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


class TestReplace:
    def test_new_file(self, any_tree: FolderTree) -> None:
        staged = any_tree.stage(b"new", executable=True)
        inode = staged.inode
        outcome = any_tree.applier.replace(F, staged, None)
        assert outcome == Done(any_tree.scan()[0][F].stat)
        assert (any_tree.path / "f").read_bytes() == b"new"
        assert (any_tree.path / "f").stat().st_ino == inode, "the intent names the inode that a scan will find"
        assert (any_tree.path / "f").stat().st_mtime_ns == MTIME_NS
        assert any_tree.staged_names() == []

    def test_replaced_file_is_given_to_keep_and_removed(self, any_tree: FolderTree) -> None:
        (any_tree.path / "f").write_bytes(b"old")
        kept: list[bytes] = []
        expected = any_tree.scan()[0][F].stat
        outcome = any_tree.applier.replace(F, any_tree.stage(b"new"), expected, lambda fd: kept.append(os.read(fd, 9)))
        assert isinstance(outcome, Done) and kept == [b"old"]
        assert (any_tree.path / "f").read_bytes() == b"new" and any_tree.staged_names() == []

    def test_an_open_handle_keeps_its_bytes(self, any_tree: FolderTree) -> None:
        (any_tree.path / "f").write_bytes(b"old")
        with (any_tree.path / "f").open("rb") as handle:
            any_tree.applier.replace(F, any_tree.stage(b"new"), any_tree.scan()[0][F].stat)
            assert handle.read() == b"old"

    def test_an_edit_since_the_scan_stays(self, any_tree: FolderTree) -> None:
        (any_tree.path / "f").write_bytes(b"old")
        expected = any_tree.scan()[0][F].stat
        (any_tree.path / "f").write_bytes(b"edit")
        staged = any_tree.stage(b"new")
        assert isinstance(any_tree.applier.replace(F, staged, expected), Changed)
        assert (any_tree.path / "f").read_bytes() == b"edit"
        staged.discard()
        assert any_tree.staged_names() == []

    def test_an_edit_since_the_scan_is_not_hidden_for_a_moment(self, tmp_path: Path) -> None:
        syscalls = FaultySyscalls()
        tree = FolderTree(tmp_path / "root", syscalls)
        (tree.path / "f").write_bytes(b"old")
        expected = tree.scan()[0][F].stat
        (tree.path / "f").write_bytes(b"edit")
        staged = tree.stage(b"new")
        calls = syscalls.calls
        assert isinstance(tree.applier.replace(F, staged, expected), Changed)
        assert syscalls.calls == calls, "nothing on the disk was changed, not even to be put back"
        tree.close()

    def test_an_edit_that_lands_before_the_last_look_stays_where_nothing_can_be_exchanged(self, tmp_path: Path) -> None:
        syscalls = OldKernel()
        tree = FolderTree(tmp_path / "root", syscalls)
        (tree.path / "f").write_bytes(b"old")
        expected = tree.scan()[0][F].stat
        staged = tree.stage(b"new")
        syscalls.before["exchange"] = lambda: save_in_place(tree.path / "f")
        assert isinstance(tree.applier.replace(F, staged, expected), Changed)
        assert (tree.path / "f").read_bytes() == b"user"
        tree.close()

    def test_a_file_created_since_the_scan_stays(self, any_tree: FolderTree) -> None:
        (any_tree.path / "f").write_bytes(b"mine")
        staged = any_tree.stage(b"new")
        assert any_tree.applier.replace(F, staged, None) == Changed(any_tree.scan()[0][F].stat)
        assert (any_tree.path / "f").read_bytes() == b"mine"

    def test_a_file_removed_since_the_scan_is_not_brought_back(self, any_tree: FolderTree) -> None:
        (any_tree.path / "f").write_bytes(b"old")
        expected = any_tree.scan()[0][F].stat
        (any_tree.path / "f").unlink()
        assert any_tree.applier.replace(F, any_tree.stage(b"new"), expected) == Changed(None)
        assert not (any_tree.path / "f").exists()

    def test_missing_parent_blocks(self, any_tree: FolderTree) -> None:
        staged = any_tree.stage(b"new")
        outcome = any_tree.applier.replace((b"d", b"f"), staged, None)
        assert isinstance(outcome, Blocked) and outcome.reason is Reason.PARENT_MISSING


def save_by_rename(path: Path) -> None:
    (path.parent / "f.new").write_bytes(b"user")
    os.rename(path.parent / "f.new", path)


def save_in_place(path: Path) -> None:
    path.write_bytes(b"user")


class TestEditBetweenTheLastLookAndTheExchange:
    """The user is always faster here: `before` acts between the check and the system call."""

    @pytest.mark.parametrize("save", [save_by_rename, save_in_place])
    def test_an_edit_that_comes_out_goes_back(
        self, faulty: tuple[FolderTree, FaultySyscalls], save: Callable[[Path], None]
    ) -> None:
        tree, syscalls = faulty
        (tree.path / "f").write_bytes(b"old")
        staged = tree.stage(b"new")
        syscalls.before["exchange"] = lambda: save(tree.path / "f")
        outcome = tree.applier.replace(F, staged, tree.stat("f"))
        assert isinstance(outcome, Changed) and outcome.rescued == b""
        assert (tree.path / "f").read_bytes() == b"user"
        again = tree.applier.replace(F, staged, tree.stat("f"))
        assert isinstance(again, Done) and (tree.path / "f").read_bytes() == b"new"
        assert tree.staged_names() == []

    def test_a_second_edit_while_the_first_goes_back_is_rescued(
        self, faulty: tuple[FolderTree, FaultySyscalls]
    ) -> None:
        tree, syscalls = faulty
        (tree.path / "f").write_bytes(b"old")
        staged = tree.stage(b"new")

        def first() -> None:
            save_by_rename(tree.path / "f")
            syscalls.before["exchange"] = lambda: (tree.path / "f").write_bytes(b"second") and None

        syscalls.before["exchange"] = first
        outcome = tree.applier.replace(F, staged, tree.stat("f"))
        assert isinstance(outcome, Changed) and outcome.rescued
        assert {(tree.path / "f").read_bytes(), rescued_bytes(tree, outcome.rescued)} == {b"user", b"second"}
        assert [item.name for item in tree.staging.recover()] == [outcome.rescued]
        assert isinstance(tree.applier.place_rescued(outcome.rescued, (b"f (conflict)",)), Done)
        assert tree.staged_names() == []

    def test_an_edit_that_cannot_go_back_survives_the_discarding_of_the_staged_file(
        self, faulty: tuple[FolderTree, FaultySyscalls]
    ) -> None:
        tree, syscalls = faulty
        (tree.path / "f").write_bytes(b"old")
        staged = tree.stage(b"new")

        def first() -> None:
            save_by_rename(tree.path / "f")
            syscalls.before["exchange"] = lambda: syscalls.fails.update(exchange=errno.EIO)

        syscalls.before["exchange"] = first
        outcome = tree.applier.replace(F, staged, tree.stat("f"))
        assert isinstance(outcome, Blocked) and outcome.reason is Reason.IO
        staged.discard()
        (rescued,) = tree.staging.recover()
        assert rescued_bytes(tree, rescued.name) == b"user"

    def test_a_removal_while_the_edit_goes_back(self, faulty: tuple[FolderTree, FaultySyscalls]) -> None:
        tree, syscalls = faulty
        (tree.path / "f").write_bytes(b"old")

        def first() -> None:
            save_by_rename(tree.path / "f")
            syscalls.before["exchange"] = (tree.path / "f").unlink

        syscalls.before["exchange"] = first
        outcome = tree.applier.replace(F, tree.stage(b"new"), tree.stat("f"))
        assert isinstance(outcome, Changed) and (tree.path / "f").read_bytes() == b"user"

    def test_a_file_that_appears_is_not_replaced(self, faulty: tuple[FolderTree, FaultySyscalls]) -> None:
        tree, syscalls = faulty
        syscalls.before["rename_new"] = lambda: save_in_place(tree.path / "f")
        assert isinstance(tree.applier.replace(F, tree.stage(b"new"), None), Changed)
        assert (tree.path / "f").read_bytes() == b"user"

    def test_an_edit_that_would_be_removed_goes_back(self, faulty: tuple[FolderTree, FaultySyscalls]) -> None:
        tree, syscalls = faulty
        (tree.path / "f").write_bytes(b"old")
        syscalls.before["rename"] = lambda: save_by_rename(tree.path / "f")
        assert isinstance(tree.applier.remove_file(F, tree.stat("f")), Changed)
        assert (tree.path / "f").read_bytes() == b"user" and tree.staged_names() == []

    def test_a_directory_that_took_the_files_place_goes_back(self, faulty: tuple[FolderTree, FaultySyscalls]) -> None:
        tree, syscalls = faulty
        (tree.path / "f").write_bytes(b"old")

        def swap() -> None:
            (tree.path / "f").unlink()
            (tree.path / "f").mkdir()
            (tree.path / "f" / "user").write_bytes(b"user")

        syscalls.before["rename"] = swap
        assert isinstance(tree.applier.remove_file(F, tree.stat("f")), Changed)
        assert (tree.path / "f" / "user").read_bytes() == b"user"

    def test_a_file_that_took_the_moved_ones_place_goes_back(self, faulty: tuple[FolderTree, FaultySyscalls]) -> None:
        tree, syscalls = faulty
        (tree.path / "f").write_bytes(b"old")
        syscalls.before["rename_new"] = lambda: save_by_rename(tree.path / "f")
        assert isinstance(tree.applier.move(F, (b"g",), tree.stat("f")), Changed)
        assert (tree.path / "f").read_bytes() == b"user" and not (tree.path / "g").exists()


def rescued_bytes(tree: FolderTree, name: bytes) -> bytes:
    return (tree.path / ".meshsync" / "staging" / os.fsdecode(name)).read_bytes()


KINDS: dict[str, Callable[[Path], object]] = {
    "file": lambda path: path.write_bytes(b"old"),
    "link": lambda path: path.symlink_to("target"),
    "directory": lambda path: path.mkdir(),
}


class TestTypes:
    @pytest.mark.parametrize(("old", "new"), [pair for pair in product(KINDS, KINDS) if pair != ("directory",) * 2])
    def test_every_kind_changes_into_every_other(self, any_tree: FolderTree, old: str, new: str) -> None:
        path = any_tree.path / "f"
        KINDS[old](path)
        expected = any_tree.scan()[0][F].stat
        if new == "file":
            outcome = any_tree.applier.replace(F, any_tree.stage(b"new"), expected)
            assert path.read_bytes() == b"new" and not path.is_symlink()
        elif new == "link":
            outcome = any_tree.applier.make_link(F, b"\xff/../raw", MTIME_NS, expected)
            assert os.readlink(os.fsencode(path)) == b"\xff/../raw" and path.lstat().st_mtime_ns == MTIME_NS
        else:
            outcome = any_tree.applier.make_directory(F, expected)
            assert path.is_dir() and not path.is_symlink() and mode(path) == 0o755
        assert outcome == Done(any_tree.scan()[0][F].stat)
        assert any_tree.staged_names() == []

    def test_a_directory_with_entries_is_not_replaced(self, any_tree: FolderTree) -> None:
        (any_tree.path / "f").mkdir()
        (any_tree.path / "f" / "user").write_bytes(b"user")
        staged = any_tree.stage(b"new")
        outcome = any_tree.applier.replace(F, staged, any_tree.scan()[0][F].stat)
        assert isinstance(outcome, Blocked) and outcome.reason is Reason.NOT_EMPTY
        assert (any_tree.path / "f" / "user").read_bytes() == b"user"
        staged.discard()
        assert any_tree.staged_names() == []

    def test_nothing_is_written_through_a_link(self, any_tree: FolderTree) -> None:
        outside = any_tree.path.parent / "outside"
        outside.mkdir()
        (outside / "victim").write_bytes(b"safe")
        (any_tree.path / "d").symlink_to(outside)
        (any_tree.path / "v").symlink_to(outside / "victim")
        stat_v = any_tree.scan()[0][(b"v",)].stat
        below: RelativePath = (b"d", b"victim")
        attempts = [
            any_tree.applier.replace(below, any_tree.stage(b"x"), None),
            any_tree.applier.make_directory((b"d", b"new")),
            any_tree.applier.make_link((b"d", b"new"), b"x", 0),
            any_tree.applier.remove_file(below, stat_v),
            any_tree.applier.remove_directory((b"d",), any_tree.scan()[0][(b"d",)].stat),
            any_tree.applier.move(below, (b"taken",), stat_v),
            any_tree.applier.set_attributes((b"v",), stat_v, executable=True, mtime_ns=0),
        ]
        assert not any(isinstance(outcome, Done) for outcome in attempts)
        assert os.listdir(outside) == ["victim"] and (outside / "victim").read_bytes() == b"safe"
        assert mode(outside / "victim") == 0o644


class TestAttributes:
    @pytest.mark.parametrize(
        ("existing", "executable", "expected"),
        [
            (None, False, 0o644),
            (None, True, 0o755),
            (0o600, False, 0o600),
            (0o600, True, 0o700),
            (0o664, True, 0o775 & ~0o022 | 0o020),
            (0o750, False, 0o640),
            (0o740, True, 0o740),
            (0o4755, True, 0o755),
        ],
    )
    def test_exec_bit_from_the_version_the_rest_from_the_target(
        self, tree: FolderTree, existing: int | None, executable: bool, expected: int
    ) -> None:
        old: Stat | None = None
        if existing is not None:
            (tree.path / "f").write_bytes(b"old")
            (tree.path / "f").chmod(existing)
            old = tree.stat("f")
        assert isinstance(tree.applier.replace(F, tree.stage(b"new", executable=executable), old), Done)
        assert mode(tree.path / "f") == expected

    def test_setting_attributes_leaves_content_and_inode(self, any_tree: FolderTree) -> None:
        (any_tree.path / "f").write_bytes(b"old")
        before = any_tree.scan()[0][F].stat
        outcome = any_tree.applier.set_attributes(F, before, executable=True, mtime_ns=MTIME_NS)
        now = any_tree.scan()[0][F]
        assert outcome == Done(now.stat) and now.executable
        assert now.stat.mtime_ns == MTIME_NS and now.stat.inode == before.inode
        assert isinstance(any_tree.applier.set_attributes(F, before, executable=False), Changed)


class TestMoveAndRemove:
    def test_move_never_replaces(self, any_tree: FolderTree) -> None:
        (any_tree.path / "f").write_bytes(b"f")
        (any_tree.path / "g").write_bytes(b"g")
        (any_tree.path / "d").mkdir()
        stats = any_tree.scan()[0]
        assert any_tree.applier.move(F, (b"g",), stats[F].stat) == Changed(stats[(b"g",)].stat)
        outcome = any_tree.applier.move(F, (b"d", b"h"), stats[F].stat)
        assert outcome == Done(any_tree.scan()[0][(b"d", b"h")].stat)
        assert (any_tree.path / "d" / "h").read_bytes() == b"f" and (any_tree.path / "g").read_bytes() == b"g"
        assert any_tree.applier.move(F, (b"x",), stats[F].stat) == Changed(None)

    def test_a_directory_moves_with_all_it_holds(self, any_tree: FolderTree) -> None:
        (any_tree.path / "d" / "e").mkdir(parents=True)
        before = any_tree.scan()[0]
        assert isinstance(any_tree.applier.move((b"d",), (b"new",), before[(b"d",)].stat), Done)
        assert set(any_tree.scan()[0]) == {(b"new",), (b"new", b"e")}
        blocked = any_tree.applier.move((b"new",), (b"new", b"e", b"f"), before[(b"d",)].stat)
        assert isinstance(blocked, Blocked)

    def test_exchange_swaps_or_changes_nothing(self, tree: FolderTree) -> None:
        (tree.path / "f").write_bytes(b"f")
        (tree.path / "g").write_bytes(b"g")
        f, g = tree.stat("f"), tree.stat("g")
        outcome = tree.applier.exchange(F, (b"g",), f, g)
        assert outcome == (Done(tree.stat("f")), Done(tree.stat("g")))
        assert (tree.path / "f").read_bytes() == b"g" and (tree.path / "g").read_bytes() == b"f"
        assert tree.applier.exchange(F, (b"g",), f, g) == (Changed(tree.stat("f")), Changed(tree.stat("g")))
        assert (tree.path / "f").read_bytes() == b"g"

    def test_removing_gives_the_file_to_keep(self, any_tree: FolderTree) -> None:
        (any_tree.path / "f").write_bytes(b"old")
        kept: list[bytes] = []
        expected = any_tree.scan()[0][F].stat
        assert any_tree.applier.remove_file(F, expected, lambda fd: kept.append(os.read(fd, 9))) == Done(None)
        assert kept == [b"old"] and not (any_tree.path / "f").exists() and any_tree.staged_names() == []
        assert any_tree.applier.remove_file(F, expected) == Changed(None)

    def test_only_an_empty_directory_is_removed(self, any_tree: FolderTree) -> None:
        (any_tree.path / "f").mkdir()
        (any_tree.path / "f" / "user").write_bytes(b"user")
        stat_f = any_tree.scan()[0][F].stat
        outcome = any_tree.applier.remove_directory(F, stat_f)
        assert isinstance(outcome, Blocked) and outcome.reason is Reason.NOT_EMPTY
        (any_tree.path / "f" / "user").unlink()
        assert any_tree.applier.remove_directory(F, stat_f) == Done(None)
        assert any_tree.applier.remove_directory(F, stat_f) == Changed(None)

    def test_making_a_directory_that_exists_is_no_change(self, any_tree: FolderTree) -> None:
        assert isinstance(any_tree.applier.make_directory(F), Done)
        assert any_tree.applier.make_directory(F) == Changed(any_tree.scan()[0][F].stat)


HOSTILE: list[RelativePath] = [
    (), (b"..",), (b"a", b"..", b"..", b"x"), (b".",), (b"",), (b"a/b",), (b"/etc",), (b"nul\0",), (b"x" * 256,),
    (b".meshsync", b"folder"), (b".MESHSYNC", b"folder"), (".meſhsync".encode(), b"x"),
    (".mesh\u200dsync".encode(), b"x"), (b".meshsync. ", b"x"), (b"MESHSY~1", b"x"), (b"a",) * 600,
]  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE, ids=lambda path: repr(path)[:30])
def test_hostile_paths_are_refused(tree: FolderTree, path: RelativePath) -> None:
    stat_f = Stat(1, 1, 1, 1, 1)
    (tree.path / "f").write_bytes(b"")
    staged = tree.stage(b"x")
    outcomes = [
        tree.applier.finish(path, staged, False, 0, lambda file: None),
        tree.applier.replace(path, staged, None),
        tree.applier.make_directory(path),
        tree.applier.make_link(path, b"x", 0),
        tree.applier.remove_file(path, stat_f),
        tree.applier.remove_directory(path, stat_f),
        tree.applier.set_attributes(path, stat_f, True),
        tree.applier.move(path, (b"g",), stat_f),
        tree.applier.move(F, path, tree.stat("f")),
        *tree.applier.exchange(F, path, tree.stat("f"), stat_f),
    ]
    assert all(isinstance(outcome, Blocked) for outcome in outcomes)
    staged.discard()
    assert set(tree.scan()[0]) == {F} and tree.staged_names() == []


@pytest.mark.parametrize("target", [b"", b"a\0b", b"x" * 4097])
def test_link_targets_that_cannot_be_are_refused(tree: FolderTree, target: bytes) -> None:
    assert isinstance(tree.applier.make_link(F, target, 0), Blocked)


class TestStaging:
    def test_writes_at_any_offset_in_any_order(self, tree: FolderTree) -> None:
        staged = tree.staging.create(10)
        staged.write(5, memoryview(b"56789"))
        staged.write(0, b"01234")
        assert staged.read(0, 100) == b"0123456789"
        with pytest.raises(AssertionError):
            staged.write(9, b"xx")

    def test_zeros_stay_holes_and_never_hide_what_was_written(self, tree: FolderTree) -> None:
        staged = tree.staging.create(64 * MIB, need=1)
        for offset in range(0, 64 * MIB, MIB):
            staged.write(offset, bytes(MIB))
        assert os.stat(staged._fd).st_blocks == 0
        staged.write(MIB, b"x" * 8 * KIB)
        staged.write(MIB, bytes(8 * KIB))
        assert staged.read(MIB, 8 * KIB) == bytes(8 * KIB)

    def test_a_sparse_file_of_1_tib_is_staged_in_no_time(self, tree: FolderTree) -> None:
        staged = tree.staging.create(1 << 40, need=KIB)
        staged.write((1 << 40) - 3, b"end")
        tree.applier.finish(F, staged, False, MTIME_NS, lambda file: None)
        assert isinstance(tree.applier.replace(F, staged, None), Done)
        assert (tree.path / "f").stat().st_size == 1 << 40

    def test_a_full_disk_is_told_before_anything_is_written(self, faulty: tuple[FolderTree, FaultySyscalls]) -> None:
        tree, _ = faulty
        free = Syscalls().free_bytes(tree.root.fd)
        with pytest.raises(StorageFull):
            tree.staging.create(free - FOLDER_STAGING_FREE_BYTES_MIN + 64 * MIB)
        assert tree.staged_names() == []

    @pytest.mark.parametrize(
        ("code", "error"), [(errno.ENOSPC, StorageFull), (errno.EDQUOT, StorageFull), (errno.EIO, ResourceError)]
    )
    def test_a_full_disk_in_mid_file_keeps_what_was_written(
        self, faulty: tuple[FolderTree, FaultySyscalls], code: int, error: type[ResourceError]
    ) -> None:
        tree, syscalls = faulty
        staged = tree.staging.create(6)
        staged.write(0, b"abc")
        syscalls.fails = {"write": code}
        with pytest.raises(error):
            staged.write(3, b"def")
        syscalls.fails = {}
        staged.close()
        again = tree.staging.reopen(staged.name)
        assert again is not None and again.read(0, 3) == b"abc"
        again.write(3, b"def")
        assert again.read(0, 6) == b"abcdef"
        again.discard()

    def test_what_fails_its_check_never_reaches_the_path(self, tree: FolderTree) -> None:
        def verify(file: StagedFile) -> None:
            raise ChunkMismatch("wrong bytes")

        staged = tree.staging.create(1)
        with pytest.raises(ChunkMismatch):
            tree.applier.finish(F, staged, False, 0, verify)
        staged.discard()
        assert tree.scan()[0] == {} and tree.staged_names() == []

    def test_golden_name_of_an_outgoing_object(self, tree: FolderTree) -> None:
        staged, expected = Stat(7, 1, 11, -5, 9), Stat(3, 2, 22, 4, 8)
        name = tree.staging.swap_name(staged, expected)
        assert name[:-32] == b"swap-7-11--5-3-2-22-4-" and len(bytes.fromhex(name[-32:].decode())) == 16
        (tree.path / ".meshsync" / "staging" / os.fsdecode(name)).write_bytes(b"edit")
        (rescued,) = tree.staging.recover()
        assert (rescued.name, rescued.staged_inode, rescued.expected) == (name, 7, expected._replace(ctime_ns=0))

    def test_recovery_keeps_what_is_known_and_removes_the_rest(self, tree: FolderTree) -> None:
        known, lost = tree.staging.create(1), tree.staging.create(1)
        known.close()
        lost.close()
        assert tree.staging.recover({known.name}) == []
        assert tree.staged_names() == [known.name.decode()]
        assert tree.staging.reopen(lost.name) is None


REASONS = {
    errno.ENOSPC: Reason.NO_SPACE,
    errno.EDQUOT: Reason.NO_SPACE,
    errno.EACCES: Reason.NO_PERMISSION,
    errno.EPERM: Reason.NO_PERMISSION,
    errno.EROFS: Reason.READ_ONLY,
    errno.ENAMETOOLONG: Reason.NAME_TOO_LONG,
    errno.EILSEQ: Reason.NAME_ILLEGAL,
    errno.EIO: Reason.IO,
}


@pytest.mark.parametrize("call", ["exchange", "rename"])
@pytest.mark.parametrize("code", REASONS, ids=errno.errorcode.get)
def test_a_refusal_of_the_system_blocks_the_item_and_leaves_the_path(
    faulty: tuple[FolderTree, FaultySyscalls], call: str, code: int
) -> None:
    tree, syscalls = faulty
    (tree.path / "f").write_bytes(b"old")
    staged = tree.stage(b"new")
    syscalls.fails = {call: code}
    outcome = tree.applier.replace(F, staged, tree.stat("f"))
    assert isinstance(outcome, Blocked) and outcome.reason is REASONS[code]
    assert (tree.path / "f").read_bytes() == b"old"
    syscalls.fails = {}
    assert isinstance(tree.applier.replace(F, staged, tree.stat("f")), Done), "recovery is automatic"


@pytest.mark.parametrize("call", ["fsync", "unlink"])
def test_a_removal_that_the_disk_refuses_half_way_leaves_the_file_where_it_was(tmp_path: Path, call: str) -> None:
    calls = FaultySyscalls()
    tree = FolderTree(tmp_path / "root", calls)
    try:
        (tree.path / "f").write_bytes(b"old")
        expected = tree.stat("f")
        calls.fails = {call: errno.EIO}
        assert isinstance(tree.applier.remove_file((b"f",), expected), Blocked)
        calls.fails = {}
        assert (tree.path / "f").read_bytes() == b"old" and tree.staged_names() == []
    finally:
        tree.close()


@pytest.mark.parametrize("call", ["fsync", "unlink"])
def test_a_replacement_that_the_disk_refuses_half_way_leaves_the_old_file_where_it_was(
    tmp_path: Path, call: str
) -> None:
    calls = FaultySyscalls()
    tree = FolderTree(tmp_path / "root", calls)
    try:
        (tree.path / "f").write_bytes(b"old")
        staged, expected = tree.stage(b"new"), tree.stat("f")
        calls.fails = {call: errno.EIO}
        assert isinstance(tree.applier.replace((b"f",), staged, expected), Blocked)
        calls.fails = {}
        assert (tree.path / "f").read_bytes() == b"old"
        assert isinstance(tree.applier.replace((b"f",), staged, tree.stat("f")), Done)
        assert (tree.path / "f").read_bytes() == b"new" and tree.staged_names() == []
    finally:
        tree.close()


@pytest.mark.parametrize("put_back", [True, False], ids=["put back", "not put back"])
@pytest.mark.parametrize("new", ["file", "link"])
def test_a_replacement_whose_outcome_cannot_be_looked_at_is_undone_or_done_and_never_taken_for_the_users(
    tmp_path: Path, new: str, put_back: bool
) -> None:
    calls = FaultySyscalls()
    tree = FolderTree(tmp_path / "root", calls)
    try:
        (tree.path / "f").write_bytes(b"old")
        staged, expected = tree.stage(b"new"), tree.stat("f")

        def refuse() -> None:  # from the exchange on
            calls.fails = {"status": errno.EIO}
            if not put_back:
                calls.before["status"] = lambda: calls.fails.update(exchange=errno.EIO)

        calls.before["exchange"] = refuse
        if new == "file":
            outcome = tree.applier.replace(F, staged, expected)
        else:
            outcome = tree.applier.make_link(F, b"target", MTIME_NS, expected)
        calls.fails = {}
        path = tree.path / "f"
        if put_back:
            assert isinstance(outcome, Blocked) and path.read_bytes() == b"old"
        else:
            assert isinstance(outcome, Done) and outcome.stat is not None
            assert outcome.stat.inode == path.lstat().st_ino
            assert path.is_symlink() if new == "link" else path.read_bytes() == b"new"
        staged.discard()
        assert tree.staging.recover() == [] and tree.staged_names() == []
    finally:
        tree.close()


class TestMovesThatCannotBeMadeDurable:
    def test_a_move_is_undone(self, faulty: tuple[FolderTree, FaultySyscalls]) -> None:
        tree, syscalls = faulty
        (tree.path / "f").write_bytes(b"one")
        syscalls.fails = {"fsync": errno.EIO}
        assert isinstance(tree.applier.move(F, (b"g",), tree.stat("f")), Blocked)
        assert (tree.path / "f").read_bytes() == b"one" and not (tree.path / "g").exists()

    def test_an_exchange_is_undone(self, faulty: tuple[FolderTree, FaultySyscalls]) -> None:
        tree, syscalls = faulty
        (tree.path / "f").write_bytes(b"one")
        (tree.path / "g").write_bytes(b"other")
        syscalls.fails = {"fsync": errno.EIO}
        first, second = tree.applier.exchange(F, (b"g",), tree.stat("f"), tree.stat("g"))
        assert isinstance(first, Blocked) and isinstance(second, Blocked)
        assert (tree.path / "f").read_bytes() == b"one" and (tree.path / "g").read_bytes() == b"other"

    @pytest.mark.parametrize("undone", [True, False], ids=["undone", "not undone"])
    def test_a_move_whose_outcome_cannot_be_looked_at_is_undone_or_done(
        self, faulty: tuple[FolderTree, FaultySyscalls], undone: bool
    ) -> None:
        tree, syscalls = faulty
        (tree.path / "f").write_bytes(b"one")
        expected = tree.stat("f")
        refuse_to_look_after("rename_new", syscalls, undone)
        outcome = tree.applier.move(F, (b"g",), expected)
        syscalls.fails = {}
        assert isinstance(outcome, Blocked if undone else Done)
        assert (tree.path / ("f" if undone else "g")).read_bytes() == b"one"
        assert not (tree.path / ("g" if undone else "f")).exists()

    @pytest.mark.parametrize("undone", [True, False], ids=["undone", "not undone"])
    def test_an_exchange_whose_outcome_cannot_be_looked_at_is_undone_or_done(
        self, faulty: tuple[FolderTree, FaultySyscalls], undone: bool
    ) -> None:
        tree, syscalls = faulty
        (tree.path / "f").write_bytes(b"one")
        (tree.path / "g").write_bytes(b"other")
        one, other = tree.stat("f"), tree.stat("g")
        refuse_to_look_after("exchange", syscalls, undone)
        outcomes = tree.applier.exchange(F, (b"g",), one, other)
        syscalls.fails = {}
        if undone:
            assert all(isinstance(outcome, Blocked) for outcome in outcomes)
        else:
            assert [outcome.stat for outcome in outcomes] == [other, one]
        assert (tree.path / "f").read_bytes() == (b"one" if undone else b"other")
        assert (tree.path / "g").read_bytes() == (b"other" if undone else b"one")

    def test_a_file_is_not_left_under_two_names_where_one_cannot_be_moved_in_one_step(
        self, faulty: tuple[FolderTree, FaultySyscalls]
    ) -> None:
        tree, syscalls = faulty
        (tree.path / "f").write_bytes(b"one")
        syscalls.fails = {"rename_new": errno.EINVAL}

        def refuse() -> None:
            syscalls.fails["unlink"] = errno.EIO
            syscalls.before["unlink"] = lambda: syscalls.before.update(unlink=lambda: syscalls.fails.pop("unlink"))

        syscalls.before["link"] = refuse
        assert isinstance(tree.applier.move(F, (b"g",), tree.stat("f")), Blocked)
        assert (tree.path / "f").read_bytes() == b"one" and not (tree.path / "g").exists()


def refuse_to_look_after(call: str, syscalls: FaultySyscalls, undone: bool) -> None:
    """Have the disk say nothing of what came of `call`; unless `undone`, it does not do `call` a second time either."""

    def refuse() -> None:
        syscalls.fails = {"status": errno.EIO}
        if not undone:
            syscalls.before["status"] = lambda: syscalls.fails.update({call: errno.EIO})

    syscalls.before[call] = refuse


class TestDiscardParked:
    def test_what_apply_made_is_removed_and_nothing_else(self, any_tree: FolderTree) -> None:
        parked = any_tree.path / ".meshsync"
        (parked / "parked-0").write_bytes(b"made")
        (parked / "parked-1").write_bytes(b"user")
        (parked / "parked-2").symlink_to("made")
        (parked / "parked-3").symlink_to("user")
        (parked / "parked-4").mkdir()
        (parked / "parked-5").mkdir()
        (parked / "parked-5" / "user").mkdir()
        made = any_tree.stat(".meshsync", "parked-0")
        kinds = (Kind.FILE, Kind.FILE, Kind.LINK, Kind.LINK, Kind.DIRECTORY, Kind.DIRECTORY)
        gone = [any_tree.applier.discard_parked(at, kind, made, b"made") for at, kind in enumerate(kinds)]
        assert gone == [True, False] * 3
        assert sorted(any_tree.applier.parked()) == [1, 3, 5]
