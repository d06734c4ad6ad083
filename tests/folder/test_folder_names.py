"""Names (P11, B15, B18) and what a target does with them."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.errors import ResourceError
from meshsync.folder.names import Held, NameRules, is_control_name, refused
from meshsync.folder.probe import name_rules
from meshsync.folder.types import Done, Reason
from tests.support.folder_tree import FaultySyscalls, FolderTree

LINUX = NameRules()
APPLE = NameRules(folds_case=True, folds_unicode=True, utf8_only=True)
WINDOWS = NameRules(folds_case=True, windows=True)

names = st.binary(min_size=1, max_size=255).filter(lambda name: refused(name) is None)

ILLEGAL_ON_WINDOWS = [b"a:b", b"a\\b", b"a|b", b"x?", b"CON", b"con.txt", b"LPT1", b"end.", b"end ", b"cr\r", b"\x01"]


@given(names)
def test_every_other_name_is_kept_byte_for_byte(name: bytes) -> None:
    assert LINUX.place(name, {}) == name


@pytest.mark.parametrize("name", [*ILLEGAL_ON_WINDOWS, "\u202egpj.exe".encode(), b"\xff\xfe", b"-rf", b"new\nline"])
def test_a_name_legal_at_the_source_is_legal_here(tree: FolderTree, name: bytes) -> None:
    assert LINUX.place(name, {}) == name
    assert isinstance(tree.applier.replace((name,), tree.stage(b"x", (name,)), None), Done)
    assert (name,) in tree.scan()[0]


@pytest.mark.parametrize("name", ILLEGAL_ON_WINDOWS)
def test_names_that_windows_cannot_hold_are_held(name: bytes) -> None:
    assert WINDOWS.place(name, {}) == Held(Reason.NAME_ILLEGAL)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (b"", Reason.NAME_ILLEGAL),
        (b".", Reason.NAME_ILLEGAL),
        (b"..", Reason.NAME_ILLEGAL),
        (b"a/b", Reason.NAME_ILLEGAL),
        (b"a\0b", Reason.NAME_ILLEGAL),
        (b"n" * 256, Reason.NAME_TOO_LONG),
        (b".meshsync", Reason.NAME_RESERVED),
    ],
)
def test_names_that_no_target_may_see(name: bytes, reason: Reason) -> None:
    assert all(rules.place(name, {}) == Held(reason) for rules in (LINUX, APPLE, WINDOWS))


def test_name_too_long_for_this_target_is_held() -> None:
    assert NameRules(name_bytes_max=143).place(b"n" * 144, {}) == Held(Reason.NAME_TOO_LONG)
    assert APPLE.place(b"\xff", {}) == Held(Reason.NAME_ILLEGAL)


TWINS = [
    (b"README", b"readme"),
    ("É".encode(), "e\u0301".encode()),
    ("straße".encode(), b"STRASSE"),
]


@pytest.mark.parametrize(("first", "second"), TWINS)
def test_twins_never_meet_on_a_folding_target(first: bytes, second: bytes) -> None:
    taken = {APPLE.key(first): first}
    assert APPLE.place(second, taken) == Held(Reason.NAME_COLLIDES)
    assert APPLE.place(first, taken) == first, "a name does not collide with itself"
    assert LINUX.place(second, {LINUX.key(first): first}) == second


@given(st.binary(max_size=50), st.sampled_from([LINUX, APPLE, WINDOWS]))
def test_keys_of_any_bytes_are_stable(name: bytes, rules: NameRules) -> None:
    assert rules.key(rules.key(name)) == rules.key(name)


DISGUISES = [
    b".meshsync", b".MESHSYNC", b".MeshSync", b".meshsync.", b".meshsync ", b".meshsync. . ", b".meshsync::$DATA",
    b".meshsync:x", b"MESHSY~1", b"meshsy~2", ".mesh\u200csync".encode(), "\ufeff.meshsync".encode(),
    ".\u202emeshsync".encode(), ".meſhsync".encode(), "．ｍｅｓｈｓｙｎｃ".encode(), ".meshsync\u0301".encode(),
]  # fmt: skip


@pytest.mark.parametrize("name", DISGUISES)
def test_disguises_of_the_control_directory(name: bytes) -> None:
    assert is_control_name(name) and refused(name) is Reason.NAME_RESERVED


@pytest.mark.parametrize("name", [b"meshsync", b".meshsync2", b"x.meshsync", b".meshsyn", b"mesh", b"\xff", b"meshsy~"])
def test_other_names_are_no_disguise(name: bytes) -> None:
    assert not is_control_name(name)


class TestProbe:
    def test_this_file_system_keeps_bytes(self, tree: FolderTree) -> None:
        assert name_rules(tree.staging) == NameRules()
        assert tree.staged_names() == [], "nothing is left behind"

    def test_a_target_that_takes_no_file_is_told(self, tmp_path: Path) -> None:
        syscalls = FaultySyscalls()
        tree = FolderTree(tmp_path / "root", syscalls)
        syscalls.fails = {"create": errno.EROFS}
        with pytest.raises(ResourceError):
            name_rules(tree.staging)
        tree.close()

    @pytest.mark.parametrize(
        ("fold", "expected"),
        [
            (lambda name: name.lower(), NameRules(folds_case=True)),
            (lambda name: name.replace("e\u0301".encode(), "é".encode()), NameRules(folds_unicode=True)),
        ],
    )
    def test_folding_is_seen(self, tmp_path: Path, fold: object, expected: NameRules) -> None:
        class Folding(FaultySyscalls):
            def create(self, fd: int, name: bytes) -> int:
                return super().create(fd, fold(name))  # type: ignore[operator]

            def status(self, fd: int, name: bytes = b"") -> object:  # type: ignore[override]
                return super().status(fd, fold(name) if name.startswith(b"probe") else name)  # type: ignore[operator]

            def unlink(self, fd: int, name: bytes) -> None:
                super().unlink(fd, fold(name))  # type: ignore[operator]

        tree = FolderTree(tmp_path / "root", Folding())
        found = name_rules(tree.staging)
        assert (found.folds_case, found.folds_unicode) == (expected.folds_case, expected.folds_unicode)
        tree.close()


@pytest.fixture
def vfat(tmp_path: Path) -> Iterator[Path]:
    image, point = tmp_path / "image", tmp_path / "mount"
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(8 << 20)
    try:
        subprocess.run(["mkfs.vfat", image], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", image, point], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no FAT file system here: {error}")
    yield point
    subprocess.run(["umount", point], check=True)


@pytest.mark.privileged
def test_fat_is_seen_as_it_is(vfat: Path) -> None:
    tree = FolderTree(vfat / "root")
    rules = name_rules(tree.staging)
    assert rules.folds_case and rules.windows
    first = tree.applier.replace((b"README",), tree.stage(b"x", (b"README",)), None)
    assert isinstance(first, Done)
    second = tree.applier.replace((b"readme",), tree.stage(b"y", (b"readme",)), None)
    assert not isinstance(second, Done) and os.listdir(tree.path) == [".meshsync", "README"]
    tree.close()
