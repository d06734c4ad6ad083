"""Which directory each inotify watch stands for, through all moves.

Invariant: once all events are handled, every readable directory of the tree has its watch under its present path, and
nothing else is watched. inotify names a directory by its watch and says nothing when one above it moves, so the path
is never computed from the events: what lies at a path that an event names is looked at again, and the kernel gives a
directory the watch that it has. Directories that were exchanged in one call are told as two moves over each other; no
order of renames leads to what then lies there.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Final

from sortedcontainers import SortedDict
from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchCallback,
    WatchDescriptor,
)

from meshsync.folder.names import CONTROL_NAME

_CHANGES: Final = Mask(
    InotifyConstants.IN_CREATE
    | InotifyConstants.IN_DELETE
    | InotifyConstants.IN_MOVE
    | InotifyConstants.IN_MODIFY
    | InotifyConstants.IN_ATTRIB
    | InotifyConstants.IN_CLOSE_WRITE
)
"""Everything that can change what a scan finds. Opening and closing without writing is what a scan does itself."""

_DIRECTORIES_ONLY: Final = Mask(InotifyConstants.IN_ONLYDIR | InotifyConstants.IN_DONT_FOLLOW)
_ID: Final = CallbackId(0)  # there is one receiver for each watch


class WatchedTree(WatchCallback):
    """The watches of all directories below `root`. `changed` is told the full path of what may have changed, `root`
    itself when it, or the control directory, came or went. Called from any thread.
    """

    def __init__(self, root: bytes, inotify: InotifyFD, changed: Callable[[bytes], None]) -> None:
        self._root = root.rstrip(b"/")
        self._inotify = inotify
        self._changed = changed
        self._control = self._root + b"/" + CONTROL_NAME
        self._lock = threading.Lock()
        self._path_of: dict[WatchDescriptor, bytes] = {}
        self._watch_at: SortedDict = SortedDict()  # path → watch, in order, so that a subtree is a range

    def start(self) -> None:
        """Watch everything. Raises OSError if the root cannot be watched."""
        with self._lock:
            self._watch(self._root)
            if self._root not in self._watch_at:
                raise FileNotFoundError(self._root)

    def on_event(self, event: InotifyEvent) -> None:
        """Take one event of a watched directory, keep the watches right and tell the path."""
        with self._lock:
            directory = self._path_of.get(event.wd)
            if directory is None:
                return
            path = directory + b"/" + event.name if event.name else directory
            if not self._concerns(event, path):
                return
        self._changed(self._root if path == self._control else path)

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """A watched directory does not exist any more."""
        with self._lock:
            path = self._path_of.get(wd)
            self._forget(wd)
        if path == self._root:
            self._changed(path)

    def on_queue_overflow(self) -> None:
        """Events were lost: watch anew what is there."""
        with self._lock:
            self._look(self._root)

    def _concerns(self, event: InotifyEvent, path: bytes) -> bool:
        """Return whether `path` may have changed for a scan; bring the watches at and below it up to date."""
        if not event.name:
            return path == self._root and event.is_move_self
        if path == self._control:  # the marker goes first when somebody removes the root, which an open root outlives
            return not event.is_attrib
        if not event.mask & InotifyConstants.IN_ISDIR:
            return True
        if event.is_attrib:  # one that was closed to us may be open now; otherwise it says nothing
            if path in self._watch_at:
                return False
            self._look(path)
            return path in self._watch_at
        self._look(path)  # before the path is told: what changes in there from now on is told by itself
        return True

    def _look(self, path: bytes) -> None:
        """Watch what lies at and below `path` now, and nothing that lay there before."""
        before = list(self._below(path))
        found = self._watch(path)
        gone = [wd for wd in before if wd not in found]
        for wd in gone:
            self._forget(wd)
        # One that moved within the tree is watched again when its arrival is told.
        self._inotify.remove_callbacks([(wd, _ID) for wd in gone])

    def _watch(self, top: bytes) -> set[WatchDescriptor]:
        """Watch all directories at and below `top` that can be watched; return their watches."""
        found: set[WatchDescriptor] = set()
        pending = [top]
        while pending:
            path = pending.pop()
            if path == self._control:
                continue
            mask = _CHANGES | _DIRECTORIES_ONLY | (InotifyConstants.IN_MOVE_SELF if path == self._root else 0)
            with contextlib.suppress(OSError):  # it went away, is none, is closed to us, or watches ran out
                wd = self._inotify.add_callback(path, Mask(mask), self, _ID)
                self._put(path, wd)
                found.add(wd)
                with os.scandir(path) as entries:
                    pending += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        return found

    def _put(self, path: bytes, wd: WatchDescriptor) -> None:
        self._forget(wd)
        other = self._watch_at.pop(path, None)
        if other is not None:
            del self._path_of[other]
        self._path_of[wd] = path
        self._watch_at[path] = wd

    def _forget(self, wd: WatchDescriptor) -> None:
        path = self._path_of.pop(wd, None)
        if path is not None:
            del self._watch_at[path]

    def _below(self, path: bytes) -> Iterator[WatchDescriptor]:
        """Yield the watches at and below `path`."""
        if path in self._watch_at:
            yield self._watch_at[path]
        for inner in self._watch_at.irange(path + b"/", path + b"0", inclusive=(True, False)):  # 0 comes after /
            yield self._watch_at[inner]
