"""Which paths of a folder are in conflict, from what lies on this disk."""

from __future__ import annotations

from dataclasses import dataclass

from meshsync.sync.disk_rows import Path, SyncedRow
from meshsync.sync.synced_tree import SyncedTree


@dataclass(frozen=True, slots=True)
class InConflict:
    """`path` and what lies there, if anything does; beside it the `copies`, each with its own path."""

    path: Path
    present: SyncedRow | None
    copies: tuple[tuple[Path, SyncedRow], ...]

    def narrowed(self, path: Path) -> InConflict:
        """Return what the user means by `path`: one copy if it is one's path, else all of it."""
        chosen = tuple(copy for copy in self.copies if copy[0] == path)
        return InConflict(self.path, self.present, chosen) if chosen else self


def all_in_conflict(synced: SyncedTree) -> list[InConflict]:
    """Return every path in conflict, sorted. Copies of equal content lie under one name and are one copy."""
    found: dict[Path, list[tuple[Path, SyncedRow]]] = {}
    for row in synced.rows.values():
        if row.order != 0 or (row.copy_of is None and row.name == row.natural):
            continue
        path = synced.path_of(row.node)
        if path is not None:
            of = synced.path_of(row.copy_of) if row.copy_of is not None else None
            found.setdefault(of or (*path[:-1], row.natural), []).append((path, row))
    return [
        InConflict(path, next(iter(synced.at(path)), None), tuple(sorted(copies, key=lambda copy: copy[0])))
        for path, copies in sorted(found.items())
    ]


def conflict_at(synced: SyncedTree, path: Path) -> InConflict | None:
    """Return the conflict that `path`, of the file or of a copy, belongs to, `narrowed` to it; None for none."""
    for conflict in all_in_conflict(synced):
        if path == conflict.path or any(path == at for at, _ in conflict.copies):
            return conflict.narrowed(path)
    return None
