"""What a user does to the files of one device: each act whole and durable, whatever the agent is doing.

Invariant: an act uses the disk as a program would, by system calls; the book learns what it wrote and gave up.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from meshsync.folder.names import CONTROL_NAME
from tests.sim.book import Book
from tests.sim.disk import Disk, Inode
from tests.sim.syscalls import ROOT_PATH, SimSyscalls

Path = tuple[bytes, ...]
NAMES = (b"a", b"b", b"c", b"d.txt")
FOLDERS = (b"m", b"n", b"o")
PART = b"0123456789abcdefghijklmnopqrstuvwxyz" * 4


class User:
    """Sits before one device."""

    def __init__(self, disk: Disk, book: Book) -> None:
        self.disk, self._book = disk, book
        self.calls = SimSyscalls(disk, lambda call: None, durable=True)

    # --- looking ----------------------------------------------------------------------------------------------------

    def walk(self) -> Iterator[tuple[Path, Inode]]:
        """Yield everything below the root, directories first, names in order."""
        stack: list[tuple[Path, Inode]] = [((), self.disk.root)]
        while stack:
            path, inode = stack.pop()
            if path:
                yield path, inode
            if inode.is_directory:
                names = sorted(inode.entries, reverse=True)
                stack += [((*path, name), inode.entries[name]) for name in names if path or name != CONTROL_NAME]

    def _pick(self, chance: random.Random, wanted: Callable[[Inode], bool]) -> Path | None:
        found = [path for path, inode in self.walk() if wanted(inode)]
        return chance.choice(found) if found else None

    def _folder(self, chance: random.Random) -> Path:
        found = [(), *(path for path, inode in self.walk() if inode.is_directory and len(path) < 4)]
        return chance.choice(found)

    def at(self, path: Path) -> Inode | None:
        """Return what lies at a path."""
        inode = self.disk.root
        for name in path:
            below = inode.entries.get(name)
            if below is None:
                return None
            inode = below
        return inode

    # --- helpers --------------------------------------------------------------------------------------------------

    def _open(self, path: Path) -> int:
        fd = self.calls.open_root(ROOT_PATH)
        return self.calls.open_beneath(fd, b"/".join(path)) if path else fd

    def _gone(self, path: Path) -> None:
        """Note what is given up by removing or replacing what lies at `path`."""
        for below, inode in [(path, self.at(path)), *self.walk()]:
            if inode is not None and below[: len(path)] == path and inode.is_file:
                self._book.give_up(bytes(inode.data))

    def _wrote(self, path: Path, by: str) -> None:
        inode = self.at(path)
        assert inode is not None
        self._book.write(bytes(inode.data), by)

    def _content(self, chance: random.Random, by: str) -> bytes:
        body = b"".join(chance.choice((PART, PART[::-1], PART[7:])) for _ in range(chance.choice((0, 0, 0, 1, 3, 9))))
        return by.encode() + b" " + body

    # --- acts -----------------------------------------------------------------------------------------------------

    def do(self, kind: str, chance: random.Random, by: str) -> str:
        """Do one act of `kind`; return what was done, for people, empty if nothing could be."""
        done = getattr(self, f"_{kind}")(chance, by)
        self.calls.close_all()
        return str(done or "")

    def _create(self, chance: random.Random, by: str) -> str:
        path = (*self._folder(chance), chance.choice(NAMES))
        present = self.at(path)
        if present is not None and not present.is_file:
            return ""
        return self._save_at(path, chance, by)

    def _save(self, chance: random.Random, by: str) -> str:
        path = self._pick(chance, lambda inode: inode.is_file)
        return self._save_at(path, chance, by) if path else ""

    def _save_at(self, path: Path, chance: random.Random, by: str) -> str:
        """Write a file as editors do: in place, or beside it and renamed over it."""
        content = self._content(chance, by)
        fd = self._open(path[:-1])
        present = self.at(path)
        self._gone(path)
        if present is None or chance.random() < 0.5:
            beside = path[-1] + b"~" if present is not None else path[-1]
            if beside in (self.at(path[:-1]) or self.disk.root).entries:
                return ""
            new = self.calls.create(fd, beside)
            self.calls.write(new, content, 0)
            self.calls.chmod(new, 0o644)
            if beside != path[-1]:
                self.calls.rename(fd, beside, fd, path[-1])
        else:
            old = self.calls.open_for_writing(fd, path[-1])
            self.calls.truncate(old, 0)
            self.calls.write(old, content, 0)
        self._wrote(path, by)
        return f"writes {show(path)}"

    def _append(self, chance: random.Random, by: str) -> str:
        path = self._pick(chance, lambda inode: inode.is_file)
        if path is None:
            return ""
        self._gone(path)
        file = self.calls.open_for_writing(self._open(path[:-1]), path[-1])
        inode = self.at(path)
        assert inode is not None
        self.calls.write(file, b" + " + by.encode(), len(inode.data))
        self._wrote(path, by)
        return f"appends to {show(path)}"

    def _same_size(self, chance: random.Random, by: str) -> str:
        """Change bytes and put the mtime back: only ctime tells.

        Not in the tick of the file system's clock in which the agent put the file there: nothing would tell.
        """
        now = self.disk.now_ns()
        path = self._pick(chance, lambda file: file.is_file and len(file.data) > 30 and file.ctime_ns != now)
        inode = self.at(path) if path else None
        if path is None or inode is None:
            return ""
        self._gone(path)
        file = self.calls.open_for_writing(self._open(path[:-1]), path[-1])
        mtime_ns = inode.mtime_ns
        self.calls.write(file, f"<{by}>".encode(), chance.randrange(len(inode.data) - 20))
        self.calls.set_mtime(file, mtime_ns)
        self._wrote(path, by)
        return f"changes {show(path)} in place"

    def _copy(self, chance: random.Random, by: str) -> str:
        source = self._pick(chance, lambda inode: inode.is_file)
        target = (*self._folder(chance), chance.choice(NAMES))
        inode = self.at(source) if source else None
        if source is None or inode is None or self.at(target) is not None:
            return ""
        new = self.calls.create(self._open(target[:-1]), target[-1])
        self.calls.write(new, bytes(inode.data), 0)
        return f"copies {show(source)} to {show(target)}"

    def _hard_link(self, chance: random.Random, by: str) -> str:
        source = self._pick(chance, lambda inode: inode.is_file)
        target = (*self._folder(chance), chance.choice(NAMES))
        if source is None or self.at(target) is not None:
            return ""
        self.calls.link(self._open(source[:-1]), source[-1], self._open(target[:-1]), target[-1])
        return f"links {show(target)} to {show(source)}"

    def _rename(self, chance: random.Random, by: str) -> str:
        """Give anything another name, here or elsewhere; a file may replace a file."""
        source = self._pick(chance, lambda inode: True)
        moved = self.at(source) if source else None
        if source is None or moved is None:
            return ""
        folder = source[:-1] if chance.random() < 0.5 else self._folder(chance)
        target = (*folder, chance.choice(FOLDERS if moved.is_directory else NAMES))
        present = self.at(target)
        replaces = present is not None and present is not moved
        if target[: len(source)] == source or (replaces and (present.is_directory or moved.is_directory)):  # type: ignore[union-attr]
            return ""
        if replaces:
            self._gone(target)
        self.calls.rename(self._open(source[:-1]), source[-1], self._open(target[:-1]), target[-1])
        return f"renames {show(source)} to {show(target)}{' over what was there' if replaces else ''}"

    def _swap(self, chance: random.Random, by: str) -> str:
        """Let two files change places."""
        first = self._pick(chance, lambda inode: inode.is_file)
        second = self._pick(chance, lambda inode: inode.is_file)
        if first is None or second is None or first == second:
            return ""
        self.calls.exchange(self._open(first[:-1]), first[-1], self._open(second[:-1]), second[-1])
        return f"swaps {show(first)} and {show(second)}"

    def _delete(self, chance: random.Random, by: str) -> str:
        path = self._pick(chance, lambda inode: not inode.is_directory)
        if path is None:
            return ""
        self._gone(path)
        self.calls.unlink(self._open(path[:-1]), path[-1])
        return f"deletes {show(path)}"

    def _delete_folder(self, chance: random.Random, by: str) -> str:
        top = self._pick(chance, lambda inode: inode.is_directory)
        if top is None:
            return ""
        self._gone(top)
        for path, inode in reversed([item for item in self.walk() if item[0][: len(top)] == top]):
            fd = self._open(path[:-1])
            if inode.is_directory:
                self.calls.remove_directory(fd, path[-1])
            else:
                self.calls.unlink(fd, path[-1])
        return f"deletes the folder {show(top)}"

    def _make_folder(self, chance: random.Random, by: str) -> str:
        path = (*self._folder(chance), chance.choice(FOLDERS))
        if self.at(path) is not None:
            return ""
        self.calls.make_directory(self._open(path[:-1]), path[-1], 0o755)
        return f"makes the folder {show(path)}"

    def _chmod(self, chance: random.Random, by: str) -> str:
        path = self._pick(chance, lambda inode: inode.is_file)
        inode = self.at(path) if path else None
        if path is None or inode is None:
            return ""
        mode = 0o644 if inode.mode & 0o100 else 0o755
        self.calls.chmod(self.calls.open_file(self._open(path[:-1]), path[-1]), mode)
        return f"sets the mode of {show(path)} to {mode:o}"

    def _touch(self, chance: random.Random, by: str) -> str:
        path = self._pick(chance, lambda inode: inode.is_file)
        if path is None:
            return ""
        fd = self.calls.open_file(self._open(path[:-1]), path[-1])
        self.calls.set_mtime(fd, self.disk.now_ns() - chance.randrange(10) * 10**9)
        return f"touches {show(path)}"

    def _make_link(self, chance: random.Random, by: str) -> str:
        path = (*self._folder(chance), chance.choice(NAMES))
        if self.at(path) is not None:
            return ""
        self.calls.make_link(self._open(path[:-1]), path[-1], by.encode())
        return f"makes the link {show(path)}"

    def _change_kind(self, chance: random.Random, by: str) -> str:
        """Put a directory or a link where a file was."""
        path = self._pick(chance, lambda inode: inode.is_file)
        if path is None:
            return ""
        self._gone(path)
        fd = self._open(path[:-1])
        self.calls.unlink(fd, path[-1])
        if chance.random() < 0.5:
            self.calls.make_directory(fd, path[-1], 0o755)
            return f"makes {show(path)} a folder"
        self.calls.make_link(fd, path[-1], by.encode())
        return f"makes {show(path)} a link"


def show(path: Path) -> str:
    """Return a path as text."""
    return b"/".join(path).decode(errors="backslashreplace") or "the root"
