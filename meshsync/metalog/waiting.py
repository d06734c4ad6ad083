"""Entries that wait for their past. Invariant: bounded in number and bytes, and none waits for what was refused.

A member can sign entries that name anything, so an entry that finds no room is not kept: whoever wants it asks again.
"""

from __future__ import annotations

from meshsync import limits
from meshsync.ids import EntryId
from meshsync.metalog.entry import OpenedEntry


class WaitingEntries:
    """Verified entries by id, and by each id that they still wait for."""

    def __init__(self) -> None:
        self._entries: dict[EntryId, OpenedEntry] = {}
        self._lacking: dict[EntryId, set[EntryId]] = {}
        self._waiters: dict[EntryId, dict[EntryId, None]] = {}  # the inner one keeps the order of arrival
        self._bytes = 0

    def __contains__(self, entry: EntryId) -> bool:
        return entry in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: OpenedEntry, lacking: set[EntryId]) -> bool:
        """Keep `entry` until every id of `lacking`, not empty, is resolved. Return False if there is no room."""
        assert lacking, "an entry that lacks nothing does not wait"
        full = len(self._entries) >= limits.ENTRIES_WAITING_MAX
        if full or self._bytes + entry.size_bytes > limits.ENTRIES_WAITING_BYTES_MAX:
            return False
        self._entries[entry.id] = entry
        self._bytes += entry.size_bytes
        self._lacking[entry.id] = set(lacking)
        for wanted in sorted(lacking):
            self._waiters.setdefault(wanted, {})[entry.id] = None
        return True

    def resolve(self, delivered: EntryId) -> list[OpenedEntry]:
        """Forget and return, in order of arrival, the entries that lack nothing any more with `delivered` there."""
        ready = []
        for waiter in self._waiters.pop(delivered, {}):
            lacking = self._lacking[waiter]
            lacking.discard(delivered)
            if not lacking:
                ready.append(self._forget(waiter))
        return ready

    def refuse(self, refused: EntryId) -> list[OpenedEntry]:
        """Return and forget every entry that waits for `refused`, directly or through others."""
        lost: list[OpenedEntry] = []
        doomed = [refused]
        while doomed:
            for waiter in list(self._waiters.get(doomed.pop(), ())):
                if waiter in self._entries:
                    lost.append(self._forget(waiter))
                    doomed.append(waiter)
        return lost

    def _forget(self, entry: EntryId) -> OpenedEntry:
        for wanted in self._lacking.pop(entry):
            waiters = self._waiters[wanted]
            del waiters[entry]
            if not waiters:
                del self._waiters[wanted]
        opened = self._entries.pop(entry)
        self._bytes -= opened.size_bytes
        return opened
