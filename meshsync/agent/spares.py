"""Contents that this disk keeps because they may be needed again and may lie nowhere else (`sync/spare.py`).

Invariant: a file is under its second name, durable, and its chunks are in the index under its version, before the
action that takes it out of the tree begins; both go when nobody can need them any more. Calls block.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress

from meshsync.agent.applying import Prepared, place_path
from meshsync.agent.folder_store import FolderStore
from meshsync.agent.observer import Observer
from meshsync.errors import ResourceError
from meshsync.folder.spare import keep_spare, remove_spare, spare_keys, spare_path
from meshsync.folder.types import Blocked, Done
from meshsync.folder.types import Stat as DiskStat
from meshsync.ids import Dot, NodeId
from meshsync.runtime import Runtime
from meshsync.sync.actions import Action, Parked
from meshsync.sync.disk_rows import Path, Stat, SyncedRow
from meshsync.sync.spare import is_spare, spared_by
from meshsync.sync.synced_tree import SyncedTree
from meshsync.sync.view import View

log = logging.getLogger(__name__)

_MARK = b"spare"
"""After the version in the index's name of its file: no node is called so."""


def spare_file(name: Dot) -> NodeId:
    """Return what the index calls the file that keeps the content of a version."""
    return NodeId(name + _MARK)


def path_of_spare(file: NodeId) -> Path | None:
    """Return where the index's `file` lies if it is such a file, from the root."""
    return spare_path(file.removesuffix(_MARK)) if file.endswith(_MARK) else None


class Spares:
    """Belongs to one folder loop."""

    def __init__(self, runtime: Runtime, observer: Observer, store: FolderStore, synced: SyncedTree) -> None:
        self._runtime = runtime
        self._observer = observer
        self._store = store
        self._synced = synced
        self._kept: set[Dot] | None = None  # not known before the first look

    async def keep(self, actions: Sequence[Action], view: View) -> Prepared:
        """Keep what `actions` take off this disk and what may show again; return which of them have to wait for it.

        A file that got its second name just now is looked at and planned for once more: its ctime moved. Raises
        ResourceError with nothing lost.
        """
        held = Prepared()
        spared = [(action, *each) for action in actions for each in spared_by(action, self._synced, view)]
        for action, name, row in spared:
            await self._runtime.in_thread(self._keep, action, name, row, held)
        return held

    async def review(self, view: View) -> None:
        """Remove what nobody can need any more; what the disk or the index refuses stays for the next review."""
        try:
            if self._kept is None:
                await self._runtime.in_thread(self._known)
            over = {name for name in self._kept or () if not is_spare(name, self._synced, view)}
            if over:
                await self._runtime.in_thread(self._forget, over)
        except ResourceError as error:
            log.info("%s", error)

    def _keep(self, action: Action, name: Dot, row: SyncedRow, held: Prepared) -> None:
        chunks = self._store.chunks.file_chunks(row.node)
        where = self._where(action, row)
        if name in self._known() or not chunks or where is None:
            return
        path, stat = where
        outcome = keep_spare(self._observer.root, path, name, DiskStat(*stat))
        if isinstance(outcome, Blocked):
            held.blocked.append((action, path, outcome))
            return
        if isinstance(outcome, Done):
            with self._store.database.transaction():
                self._store.chunks.set_file(spare_file(name), chunks)
            self._known().add(name)
        held.changed.append((action, path))

    def _where(self, action: Action, row: SyncedRow) -> tuple[Path, Stat] | None:
        path = self._synced.path_of(row.node)
        if path is not None:
            there = self._observer.local.at(path)
            return None if there is None else (path, there.stat)
        if isinstance(action.target, Parked) and row.stat is not None:
            return place_path(action.target), row.stat
        return None

    def _known(self) -> set[Dot]:
        """Return what is kept; what a crash left half kept is removed before."""
        if self._kept is None:
            recorded = {Dot(file.removesuffix(_MARK)) for file in self._store.chunks.files_named(_MARK)}
            try:
                lying = {Dot(key) for key in spare_keys(self._observer.root)}
            except OSError as error:
                raise ResourceError(f"kept contents cannot be listed: {error.strerror}") from error
            self._forget(recorded ^ lying)
            self._kept = recorded & lying
        return self._kept

    def _forget(self, names: set[Dot]) -> None:
        if not names:
            return
        with self._store.database.transaction():
            for name in names:
                self._store.chunks.remove_file(spare_file(name))
        for name in names:
            if self._kept is not None:
                self._kept.discard(name)
            with suppress(OSError):  # the next start finds it without a record
                remove_spare(self._observer.root, name)
