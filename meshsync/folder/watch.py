"""What may have changed, as a hint for the next scan. Invariant: a change is told as a dirty path or as "rescan", never
lost in silence; a quiet tree tells nothing; the control directory is never told.

watchdog reads inotify; `watched_tree` keeps the watches. When the kernel's queue overflows, or the user's watches run
out, the answer is "rescan".
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from watchdog.observers.inotify_c import CallbackId, InotifyEvent, InotifyFD, Mask, WatchCallback, WatchDescriptor

from meshsync.folder.names import CONTROL_NAME
from meshsync.folder.types import RelativePath
from meshsync.folder.watched_tree import WatchedTree
from meshsync.limits import FOLDER_DIRTY_PATHS_MAX, FOLDER_WATCH_DELAY_S


@dataclass(frozen=True, slots=True)
class Dirty:
    """Paths to look at (`scan.scan_paths`), or, with `rescan`, the whole folder: then `paths` is empty."""

    paths: frozenset[RelativePath]
    rescan: bool = False


class Watcher:
    """Watches one folder. `tell` is called on the event loop, a moment after the first of some changes.

    When the root itself goes away, or is replaced, watching ends with a rescan: start a new watcher once it is back.
    """

    def __init__(self, root: bytes, loop: asyncio.AbstractEventLoop, tell: Callable[[Dirty], None]) -> None:
        self._root, self._loop, self._tell = root, loop, tell
        self._prefix = root.rstrip(b"/") + b"/"
        self._lock = threading.Lock()
        self._paths: set[RelativePath] = set()
        self._rescan = self._armed = self._stopped = False
        self._limited = False
        self._inotify: _Inotify | None = None

    @property
    def limited(self) -> bool:
        """Whether some directories cannot be watched (the system's inotify limit): scan more often."""
        return self._limited

    def start(self) -> None:
        """Watch every directory beneath the root. Blocking, about a second for 20,000 directories; call it in a thread.

        Changes made before it returns may go untold: scan afterwards. Where inotify cannot be had at all, `limited` is
        set and nothing else happens.
        """
        # A directory that is looked at again gets the watch that it has; watchdog means well in saying so each time.
        warnings.filterwarnings("ignore", message="Callback with id", category=RuntimeWarning)
        try:
            self._inotify = _Inotify(self._overflowed, self._watches_ran_out)
            self._inotify.start()
            WatchedTree(self._root, self._inotify, self._changed).start()
        except OSError:
            self._watches_ran_out()

    def stop(self) -> None:
        """Stop watching and wait for the thread. Blocking. Nothing is told afterwards."""
        with self._lock:
            self._stopped = True
        if self._inotify is not None and self._inotify.is_alive():
            self._inotify.stop()
            self._inotify.join()

    def _changed(self, path: bytes) -> None:
        if not path.startswith(self._prefix):
            self._mark(None)
            return
        names = tuple(path[len(self._prefix) :].split(b"/"))
        if names[0] != CONTROL_NAME:
            self._mark(names)

    def _overflowed(self) -> None:
        self._mark(None)

    def _watches_ran_out(self) -> None:
        self._limited = True
        self._mark(None)

    def _mark(self, path: RelativePath | None) -> None:
        """Remember a dirty path, or the whole folder, and see to it that it is told soon."""
        with self._lock:
            if self._stopped:
                return
            if path is None or len(self._paths) >= FOLDER_DIRTY_PATHS_MAX:
                self._rescan = True
                self._paths.clear()
            elif not self._rescan and not any(path[:depth] in self._paths for depth in range(1, len(path))):
                self._paths.add(path)
            if self._armed:
                return
            self._armed = True
        try:
            self._loop.call_soon_threadsafe(self._loop.call_later, FOLDER_WATCH_DELAY_S, self._deliver)
        except RuntimeError:  # the loop is closed: nobody is left to be told
            self._stopped = True

    def _deliver(self) -> None:
        with self._lock:
            dirty = Dirty(frozenset(self._paths), self._rescan)
            self._paths, self._rescan, self._armed = set(), False, False
            if self._stopped:
                return
        self._tell(dirty)


class _Inotify(InotifyFD):
    """watchdog's reader of inotify, which also says when events were lost or a directory cannot be watched."""

    def __init__(self, overflowed: Callable[[], None], ran_out: Callable[[], None]) -> None:
        super().__init__()
        self._overflowed, self._ran_out = overflowed, ran_out

    def handle_event(self, event: InotifyEvent) -> None:
        super().handle_event(event)
        if event.is_queue_overflow:  # after watchdog has rebuilt its watches, so that the rescan sees what they missed
            self._overflowed()

    def add_callback(self, path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId) -> WatchDescriptor:
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        try:
            return super().add_callback(path, mask, callback, id_)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EMFILE, errno.ENOMEM):
                self._ran_out()
            raise
