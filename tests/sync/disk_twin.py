"""A disk in memory: objects with inodes, what a user does to them, and the actions of a plan, checked as a shell would.

Invariant: an action whose expectation fails raises; so does one that would leave a path absent or overwrite unseen.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from meshsync.content.record import Content, Kind
from meshsync.sync.actions import Action, InParked, MakeDirectory, MakeLink, Move, Parked, Place, Remove, SetAttr
from meshsync.sync.disk_rows import LocalRow, Path, Stat
from meshsync.sync.local_tree import LocalTree
from meshsync.sync.node import DIRECTORY


@dataclass
class Object:
    content: Content
    executable: bool
    inode: int
    mtime_ns: int
    ctime_ns: int
    children: dict[bytes, Object] | None

    @property
    def stat(self) -> Stat:
        return Stat(self.inode, self.inode, self.content.size, self.mtime_ns, self.ctime_ns)


class DiskTwin:
    def __init__(self, start_ns: int = 0) -> None:
        """`start_ns` is added to the mtimes of new objects."""
        self.mtime_step_ns = 1  # how coarsely the file system keeps times
        self._start_ns = start_ns
        self._counter = itertools.count(1)
        self.root = self._object(DIRECTORY)
        self.parked: dict[int, Object] = {}
        self.unobserved: set[Path] = set()

    # --- the user --------------------------------------------------------------------------------------------

    def at(self, path: Path) -> Object | None:
        found: Object | None = self.root
        for name in path:
            found = (found.children or {}).get(name) if found is not None else None
        return found

    def write(self, path: Path, content: Content, executable: bool = False, in_place: bool = False) -> None:
        """Create or overwrite; not `in_place` is a safe-save with a new inode."""
        old = self.at(path)
        if in_place and old is not None and old.content.kind is content.kind is Kind.FILE:
            old.content = content
            self.touch(path)
            return
        executable = content.kind is Kind.FILE and (executable if old is None else old.executable)
        self._parent(path)[path[-1]] = self._object(content, executable)

    def make_directory(self, path: Path) -> None:
        self._parent(path)[path[-1]] = self._object(DIRECTORY)

    def touch(self, path: Path, mtime_ns: int | None = None) -> None:
        """Set the mtime, to one that was never used if None."""
        thing = self.at(path)
        assert thing is not None
        thing.ctime_ns = next(self._counter)
        thing.mtime_ns = self._start_ns + thing.ctime_ns if mtime_ns is None else mtime_ns

    def rename(self, source: Path, target: Path) -> None:
        thing = self._parent(source).pop(source[-1])
        thing.ctime_ns = next(self._counter)
        self._parent(target)[target[-1]] = thing

    def delete(self, path: Path) -> None:
        del self._parent(path)[path[-1]]

    def set_executable(self, path: Path, executable: bool) -> None:
        thing = self.at(path)
        assert thing is not None
        thing.executable, thing.ctime_ns = executable, next(self._counter)

    def mtimes(self) -> dict[Path, int]:
        """Return the mtimes of all files."""
        return {row.path: row.stat.mtime_ns for row in self.scan().walk() if row.kind is Kind.FILE}

    def tree(self) -> dict[Path, tuple[Content, bool]]:
        return {row.path: (row.content, row.executable) for row in self.scan().walk()}

    def scan(self) -> LocalTree:
        local = LocalTree(unobserved=self.unobserved)
        pending: list[tuple[Path, Object]] = [((), self.root)]
        while pending:
            path, thing = pending.pop()
            for name, child in (thing.children or {}).items():
                below = (*path, name)
                if local.is_observed(below):
                    local.put(LocalRow(below, child.content, child.executable, child.stat))
                    pending.append((below, child))
        return local

    # --- the shell -------------------------------------------------------------------------------------------

    def do(self, action: Action) -> Stat | None:
        """Carry out one action; return the stat of what is at its target afterwards."""
        if isinstance(action, MakeDirectory):
            self._check(action.target, None)
            self._set(action.target, self._object(DIRECTORY))
        elif isinstance(action, Move):
            self._move(action)
        elif isinstance(action, Remove):
            self._check(action.target, action.expected)
            thing = self._get(action.target)
            if thing is None and not isinstance(action.target, tuple):
                return None  # a removal that a crash kept from being recorded
            assert thing is not None and not thing.children, "a directory is removed when it is empty"
            self._set(action.target, None)
        elif isinstance(action, SetAttr):
            self._check(action.target, action.expected)
            thing = self._get(action.target)
            assert thing is not None
            thing.executable, thing.ctime_ns = action.executable, next(self._counter)
            self._set_mtime(thing, thing.mtime_ns if action.mtime_ns is None else action.mtime_ns)
        else:
            self._check(action.target, action.expected)
            executable = False if isinstance(action, MakeLink) else action.executable
            thing = self._object(action.content, executable)
            self._set_mtime(thing, action.mtime_ns)
            self._set(action.target, thing)
        after = self._get(action.target)
        return None if after is None else after.stat

    def _set_mtime(self, thing: Object, mtime_ns: int) -> None:
        thing.mtime_ns = mtime_ns - mtime_ns % self.mtime_step_ns

    def _move(self, action: Move) -> None:
        self._check(action.source, action.expected)
        self._check(action.target, action.replaced)
        source, target = self._get(action.source), self._get(action.target)
        assert source is not None
        if action.exchange:
            assert target is not None, "an exchange needs both"
        assert not self._holds(source, action.target), "a directory cannot move into itself"
        self._set(action.source, target if action.exchange else None)
        self._set(action.target, source)

    def _check(self, place: Place, expected: Stat | None) -> None:
        thing = self._get(place)
        if isinstance(place, Parked | InParked):
            return
        seen = None if thing is None else thing.stat
        assert (seen is None) == (expected is None), f"{place}: expected {expected}, there is {seen}"
        assert expected is None or seen is None or seen.inode == expected.inode, f"{place}: another object"

    def _holds(self, thing: Object, place: Place) -> bool:
        if isinstance(place, tuple):
            return any(self.at(place[:size]) is thing for size in range(1, len(place)))
        return False

    def _get(self, place: Place) -> Object | None:
        if isinstance(place, Parked):
            return self.parked.get(place.number)
        if isinstance(place, InParked):
            found: Object | None = self.parked[place.parked.number]
            for name in place.below:
                found = (found.children or {}).get(name) if found is not None else None
            return found
        return self.at(place)

    def _set(self, place: Place, thing: Object | None) -> None:
        if isinstance(place, Parked):
            holder: dict[int, Object] | dict[bytes, Object] = self.parked
            key: int | bytes = place.number
        elif isinstance(place, InParked):
            above = self._get(InParked(place.parked, place.below[:-1]))
            assert above is not None and above.children is not None
            holder, key = above.children, place.below[-1]
        else:
            holder, key = self._parent(place), place[-1]
        if thing is None:
            del holder[key]  # type: ignore[arg-type]
        else:
            holder[key] = thing  # type: ignore[index]

    def _parent(self, path: Path) -> dict[bytes, Object]:
        above = self.at(path[:-1])
        assert above is not None and above.children is not None, f"nothing to hold {path}"
        return above.children

    def _object(self, content: Content, executable: bool = False) -> Object:
        number = next(self._counter)
        children: dict[bytes, Object] | None = {} if content.kind is Kind.DIRECTORY else None
        return Object(content, executable, number, self._start_ns + number, number, children)
