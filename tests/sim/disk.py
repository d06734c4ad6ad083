"""A file system in memory that a power cut can hurt: inodes, directory entries, and what of them is durable.

The model, an adversary stronger than ext4 and weaker than POSIX allows:
- File bytes and attributes are durable after `fsync` of the file, or WRITEBACK_S later. A power cut keeps, drops or
  tears the rest, block by block.
- Every change of entries is one atomic operation on the directories it touches. `fsync` of a directory makes all its
  operations durable and what they depend on, JOURNAL_S does the same. A power cut drops any of the rest; an operation
  is dropped with every later one on the same directories.
- A file's number is free again when nothing durable or open leads to it, and the lowest free number is used first.

Invariant: what a process or a user sees is always the present state; only `power_cut` looks at durability.
"""

from __future__ import annotations

import heapq
import os
import random
import stat as modes
from collections.abc import Callable
from dataclasses import dataclass, field

JOURNAL_S = 5.0
WRITEBACK_S = 30.0
TICK_NS = 4_000_000
BLOCK_BYTES = 16
Place = tuple["Inode", bytes]


def refuse(code: int) -> OSError:
    """Return the system's error for `code`."""
    return OSError(code, os.strerror(code))


@dataclass(eq=False, slots=True)
class Inode:
    """A file, directory or link. `kept` is (data, mode, mtime) as a power cut would find it at worst."""

    number: int
    mode: int
    birth_ns: int
    ctime_ns: int = 0
    mtime_ns: int = 0
    data: bytearray = field(default_factory=bytearray)
    target: bytes = b""
    entries: dict[bytes, Inode] = field(default_factory=dict)
    places: dict[tuple[int, bytes], Place] = field(default_factory=dict)
    opened: int = 0
    removing: int = 0
    dirty_since: float | None = None
    kept: tuple[bytes, int, int] = (b"", 0, 0)

    @property
    def is_directory(self) -> bool:
        return modes.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return modes.S_ISREG(self.mode)

    @property
    def is_link(self) -> bool:
        return modes.S_ISLNK(self.mode)


@dataclass(eq=False, slots=True)
class Operation:
    """One change of entries that is not durable yet: (directory, name, what was there, what is there now)."""

    at: float
    touched: tuple[Inode, ...]
    changes: tuple[tuple[Inode, bytes, Inode | None, Inode | None], ...]


class Disk:
    """`time_s` is monotonic, `wall_ns` stamps files. `tell(path)` hears of every change below the root."""

    def __init__(self, time_s: Callable[[], float], wall_ns: Callable[[], int], has_birth: bool = True) -> None:
        self.tell: Callable[[tuple[bytes, ...]], None] = lambda path: None
        self.has_birth = has_birth
        self.free_bytes = 1 << 40
        self._time_s, self._wall_ns = time_s, wall_ns
        self._free: list[int] = []
        self._next = 2
        self._journal: list[Operation] = []
        self._dirty: dict[int, Inode] = {}
        self.root = self.new(modes.S_IFDIR | 0o755)
        self.root.places[(0, b"/")] = (self.root, b"/")

    # --- objects ------------------------------------------------------------------------------------------------

    def now_ns(self) -> int:
        """Return the time that files are stamped with."""
        return self._wall_ns() // TICK_NS * TICK_NS

    def new(self, mode: int) -> Inode:
        """Return a new object that has no name yet."""
        if self._free:
            number = heapq.heappop(self._free)
        else:
            number, self._next = self._next, self._next + 1
        now = self.now_ns()
        made = Inode(number, mode, now, now, now)
        made.kept = (b"", mode, now)
        return made

    def release(self, inode: Inode) -> None:
        """Take back the number of an object to which nothing leads."""
        if not inode.places and not inode.opened and not inode.removing and inode.number:
            self._dirty.pop(inode.number, None)
            heapq.heappush(self._free, inode.number)
            inode.number = 0

    def path_of(self, directory: Inode) -> tuple[bytes, ...] | None:
        """Return the path of a directory, None if it has none any more."""
        names: list[bytes] = []
        at = directory
        while at is not self.root:
            place = next(iter(at.places.values()), None)
            if place is None:
                return None
            at = place[0]
            names.append(place[1])
        return tuple(reversed(names))

    def is_below(self, inode: Inode, above: Inode) -> bool:
        """Whether `inode` is `above` or beneath it."""
        at: Inode | None = inode
        while at is not None and at is not self.root:
            if at is above:
                return True
            place = next(iter(at.places.values()), None)
            at = place[0] if place else None
        return at is above

    # --- content and attributes -----------------------------------------------------------------------------------

    def touched(self, inode: Inode, content: bool) -> None:
        """Note that bytes (`content`) or attributes of an object change now."""
        now = self.now_ns()
        inode.ctime_ns = now
        if content:
            inode.mtime_ns = now
        if inode.dirty_since is None:
            inode.dirty_since = self._time_s()
            self._dirty[inode.number] = inode
        for directory, name in inode.places.values():
            self._told(directory, name)

    def sync(self, inode: Inode) -> None:
        """Make an object durable: bytes and attributes of a file, the entries of a directory."""
        inode.kept = (bytes(inode.data), inode.mode, inode.mtime_ns)
        inode.dirty_since = None
        self._dirty.pop(inode.number, None)
        if inode.is_directory:
            self._settle({inode.number: inode}, self._journal)

    # --- entries ----------------------------------------------------------------------------------------------------

    def change(self, *changes: tuple[Inode, bytes, Inode | None]) -> None:
        """Set names to objects, or to nothing, in one atomic operation."""
        now = self.now_ns()
        done = []
        touched: dict[int, Inode] = {}
        for directory, name, after in changes:
            before = directory.entries.get(name)
            done.append((directory, name, before, after))
            touched[id(directory)] = directory
            directory.mtime_ns = directory.ctime_ns = now
            for inode in (before, after):
                if inode is not None:
                    inode.ctime_ns = now
                    if inode.is_directory:
                        touched[id(inode)] = inode
            if before is not None:
                before.removing += 1
        for directory, name, before, after in done:
            self._set(directory, name, before, after)
        self._journal.append(Operation(self._time_s(), tuple(touched.values()), tuple(done)))
        for directory, name, _, _ in done:
            self._told(directory, name)
        if len(self._journal) > 64:
            self.writeback()

    def _set(self, directory: Inode, name: bytes, before: Inode | None, after: Inode | None) -> None:
        key = (id(directory), name)
        present = directory.entries.pop(name, None)
        assert present is before
        if before is not None:
            before.places.pop(key, None)
        if after is not None:
            directory.entries[name] = after
            after.places[key] = (directory, name)

    def _told(self, directory: Inode, name: bytes) -> None:
        above = self.path_of(directory)
        if above is not None:
            self.tell((*above, name))

    # --- durability -------------------------------------------------------------------------------------------------

    def sync_all(self) -> None:
        """Make everything durable."""
        for inode in list(self._dirty.values()):
            self.sync(inode)
        done, self._journal = self._journal, []
        self._retire(done)

    def sync_names(self, *directories: Inode) -> None:
        """Make the entries of directories durable."""
        self._settle({inode.number: inode for inode in directories}, self._journal)

    def writeback(self) -> None:
        """Make durable what has waited long enough."""
        now = self._time_s()
        old = [operation for operation in self._journal if operation.at <= now - JOURNAL_S]
        if old:
            self._journal = self._journal[len(old) :]
            self._retire(old)
        for inode in list(self._dirty.values()):
            if inode.dirty_since is not None and inode.dirty_since <= now - WRITEBACK_S:
                self.sync(inode)

    def _settle(self, directories: dict[int, Inode], journal: list[Operation]) -> None:
        need = {id(inode) for inode in directories.values()}
        done: list[Operation] = []
        left: list[Operation] = []
        for operation in reversed(journal):
            if any(id(inode) in need for inode in operation.touched):
                need.update(id(inode) for inode in operation.touched)
                done.append(operation)
            else:
                left.append(operation)
        self._journal = left[::-1]
        self._retire(done)

    def _retire(self, done: list[Operation]) -> None:
        for operation in done:
            for _, _, before, _ in operation.changes:
                if before is not None:
                    before.removing -= 1
                    self.release(before)

    def power_cut(self, choice: random.Random) -> None:
        """Lose what was not durable, as `choice` has it. No process may be running."""
        self.writeback()
        lost: set[int] = set()
        undone: list[Operation] = []
        kept: list[Operation] = []
        for operation in self._journal:
            depends = any(id(inode) in lost for inode in operation.touched)
            if depends or choice.random() < 0.4:
                lost.update(id(inode) for inode in operation.touched)
                undone.append(operation)
            else:
                kept.append(operation)
        self._journal = []
        for operation in reversed(undone):
            for directory, name, before, after in reversed(operation.changes):
                self._set(directory, name, after, before)
        for inode in list(self._dirty.values()):
            self._tear(inode, choice)
        self._retire(kept)
        for operation in undone:
            for _, _, before, after in operation.changes:
                if before is not None:
                    before.removing -= 1
                if after is not None:
                    self.release(after)

    def _tear(self, inode: Inode, choice: random.Random) -> None:
        data, mode, mtime_ns = inode.kept
        now = bytes(inode.data)
        fate = choice.randrange(3)
        if fate == 1:
            now = data
        elif fate == 2:
            size = len(choice.choice((now, data)))
            pieces = []
            for start in range(0, size, BLOCK_BYTES):
                end = min(start + BLOCK_BYTES, size)
                source = choice.choice((now, data, b""))[start:end]
                if start < len(data) and now[start:end] == data[start:end]:
                    source = data[start:end]  # not written since it was durable
                pieces.append(source.ljust(end - start, b"\0"))
            now = b"".join(pieces)
        inode.data = bytearray(now)
        if choice.random() < 0.5:
            inode.mode, inode.mtime_ns = mode, mtime_ns
        if not inode.is_directory:
            self.sync(inode)
