"""Where a device may not write: its user's files make way for what others did, and stay beside it.

Invariant: a file that is replaced lies under a second name before; its path is never empty. Nothing is published.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from meshsync.agent.folder_store import FolderStore
from meshsync.agent.observer import Observer, display
from meshsync.content.record import Kind
from meshsync.errors import ResourceError
from meshsync.folder.aside import keep_beside
from meshsync.folder.types import Blocked, Done
from meshsync.folder.types import Stat as DiskStat
from meshsync.ids import NodeId
from meshsync.limits import PLAIN_NAME_TRIES
from meshsync.sync.disk_rows import LocalRow, Path, Stat, SyncedRow
from meshsync.sync.names import marked_name
from meshsync.sync.settle import synced_row
from meshsync.sync.synced_tree import SyncedTree
from meshsync.sync.unpublished import Unpublished, overtaken
from meshsync.sync.view import View


class WayMaker:
    """Belongs to one folder loop; called between two plans. Calls block and write the index."""

    def __init__(self, observer: Observer, store: FolderStore, synced: SyncedTree) -> None:
        self._observer = observer
        self._store = store
        self._synced = synced

    def make_way(self, own: Unpublished, obstructed: Collection[NodeId], view: View) -> set[Path]:
        """Take out of the way what keeps others' changes from this disk; return the paths to be looked at and planned.

        A file that changes just now is left for the next time. Raises ResourceError if one cannot be kept.
        """
        rows: list[SyncedRow] = []
        gone: list[NodeId] = []
        touched: set[Path] = set()
        for node in overtaken(own.frozen, self._synced, view):
            old, path = self._synced.rows[node], self._synced.path_of(node)
            there = None if path is None else self._observer.local.at(path)
            if path is not None and there is not None and view.face(node) is not None and _is_file(there, old.kind):
                stat = self._keep(there, same=there.content == old.content)
                if stat is not None:
                    touched.add(path)
                    rows.append(_as_seen(old, there, stat))
                continue
            gone.append(node)  # what lies here of it is a file of this disk only
            touched.update([] if path is None else [path])
        for node in sorted(obstructed):
            shown, path = view.shown(node), view.path_of(node)
            there = None if path is None else self._observer.local.at(path)
            if shown is None or path is None or there is None or not _is_file(there, shown.kind):
                continue
            stat = self._keep(there, same=False)
            if stat is not None:
                touched.add(path)
                made = (synced_row(shown, each, order, there) for order, each in enumerate(shown.nodes))
                rows += [_as_seen(replace(row, versions=()), there, stat) for row in made]
        if rows or gone:
            self._store.keep_rows(rows, gone, {})
            for row in rows:
                self._store.chunks.remove_file(row.node)
                self._synced.put(row)
            for node in gone:
                self._synced.remove(node)
        return touched

    def _keep(self, row: LocalRow, *, same: bool) -> Stat | None:
        """Give the file a second name, unless the folder has its content; return its stat then, None if it changes."""
        if same:
            return row.stat
        for number in range(1, PLAIN_NAME_TRIES + 1):
            mark = b" (conflict, only here)" if number == 1 else b" (conflict, only here %d)" % number
            target = (*row.path[:-1], marked_name(row.path[-1], mark))
            if self._observer.local.at(target) is not None:
                continue
            outcome = keep_beside(self._observer.root, row.path, target, DiskStat(*row.stat))
            if isinstance(outcome, Blocked):
                raise ResourceError(
                    f"a file changed here cannot be kept beside the one that comes: {outcome.reason.value}",
                    path=display(row.path),
                    next_step="Make room, or move the file out of the folder.",
                )
            if not isinstance(outcome, Done) or outcome.stat is None:
                return None
            stat = Stat(*outcome.stat)
            self._observer.local.put(replace(row, stat=stat))
            self._observer.local.put(replace(row, path=target, stat=stat))
            return stat
        return None


def _is_file(row: LocalRow, shown: Kind) -> bool:
    return Kind.DIRECTORY not in (row.kind, shown)


def _as_seen(row: SyncedRow, there: LocalRow, stat: Stat) -> SyncedRow:
    """This disk holds what nobody is told of: the plan finds another content in the view and writes it."""
    return replace(row, content=there.content, executable=there.executable, mtime_ns=stat.mtime_ns, stat=stat)
