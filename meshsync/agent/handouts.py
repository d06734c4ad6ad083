"""The handouts of this device: keeps each that is given following its file, and each that was taken where it belongs.

Invariant: one task for each handout, for as long as its folder is open; what one of them cannot do delays no other.
What is over and known to whom it concerns is forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Protocol

from meshsync.agent.changes import Changes
from meshsync.agent.ending import end, holders
from meshsync.agent.folder import Folder
from meshsync.agent.giving import follow
from meshsync.agent.handout import Given, Taken
from meshsync.agent.taking import There, look, take
from meshsync.errors import ConfigError, MeshsyncError
from meshsync.ids import DeviceId, FolderId
from meshsync.limits import FAREWELL_S, HANDOUT_LOOK_S, HANDOUT_PAUSE_S, HANDOUTS_MAX, RETRY_BLOCKED_S
from meshsync.runtime import Runtime

log = logging.getLogger(__name__)


class _Agent(Protocol):
    @property
    def runtime(self) -> Runtime:
        """The clock and the threads."""

    @property
    def folders(self) -> dict[FolderId, Folder]:
        """The open folders, handouts among them."""

    @property
    def changes(self) -> Changes:
        """Everything that a user could see."""

    def note_change(self) -> None:
        """Something that a user could see has changed."""

    async def close_folder(self, folder: Folder) -> None:
        """Stop syncing a folder."""


class Handouts:
    """Belongs to one loop. `admits(folder, ticket)`: whether a ticket still lets somebody in."""

    def __init__(self, agent: _Agent, admits: Callable[[FolderId, DeviceId], bool]) -> None:
        self.problems: dict[FolderId, MeshsyncError] = {}
        self.there: dict[FolderId, There] = {}  # of those taken, as last looked at
        self.busy: set[FolderId] = set()  # somebody is making or ending them and needs them open
        self._over_s: dict[FolderId, float] = {}  # since when, of those that wait to be forgotten
        self._agent = agent
        self._admits = admits
        self._tasks: dict[FolderId, asyncio.Task[None]] = {}

    def opened(self, folder: Folder) -> None:
        """A folder was opened; if it is a handout, begin to work on it."""
        if folder.handout is not None:
            self._tasks[folder.id] = self._agent.runtime.spawn(self._run(folder), f"handout {folder.name}")

    def closing(self, folder: Folder) -> None:
        """A folder is about to be closed. Again does nothing."""
        task = self._tasks.pop(folder.id, None)
        if task is not None and task is not asyncio.current_task():
            task.cancel()
        self.problems.pop(folder.id, None)
        self._over_s.pop(folder.id, None)
        self.there.pop(folder.id, None)

    async def close(self) -> None:
        """End all work."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def all(self) -> list[Folder]:
        """Return the open handouts, given and taken."""
        return [folder for folder in self._agent.folders.values() if folder.handout is not None]

    def check_room(self) -> None:
        """Raise ConfigError if no further handout may be made or taken."""
        if len(self.all()) >= HANDOUTS_MAX:
            what = f"{HANDOUTS_MAX} single files are shared from and to this device already"
            raise ConfigError(what, next_step="End some that are not needed: meshsync revoke FILE, or leave FILE")

    @contextlib.contextmanager
    def kept_open(self, folder: Folder) -> Iterator[None]:
        """Leave a folder open until whoever works on it is done, even if it is over meanwhile."""
        self.busy.add(folder.id)
        try:
            yield
        finally:
            self.busy.discard(folder.id)
            self._agent.note_change()

    def is_over(self, folder: Folder) -> bool:
        """Whether nobody has the handout, and nobody can get it any more."""
        if not isinstance(folder.handout, Given):
            return False
        open_ones = [
            ticket for ticket in folder.replica.membership.invites if self._admits(folder.id, DeviceId(ticket))
        ]
        return not holders(folder) and not folder.parted and not open_ones

    def may_forget(self, folder: Folder) -> bool:
        """Whether it is over, and who had it was told or can learn of it without this device: at every relay.

        A relay may have let somebody in while this device was off: until each was read, nothing is over.
        """
        relays = folder.replica.membership.relays
        is_read = all(relay in folder.linked_relays and folder.reader(relay).was_read for relay in relays)
        if not self.is_over(folder) or folder.id in self.busy or not is_read:
            self._over_s.pop(folder.id, None)
            return False
        if not folder.told.departures:
            return True
        now_s = self._agent.runtime.monotonic()
        if now_s - self._over_s.setdefault(folder.id, now_s) < FAREWELL_S:  # who is linked is told within it
            return False
        return bool(relays) and not any(folder.relay_rows.unseen_membership(relay) for relay in relays)

    async def _run(self, folder: Folder) -> None:
        while folder.id in self._tasks:
            count, pause = self._agent.changes.count, HANDOUT_LOOK_S
            try:
                work = self._give if isinstance(folder.handout, Given) else self._take
                if await work(folder):
                    self._agent.note_change()
                failed: MeshsyncError | None = None
            except MeshsyncError as error:
                failed, pause = error, RETRY_BLOCKED_S
            self._note_problem(folder, failed)
            if failed is not None:
                await self._agent.runtime.sleep(pause)
                continue
            await self._agent.runtime.sleep(HANDOUT_PAUSE_S)
            pause = FAREWELL_S if folder.id in self._over_s else pause
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._agent.changes.after(count)

    def _note_problem(self, folder: Folder, failed: MeshsyncError | None) -> None:
        before = self.problems.get(folder.id)
        if failed is not None:
            self.problems[folder.id] = failed
        else:
            self.problems.pop(folder.id, None)
        if (before is None) != (failed is None) or str(before) != str(failed):
            if failed is not None:
                log.warning("handout %s: %s", folder.name, failed)
            self._agent.note_change()

    async def _give(self, folder: Folder) -> bool:
        given = folder.handout
        assert isinstance(given, Given)
        if self.may_forget(folder):
            await self.forget(folder)
            return True
        if folder.id in self.busy:
            return False
        if given.ended:
            await end(self._agent.runtime, folder)
            return False
        source = self._agent.folders.get(given.folder) if given.follows else None
        if source is None or source.parted:
            return False
        return await follow(self._agent.runtime, folder, source)

    async def _take(self, folder: Folder) -> bool:
        runtime = self._agent.runtime
        done = await take(runtime, folder)
        taken = folder.handout
        assert isinstance(taken, Taken)
        there = await runtime.in_thread(look, taken)
        if folder.id in self._tasks and self.there.get(folder.id) is not there:
            self.there[folder.id], done = there, True
        return done

    async def forget(self, folder: Folder) -> None:
        """Close a handout and remove its copy and its keys from this device. Files of users stay where they are."""
        if folder.id in self._agent.folders:
            self.closing(folder)
            await self._agent.close_folder(folder)
            await self._agent.runtime.in_thread(folder.home.remove)
