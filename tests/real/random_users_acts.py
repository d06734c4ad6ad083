"""What users do: each act is a few steps of their programs on one tree. `ACTS` says how often each is chosen."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from tests.real.random_users_hands import Hands, Moved
from tests.real.random_users_ledger import values_in

NAMES = ("a", "b", "c", "plan.txt", "report.doc", ".hidden", "zwölf")
DIRECTORY_NAMES = ("D1", "D2", "D3", "D4", "D5")
FILES_MAX = 70
DIRECTORIES_MAX = 14
LARGE_SHARE = 0.05
GAPS_S = (0.0, 0.0, 0.02, 0.1)  # a program's own time between two steps of one save

Act = Callable[[Hands], None]


def act(user: Hands) -> str:
    """Do something; return its name. What an agent moved away meanwhile, or what nothing is there for, is left."""
    files, links, directories = user.listing()
    if len(files) + len(links) > FILES_MAX or len(directories) > DIRECTORIES_MAX:
        chosen: Act = remove_directory if directories else remove_file
    else:
        (chosen,) = user.random.choices(list(ACTS), weights=list(ACTS.values()))
    with contextlib.suppress(Moved, OSError, IndexError, ValueError):
        chosen(user)
    return chosen.__name__


# --- choosing ------------------------------------------------------------------------------------------------------


def some_file(user: Hands) -> Path:
    return user.random.choice(user.listing()[0])


def some_file_or_link(user: Hands) -> Path:
    files, links, _ = user.listing()
    return user.random.choice(files + links)


def some_directory(user: Hands) -> Path:
    return user.random.choice(user.listing()[2])


def two_directories(user: Hands) -> tuple[Path, Path]:
    """Return two directories, neither of which lies in the other."""
    one, other = user.random.sample(user.listing()[2], 2)
    if one.is_relative_to(other) or other.is_relative_to(one):
        raise Moved
    return one, other


def place(user: Hands, names: tuple[str, ...] = NAMES) -> Path:
    """Return a name in some directory; something may lie there."""
    parent = user.random.choice([user.tree, user.tree, *user.listing()[2]])
    return parent / (user.random.choice(names) + user.random.choice(("", "", "2")))


def text(user: Hands, *kept: bytes) -> bytes:
    """Return the content of a new version: a new value, what is kept of an older one, something to fill it."""
    filler = b"." * user.random.randrange(0, 3000)
    if user.random.random() < LARGE_SHARE:
        filler = user.random.randbytes(user.random.randrange(200_000, 600_000)).replace(b"v", b"w")
    return user.ledger.new_value() + b"".join(kept) + b"\n" + filler


def gap(user: Hands) -> None:
    time.sleep(user.random.choice(GAPS_S))


# --- files ---------------------------------------------------------------------------------------------------------


def write(user: Hands) -> None:
    path = place(user)
    content = text(user)
    user.note("write", path)
    if os.path.lexists(path):
        user.rewrite(path, content)
    else:
        user.create(path, content)


def append(user: Hands) -> None:
    path = some_file(user)
    user.note("append", path)
    user.patch(path, path.stat().st_size, user.ledger.new_value() + b"\n")


def edit_twice(user: Hands) -> None:
    path = some_file(user)
    for _ in range(2):
        content = text(user, *values_in(user.read(path)))
        user.note("edit twice", path)
        user.rewrite(path, content)
        gap(user)


def quiet_edit(user: Hands) -> None:
    """An edit that changes neither size nor mtime."""
    path = some_file(user)
    before, content = path.stat(), user.read(path)
    at = content.index(sorted(values_in(content))[0])
    user.note("quiet edit", path)
    user.patch(path, at, user.ledger.new_value())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def save_by_temporary(user: Hands) -> None:
    path = some_file(user)
    temporary = path.with_name(path.name + ".swp")
    content = text(user, *(values_in(user.read(path)) if user.random.random() < 0.5 else ()))
    user.note("save by temporary", path)
    user.create(temporary, content)
    gap(user)
    user.rename_over(temporary, path)


def save_by_backup(user: Hands) -> None:
    path = some_file(user)
    backup = path.with_name(path.name + "~")
    content = text(user)
    user.note("save by backup", path)
    if os.path.lexists(backup):
        user.rename_over(path, backup)
    else:
        user.rename(path, backup)
    gap(user)
    user.create(path, content)
    if user.random.random() < 0.4:
        gap(user)
        user.note("removes backup", backup)
        user.remove(backup)


def rotate(user: Hands) -> None:
    """As logs are rotated: f.1 becomes f.2, f becomes f.1, f is new."""
    path = some_file(user)
    user.note("rotate", path)
    first, second = path.with_name(path.name + ".1"), path.with_name(path.name + ".2")
    if os.path.lexists(first):
        user.remove(second) if os.path.lexists(second) else None
        user.rename(first, second)
    user.rename(path, first)
    user.create(path, text(user))


def rename(user: Hands) -> None:
    path, target = some_file_or_link(user), place(user)
    user.note("rename", path, target)
    user.rename(path, target)


def rename_over(user: Hands) -> None:
    files, links, _ = user.listing()
    path, target = user.random.sample(files + links, 2)
    user.note("rename over", path, target)
    user.rename_over(path, target)


def swap_files(user: Hands) -> None:
    one, other = user.random.sample(user.listing()[0], 2)
    aside = user.tree / f"aside {user.ledger.made}"
    user.note("swap", one, other)
    user.rename(one, aside)
    user.rename(other, one)
    user.rename(aside, other)


def copy(user: Hands) -> None:
    path, target = some_file(user), place(user)
    content = user.read(path)
    user.note("copy", path, target)
    user.create(target, content)


def copy_and_edit(user: Hands) -> None:
    path, target = some_file(user), place(user)
    content = text(user, *values_in(user.read(path)))
    user.note("copy and edit", path, target)
    user.create(target, content)


def remove_file(user: Hands) -> None:
    path = some_file_or_link(user)
    user.note("remove", path)
    user.remove(path)


def remove_and_create(user: Hands) -> None:
    """The new file may well get the old one's inode."""
    path, target = some_file_or_link(user), place(user)
    user.note("remove and create", path, target)
    user.remove(path)
    user.create(target, text(user))


def change_mode(user: Hands) -> None:
    path = some_file(user)
    user.note("chmod", path)
    path.chmod(path.stat().st_mode ^ 0o111)


def touch(user: Hands) -> None:
    path = some_file(user)
    user.note("touch", path)
    os.utime(path, ns=(0, 1_700_000_000_000_000_000 + user.random.randrange(10**15)))


# --- links and changes of kind -------------------------------------------------------------------------------------


def make_link(user: Hands) -> None:
    path = place(user)
    value = user.ledger.new_value()
    user.note("link", path, value.decode())
    if os.path.lexists(path):
        temporary = path.with_name(f"{path.name}.{user.ledger.made}")
        user.link(temporary, value)
        user.rename_over(temporary, path)
    else:
        user.link(path, value)


def link_to_file(user: Hands) -> None:
    path = user.random.choice(user.listing()[1])
    user.note("link to file", path)
    user.remove(path)
    user.create(path, text(user))


def file_to_directory(user: Hands) -> None:
    path = some_file_or_link(user)
    user.note("file to directory", path)
    user.remove(path)
    path.mkdir()
    if user.random.random() < 0.7:
        user.create(path / user.random.choice(NAMES), text(user))


def directory_to_file(user: Hands) -> None:
    path = some_directory(user)
    user.note("directory to file", path)
    user.remove_tree(path)
    user.create(path, text(user))


# --- directories ---------------------------------------------------------------------------------------------------


def make_directory(user: Hands) -> None:
    path = place(user, DIRECTORY_NAMES)
    user.note("mkdir", path)
    path.mkdir()
    for name in user.random.sample(NAMES, user.random.randrange(3)):
        user.create(path / name, text(user))


def move_directory(user: Hands) -> None:
    path, target = some_directory(user), place(user, DIRECTORY_NAMES)
    user.note("move directory", path, target)
    user.rename(path, target)


def swap_directories(user: Hands) -> None:
    one, other = two_directories(user)
    aside = user.tree / f"aside {user.ledger.made}"
    user.note("swap directories", one, other)
    user.rename(one, aside)
    user.rename(other, one)
    user.rename(aside, other)


def move_into_each_other(user: Hands) -> None:
    """What one held holds it now."""
    path = some_directory(user)
    inner = user.random.choice([child for child in path.iterdir() if child.is_dir() and not child.is_symlink()])
    aside = user.tree / f"aside {user.ledger.made}"
    user.note("into each other", path, inner)
    user.rename(inner, aside)
    user.rename(path, aside / path.name)
    user.rename(aside, path)


def replace_directory(user: Hands) -> None:
    one, other = two_directories(user)
    user.note("replace directory", one, other)
    user.remove_tree(other)
    user.rename(one, other)


def remove_directory(user: Hands) -> None:
    path = some_directory(user)
    user.note("remove directory", path)
    user.remove_tree(path)


def copy_directory(user: Hands) -> None:
    path, target = some_directory(user), place(user, DIRECTORY_NAMES)
    if target.is_relative_to(path):
        return
    user.note("copy directory", path, target)
    shutil.copytree(path, target, symlinks=True)


ACTS: dict[Act, int] = {
    write: 5, append: 4, edit_twice: 2, quiet_edit: 1, save_by_temporary: 3, save_by_backup: 3, rotate: 2,
    rename: 4, rename_over: 1, swap_files: 1, copy: 1, copy_and_edit: 1, remove_file: 2, remove_and_create: 1,
    change_mode: 1, touch: 1, make_link: 2, link_to_file: 1, file_to_directory: 2, directory_to_file: 1,
    make_directory: 2, move_directory: 3, swap_directories: 1, move_into_each_other: 1, replace_directory: 1,
    remove_directory: 1, copy_directory: 1,
}  # fmt: skip
_MOVES = (rename, rename_over, swap_files, move_directory, swap_directories, move_into_each_other, replace_directory)
MOVES = frozenset(act.__name__ for act in _MOVES)
