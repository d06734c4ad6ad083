"""Which synced node is which object on disk now (`semantics.md` 4.2).

Invariant: pure; every synced row in scope ends as lying somewhere, vanished, or frozen, every observed object as one of
them or as new. A doubt makes a new node: inode numbers are reused at once.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass, field

from meshsync.content.record import Kind
from meshsync.ids import NodeId
from meshsync.sync.disk_rows import LocalRow, Path
from meshsync.sync.local_tree import LocalTree
from meshsync.sync.synced_tree import Group, SyncedTree


@dataclass(slots=True)
class Matched:
    """What came of each synced group in scope, by its path as synced, and of each object, by its path now."""

    groups: dict[Path, Group] = field(default_factory=dict)  # synced path → rows, parents first
    now: dict[Path, Path] = field(default_factory=dict)  # synced path → path now
    was: dict[Path, Path] = field(default_factory=dict)  # path now → synced path
    created: list[LocalRow] = field(default_factory=list)  # parents first
    vanished: list[Path] = field(default_factory=list)  # synced paths, parents first
    frozen: set[NodeId] = field(default_factory=set)
    unseen: Collection[NodeId] = ()
    hidden: set[int] = field(default_factory=set)  # inodes that are known to lie where nothing counts as observed

    def pair(self, before: Path, now: Path) -> None:
        self.now[before] = now
        self.was[now] = before


def match(
    synced: SyncedTree, local: LocalTree, scope: Collection[Path] | None = None, unseen: Collection[NodeId] = ()
) -> Matched:
    """Return what became of the synced rows. With `scope`, only of what is or was at and below these paths.

    `unseen` nodes are frozen wherever they lie, and so is what went where nothing is observed: it is not gone.
    """
    matched = Matched(unseen=unseen)
    objects: dict[Path, LocalRow] = {}
    for top in _tops(scope):
        matched.groups.update(synced.walk(top))
        objects.update((row.path, row) for row in local.walk(top))
    if local.unobserved:
        matched.hidden = {row.stat.inode for row in objects.values() if not local.is_observed(row.path)}
    _match_directories(matched, objects, local)
    lost = _match_files(matched, objects, local)
    _freeze_above(matched)
    taken = {path for path, rows in matched.groups.items() if rows[0].node in matched.frozen}
    # What lies in the place of something frozen waits with it: two things would be known at one path.
    new = [row for path, row in objects.items() if path not in matched.was and not _is_in(path, taken)]
    _match_renames(matched, lost, new, local)
    matched.created = [row for row in new if row.path not in matched.was and local.is_observed(row.path)]
    matched.created.sort(key=lambda row: (len(row.path), row.path))
    matched.vanished = [
        path for path, rows in matched.groups.items() if path not in matched.now and rows[0].node not in matched.frozen
    ]
    return matched


def _is_in(path: Path, places: set[Path]) -> bool:
    return bool(places) and any(path[:size] in places for size in range(1, len(path) + 1))


def _tops(scope: Collection[Path] | None) -> list[Path]:
    """Return the paths of `scope` that are not below another one of it."""
    if scope is None:
        return [()]
    return sorted(path for path in set(scope) if not any(path[:size] in scope for size in range(len(path))))


def expected_path(matched: Matched, path: Path) -> Path | None:
    """Return where the object of synced `path` is if only directories above it moved; None if one vanished."""
    above = path[:-1]
    if above not in matched.groups:  # above the scope, or the root: unmoved
        return path
    return (*matched.now[above], path[-1]) if above in matched.now else None


def _freeze(matched: Matched, path: Path, rows: Group, local: LocalTree) -> bool:
    expected = expected_path(matched, path)
    frozen = rows[0].node in matched.unseen or not local.is_observed(expected if expected is not None else path)
    above = matched.groups.get(path[:-1])
    if frozen or (above is not None and above[0].node in matched.frozen):
        matched.frozen.update(row.node for row in rows)
        return True
    return False


def _is_hidden(matched: Matched, rows: Group) -> bool:
    """Tell whether the object went where nothing counts as observed: it is frozen, not gone."""
    if rows[0].stat is None or rows[0].stat.inode not in matched.hidden:
        return False
    matched.frozen.update(row.node for row in rows)
    return True


def _freeze_above(matched: Matched) -> None:
    """A directory is not gone while something frozen belongs in it, whose row would name nothing."""
    for path in [path for path, rows in matched.groups.items() if rows[0].node in matched.frozen]:
        for depth in range(1, len(path)):
            above = path[:depth]
            if above in matched.groups and above not in matched.now:
                matched.frozen.update(row.node for row in matched.groups[above])


def _match_directories(matched: Matched, objects: dict[Path, LocalRow], local: LocalTree) -> None:
    """By inode first, wherever it is now; then what still has its name in its directory."""
    by_inode: dict[int, list[LocalRow]] = {}
    for row in objects.values():
        if row.kind is Kind.DIRECTORY:
            by_inode.setdefault(row.stat.inode, []).append(row)
    groups = [(path, rows) for path, rows in matched.groups.items() if rows[0].kind is Kind.DIRECTORY]
    claimed: dict[Path, Path] = {}
    for path, rows in groups:
        stat = rows[0].stat
        candidates = by_inode.get(stat.inode, []) if stat is not None else []
        same = [row for row in candidates if _same_directory(matched, path, rows, row, local)]
        if len(same) == 1 and same[0].path not in claimed:
            claimed[same[0].path] = path
    moved = {before: now for now, before in claimed.items()}
    for path, rows in groups:
        if _freeze(matched, path, rows, local):
            continue
        found = moved.get(path)
        if found is None:
            found = expected_path(matched, path)
            there = objects.get(found) if found is not None else None
            if found is None or there is None or there.kind is not Kind.DIRECTORY or found in claimed:
                _is_hidden(matched, rows)
                continue
        elif not local.is_observed(found):
            _is_hidden(matched, rows)
            continue
        matched.pair(path, found)


def _same_directory(matched: Matched, path: Path, rows: Group, row: LocalRow, local: LocalTree) -> bool:
    """An inode is confirmed by its birth time, or where that is unknown by its path or a common child."""
    stat = rows[0].stat
    assert stat is not None
    if stat.birth_ns and row.stat.birth_ns:
        return stat.birth_ns == row.stat.birth_ns
    return row.path == path or any((*path, name) in matched.groups for name in local.names(row.path))


def _match_files(matched: Matched, objects: dict[Path, LocalRow], local: LocalTree) -> list[Path]:
    """A path that still holds a file keeps its node, whatever the inode. Return the synced paths that hold none."""
    lost: list[Path] = []
    for path, rows in matched.groups.items():
        if rows[0].kind is Kind.DIRECTORY or _freeze(matched, path, rows, local):
            continue
        expected = expected_path(matched, path)
        there = objects.get(expected) if expected is not None else None
        if expected is not None and there is not None and there.kind is not Kind.DIRECTORY:
            matched.pair(path, expected)
        elif not _is_hidden(matched, rows):
            lost.append(path)
    return lost


def _match_renames(matched: Matched, lost: list[Path], new: list[LocalRow], local: LocalTree) -> None:
    """A lost path and a new object are one node if nothing else could be: first by inode, then by content."""
    held = {row.stat.inode for now in matched.was if (row := local.at(now)) is not None}
    files = [row for row in new if row.kind is not Kind.DIRECTORY and local.is_observed(row.path)]
    free = [row for row in files if row.stat.inode not in held]

    def by_inode(path: Path) -> Hashable:
        row = matched.groups[path][0]
        return row.stat and (row.kind, row.stat.inode, row.stat.size, row.stat.mtime_ns)

    _pair_unique(
        matched,
        ((by_inode(path), path) for path in lost),
        (((row.kind, row.stat.inode, row.stat.size, row.stat.mtime_ns), row.path) for row in free),
    )
    _pair_unique(
        matched,
        ((matched.groups[path][0].content, path) for path in lost if path not in matched.now),
        ((row.content, row.path) for row in free if row.path not in matched.was),
    )


def _pair_unique(matched: Matched, lost: Iterable[tuple[Hashable, Path]], new: Iterable[tuple[Hashable, Path]]) -> None:
    before, now = _by_key(lost), _by_key(new)
    for key, paths in before.items():
        if key is not None and len(paths) == 1 and len(now.get(key, ())) == 1:
            matched.pair(paths[0], now[key][0])


def _by_key(pairs: Iterable[tuple[Hashable, Path]]) -> dict[Hashable, list[Path]]:
    out: dict[Hashable, list[Path]] = {}
    for key, path in pairs:
        out.setdefault(key, []).append(path)
    return out
