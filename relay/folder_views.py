"""The membership of each folder, folded from its log. Invariant: a cache, checked at each use against the log's index.

At most RELAY_FOLDERS_CACHED_MAX folders are held; the least recently asked for goes first.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from weakref import WeakValueDictionary

from meshsync.errors import IntegrityError
from meshsync.ids import FolderId, short
from meshsync.limits import RECORDS_PAGE_BYTES_MAX, RECORDS_PAGE_ITEMS_MAX, RELAY_FOLDERS_CACHED_MAX
from meshsync.metalog.membership import Membership, found
from meshsync.metalog.membership_entry import open_membership
from meshsync.metalog.record_log import RecordKind
from relay.drivers.base import MetadataLog
from relay.sequencer import FolderView


class FolderViews:
    """Answers "what does the log of this folder add up to now?"."""

    def __init__(self, log: MetadataLog) -> None:
        self._log = log
        self._views: OrderedDict[FolderId, FolderView] = OrderedDict()
        self._turns: WeakValueDictionary[FolderId, asyncio.Lock] = WeakValueDictionary()

    def turn(self, folder: FolderId) -> asyncio.Lock:
        """Return the lock under which this process appends to `folder`: it saves tries, correctness is the log's."""
        lock = self._turns.get(folder)
        if lock is None:
            lock = self._turns[folder] = asyncio.Lock()
        return lock

    async def get(self, folder: FolderId) -> FolderView | None:
        """Return the view at the log's present end, None if there is no such folder. Raises IntegrityError."""
        state = await self._log.state(folder)
        if state is None:
            return None
        cached = self._views.get(folder)
        if cached is not None and cached.index > state.index:
            cached = None  # the log was restored from a backup
        if cached is None or cached.index < state.index:
            membership = await self._fold(folder, cached)
            cached = FolderView(folder, state.index, state.head, membership)
        self.remember(cached)
        return cached

    def remember(self, view: FolderView) -> None:
        """Take a view that has just been written."""
        self._views[view.folder] = view
        self._views.move_to_end(view.folder)
        while len(self._views) > RELAY_FOLDERS_CACHED_MAX:
            self._views.popitem(last=False)

    async def _fold(self, folder: FolderId, cached: FolderView | None) -> Membership:
        membership = cached.membership if cached else None
        start = cached.index + 1 if cached else 1
        while rows := await self._log.read(
            folder, start, RECORDS_PAGE_BYTES_MAX, RECORDS_PAGE_ITEMS_MAX, [RecordKind.MEMBERSHIP]
        ):
            for row in rows:
                entry = open_membership(row.data)
                if membership is None:
                    membership = found(entry)
                elif membership.follows(entry):
                    membership = membership.apply(entry)
                elif entry.body.seq > membership.seq:
                    raise IntegrityError("the log's membership chain is broken", folder=short(folder))
            start = rows[-1].index + 1
        if membership is None:
            raise IntegrityError("the log has no genesis", folder=short(folder))
        return membership
