"""What a user's programs do to a tree, one system call after the other, and exactly what each of them removed.

Invariant: an object is looked at right before it is removed or overwritten; if it is another one by then, nothing is
done (`Moved`). Whatever an agent does at the same time is no reason to fail.
"""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path

from tests.real.random_users_ledger import Ledger

CONTROL = ".meshsync"


class Moved(Exception):
    """What the user was about to touch is not what it was: the user does something else."""


class Hands:
    """One user at one tree. `trash` is a directory on the same file system, outside of all trees."""

    def __init__(self, name: str, tree: Path, trash: Path, ledger: Ledger, generator: random.Random) -> None:
        self.name, self.tree, self.ledger, self.random = name, tree, ledger, generator
        self._trash = trash
        self._thrown = 0

    # --- looking -------------------------------------------------------------------------------------------------

    def listing(self) -> tuple[list[Path], list[Path], list[Path]]:
        """Return files, links and directories, without the root."""
        files: list[Path] = []
        links: list[Path] = []
        directories: list[Path] = []
        for top, below, others in os.walk(self.tree):
            if top == str(self.tree):
                below.remove(CONTROL)
            here = Path(top)
            for name in (*below, *others):
                path = here / name
                kind = links if path.is_symlink() else directories if name in below else files
                kind.append(path)
        return sorted(files), sorted(links), sorted(directories)

    def show(self, path: Path) -> str:
        return str(path.relative_to(self.tree))

    def note(self, *words: object) -> None:
        named = [self.show(word) if isinstance(word, Path) else word for word in words]
        self.ledger.note(self.name, *named)

    # --- writing -------------------------------------------------------------------------------------------------

    def create(self, path: Path, content: bytes) -> None:
        """Write a new file. Raises FileExistsError."""
        self.ledger.intends(content)
        with path.open("xb") as file:
            file.write(content)
            file.flush()
            self._wrote(file.fileno(), content)

    def rewrite(self, path: Path, content: bytes) -> None:
        """Write into a file that is there, from its start, as programs do that do not save safely."""
        self.ledger.intends(content)
        with path.open("r+b") as file:
            before = file.read()
            self._check(path, file.fileno())
            self.ledger.removed(before, content)
            file.seek(0)
            file.truncate()
            file.write(content)
            file.flush()
            self._wrote(file.fileno(), content)

    def patch(self, path: Path, offset: int, data: bytes) -> None:
        """Write a few bytes into a file without cutting it; at its end, append them."""
        with path.open("r+b") as file:
            before = file.read()
            content = before[:offset] + data + before[offset + len(data) :]
            self.ledger.intends(content)
            self._check(path, file.fileno())
            self.ledger.removed(before, content)
            file.seek(offset)
            file.write(data)
            file.flush()
            self._wrote(file.fileno(), content)

    def read(self, path: Path) -> bytes:
        """Return what a file holds, or a link's target."""
        return os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes()

    def link(self, path: Path, target: bytes) -> None:
        """Make a link at a free name. Raises FileExistsError."""
        os.symlink(target, path)
        self.ledger.wrote(target)

    # --- moving and removing ---------------------------------------------------------------------------------------

    def rename(self, path: Path, target: Path) -> None:
        """Rename to a name that is free. Raises Moved if it is not."""
        if os.path.lexists(target):
            raise Moved
        path.rename(target)

    def rename_over(self, path: Path, target: Path) -> None:
        """Rename a file or link over another one."""
        self._take(target)
        path.rename(target)

    def remove(self, path: Path) -> None:
        """Remove a file or link, or move it out of the tree."""
        if self.random.random() < 0.5:
            self._take(path)
            path.unlink()
        else:
            self._throw(path)

    def remove_tree(self, path: Path) -> None:
        """Remove a directory with all in it, piece by piece or by moving it out of the tree."""
        if self.random.random() < 0.5:
            self._throw(path)
            return
        for child in sorted(path.iterdir()):
            if child.is_dir() and not child.is_symlink():
                self.remove_tree(child)
            else:
                self.remove(child)
        path.rmdir()

    def _throw(self, path: Path) -> None:
        """Move out of the tree; what came out is what was removed."""
        self._thrown += 1
        out = self._trash / f"{self.name} {self._thrown}"
        path.rename(out)
        found = [Path(top) / name for top, below, names in os.walk(out) for name in (*below, *names)]
        for each in (out, *found):
            if each.is_symlink() or each.is_file():
                self.ledger.removed(self.read(each))

    def _take(self, path: Path) -> None:
        """Note that what lies at `path` goes now."""
        before = os.lstat(path)
        if stat.S_ISDIR(before.st_mode):
            raise Moved
        content = self.read(path)
        now = os.lstat(path)
        if (now.st_ino, now.st_mtime_ns, now.st_size) != (before.st_ino, before.st_mtime_ns, before.st_size):
            raise Moved
        self.ledger.removed(content)

    def _check(self, path: Path, descriptor: int) -> None:
        if os.lstat(path).st_ino != os.fstat(descriptor).st_ino:
            raise Moved

    def _wrote(self, descriptor: int, content: bytes) -> None:
        """Believe what was written only if the file is still one of the tree: an agent may have replaced it."""
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if (
            path.startswith(f"{self.tree}/")
            and not path.startswith(f"{self.tree}/{CONTROL}/")
            and os.path.lexists(path)
        ):
            self.ledger.wrote(content)
