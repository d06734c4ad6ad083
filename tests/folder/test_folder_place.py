"""Putting one file where its user wants it: nothing of the user's is replaced, and the path is never absent or torn."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshsync.folder.place import Place
from meshsync.folder.syscalls import CHANGING, Syscalls

STAGED = b".staged"
FREE = [b"plan", b"plan (2)", b"plan (3)"]


def is_old(file: int) -> bool:
    return os.pread(file, 10, 0) == b"old"


def never(file: int) -> bool:
    raise AssertionError("nobody asked")


def staged(place: Place, content: bytes = b"new") -> None:
    place.begin()
    place.write(content)
    place.complete(False, 5)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Place(os.fsencode(tmp_path), STAGED, Syscalls()) as opened:
        yield opened


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_new_file_is_whole_when_it_is_seen(place: Place, tmp_path: Path) -> None:
    staged(place)
    assert place.put_new(b"plan")
    assert files(tmp_path) == {"plan": b"new"}
    assert (tmp_path / "plan").stat().st_mtime_ns == 5


def test_a_name_that_is_taken_is_left_alone(place: Place, tmp_path: Path) -> None:
    (tmp_path / "plan").write_bytes(b"mine")
    (tmp_path / "link").symlink_to("nowhere")
    staged(place)
    assert not place.put_new(b"plan") and not place.put_new(b"link")
    assert place.put_new(b"plan (2)")
    assert (tmp_path / "plan").read_bytes() == b"mine" and (tmp_path / "link").is_symlink()


def test_what_was_put_there_before_is_replaced_and_keeps_its_permissions(place: Place, tmp_path: Path) -> None:
    (tmp_path / "plan").write_bytes(b"old")
    (tmp_path / "plan").chmod(0o600)
    place.begin()
    place.write(b"new")
    place.complete(False, 5, b"plan")
    assert place.put_over(b"plan", is_old, FREE) == b""
    assert files(tmp_path) == {"plan": b"new"}
    assert (tmp_path / "plan").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["changed", "link", "directory", "pipe"])
def test_what_its_user_made_of_it_stays_at_its_path(place: Place, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "plan"
    {
        "changed": lambda: path.write_bytes(b"mine"),
        "link": lambda: path.symlink_to("old"),
        "directory": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
    }[kind]()
    before = path.lstat()
    staged(place)
    assert place.put_over(b"plan", is_old, FREE) == b"plan (2)"
    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert (tmp_path / "plan (2)").read_bytes() == b"new"


def test_what_is_gone_by_then_is_not_made_again_in_its_place_but_kept_aside(place: Place, tmp_path: Path) -> None:
    staged(place)
    assert place.put_over(b"plan", never, FREE[1:]) == b"plan (2)"
    assert files(tmp_path) == {"plan (2)": b"new"}


def test_leaving_without_putting_it_anywhere_leaves_nothing(tmp_path: Path) -> None:
    with Place(os.fsencode(tmp_path), STAGED, Syscalls()) as place:
        staged(place)
    assert files(tmp_path) == {}


def test_an_edit_that_a_crash_left_under_the_staged_name_gets_a_name_of_its_own(place: Place, tmp_path: Path) -> None:
    (tmp_path / ".staged").write_bytes(b"mine")
    (tmp_path / "plan").write_bytes(b"new")
    assert place.leftover(is_old, FREE) == b"plan (2)"
    (tmp_path / ".staged").write_bytes(b"old")
    assert place.leftover(is_old, FREE) == b""
    assert files(tmp_path) == {"plan": b"new", "plan (2)": b"mine"}


class Refusing(Syscalls):
    """A file system that cannot do some calls, or a disk that refuses the n-th change."""

    def __init__(self, cannot: tuple[str, ...] = (), fails_at: int = 0) -> None:
        self.changes = 0
        for name in CHANGING:
            setattr(self, name, self._wrapped(name, name in cannot, fails_at))

    def _wrapped(self, name: str, cannot: bool, fails_at: int) -> object:
        call = getattr(Syscalls, name)

        def wrapped(*arguments: object) -> object:
            self.changes += 1
            if cannot:
                raise OSError(errno.EINVAL, "cannot")
            if self.changes == fails_at:
                raise OSError(errno.EIO, "refused")
            return call(self, *arguments)

        return wrapped


def test_where_names_cannot_be_swapped_the_new_version_goes_beside_the_old(tmp_path: Path) -> None:
    (tmp_path / "plan").write_bytes(b"old")
    with Place(os.fsencode(tmp_path), STAGED, Refusing(("exchange", "rename_new"))) as place:
        staged(place)
        assert place.put_over(b"plan", is_old, FREE) == b"plan (2)"
    assert files(tmp_path) == {"plan": b"old", "plan (2)": b"new"}


@pytest.mark.parametrize("mine", [False, True])
def test_whatever_the_disk_refuses_the_path_holds_the_old_or_the_new_and_no_edit_is_lost(
    tmp_path: Path, mine: bool
) -> None:
    before, number, outcomes = b"mine" if mine else b"old", 0, set()
    while True:
        number += 1
        directory = tmp_path / str(number)
        directory.mkdir()
        (directory / "plan").write_bytes(before)
        disk = Refusing(fails_at=number)
        try:
            with Place(os.fsencode(directory), STAGED, disk) as place:
                staged(place)
                place.put_over(b"plan", is_old, FREE)
        except OSError:
            found = files(directory)
            outcomes.add(found["plan"])
            assert found["plan"] in (before, b"new")
            assert not mine or before in found.values()
        if disk.changes < number:
            break
    assert number > 6 and before in outcomes
