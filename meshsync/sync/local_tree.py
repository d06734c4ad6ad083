"""The observed tree by path, and what was not observed.

Invariant: a path below an unobserved one is unobserved: nothing follows from its absence (`semantics.md` 4.6).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from meshsync.content.record import Kind
from meshsync.sync.disk_rows import LocalRow, Path


class LocalTree:
    """Mutable; the owner persists the rows. `unobserved` are ignored or unreadable paths, with all beneath them."""

    def __init__(self, rows: Iterable[LocalRow] = (), unobserved: Iterable[Path] = ()) -> None:
        self._rows: dict[Path, LocalRow] = {}
        self._names: dict[Path, dict[bytes, None]] = {}
        self._inodes: dict[int, Path] = {}
        self._second_names: dict[int, dict[Path, None]] = {}  # of inodes that have several paths: all but the first
        self.unobserved: set[Path] = set(unobserved)
        for row in rows:
            self.put(row)

    def __len__(self) -> int:
        return len(self._rows)

    def unseen(self, paths: Iterable[Path]) -> LocalTree:
        """Return this tree as if nothing had been observed at and below `paths`. It shares the rows: only read it."""
        other = LocalTree(unobserved=self.unobserved.union(paths))
        other._rows, other._names = self._rows, self._names
        other._inodes, other._second_names = self._inodes, self._second_names
        return other

    def has_files(self) -> bool:
        """Tell whether anything but directories was observed."""
        return any(row.kind is not Kind.DIRECTORY for row in self._rows.values())

    def put(self, row: LocalRow) -> None:
        """Add the row, or replace the one at its path."""
        before = self._rows.get(row.path)
        if before is None or before.stat.inode != row.stat.inode:
            if before is not None:
                self._forget_inode(before)
            if self._inodes.setdefault(row.stat.inode, row.path) != row.path:
                self._second_names.setdefault(row.stat.inode, {})[row.path] = None
        self._rows[row.path] = row
        self._names.setdefault(row.path[:-1], {})[row.path[-1]] = None

    def remove(self, path: Path) -> None:
        """Forget what is at and below `path`."""
        for row in list(self.walk(path)):
            del self._rows[row.path]
            self._forget_inode(row)
            names = self._names[row.path[:-1]]
            del names[row.path[-1]]
            if not names:
                del self._names[row.path[:-1]]

    def _forget_inode(self, row: LocalRow) -> None:
        inode = row.stat.inode
        others = self._second_names.get(inode, {})
        if row.path in others:
            del others[row.path]
        elif others:
            self._inodes[inode] = next(iter(others))
            del others[self._inodes[inode]]
        else:
            del self._inodes[inode]
        if not others:
            self._second_names.pop(inode, None)

    def of_inode(self, inode: int) -> list[Path]:
        """Return the paths at which the object `inode` was observed; several are names of one file."""
        first = self._inodes.get(inode)
        return [] if first is None else [first, *self._second_names.get(inode, ())]

    def at(self, path: Path) -> LocalRow | None:
        """Return what lies at `path`, None for nothing."""
        return self._rows.get(path)

    def names(self, path: Path) -> list[bytes]:
        """Return the names in the directory `path`, sorted."""
        return sorted(self._names.get(path, ()))

    def walk(self, top: Path = ()) -> Iterator[LocalRow]:
        """Yield what lies at and below `top`, parents first."""
        row = self._rows.get(top)
        if row is not None:
            yield row
        pending = [top]
        while pending:
            at = pending.pop()
            for name in self.names(at):
                yield self._rows[(*at, name)]
                pending.append((*at, name))

    def is_observed(self, path: Path) -> bool:
        """Tell whether absence at `path` means that there is nothing."""
        if not self.unobserved:
            return True
        return not any(path[:size] in self.unobserved for size in range(len(path) + 1))
