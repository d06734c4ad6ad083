"""Acts on each change of a folder's members: cuts off who is gone, gives a new key where one is due, notes who came.

Invariant: from the moment that this device knows of a removal, the removed device is served nothing but the entry that
says so. Of several owners that can act only the one with the lowest id gives a new key unasked, so that they do not
compete.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from meshsync.agent.folder import Folder
from meshsync.agent.link_table import LinkTable
from meshsync.agent.members_keys import make_due_rekey
from meshsync.agent.members_notes import MemberNotes
from meshsync.errors import MeshsyncError, ResourceError
from meshsync.ids import DeviceId, FolderId
from meshsync.limits import FAREWELL_S
from meshsync.metalog.membership_entry import Rekey
from meshsync.metalog.membership_history import Told
from meshsync.runtime import Runtime
from meshsync.transport.base import Link

log = logging.getLogger(__name__)


class MembersWatch:
    """Belongs to one loop. `knows(device)`: whether it is a member of some folder here."""

    def __init__(
        self,
        runtime: Runtime,
        own: DeviceId,
        links: LinkTable,
        knows: Callable[[DeviceId], bool],
        keep_running: Callable[[Coroutine[Any, Any, None], str], object],
    ) -> None:
        self._runtime = runtime
        self._own = own
        self._links = links
        self._knows = knows
        self._keep_running = keep_running
        self._notes: dict[FolderId, MemberNotes] = {}

    def notes(self, folder: Folder) -> MemberNotes:
        """Return the notes of a folder."""
        if folder.id not in self._notes:
            self._notes[folder.id] = MemberNotes(folder.database)
        return self._notes[folder.id]

    def forget(self, folder: Folder) -> None:
        """The folder is closed."""
        self._notes.pop(folder.id, None)

    async def changed(self, folder: Folder) -> None:
        """The membership of `folder` is another than before, or the folder was opened."""
        told = folder.told
        now_ns = self._runtime.wall_time_ns()
        members = list(folder.replica.membership.members)
        await self._runtime.in_thread(self.notes(folder).note_members, members, list(told.departures), now_ns)
        await self.note_seen(folder)
        # Newcomers that pair are no members yet; these were, or this device is none any more.
        for device in told.names:
            link = self._links.get(device)
            if link is not None and not self._knows(device):
                self._keep_running(self._cut(link), "cut off")
        await self._rekey(folder, told)

    async def note_seen(self, folder: Folder) -> None:
        """Remember that the members of `folder` that are linked now were seen now, if the index takes that."""
        linked = [member.link.peer for member in self._links.all()]
        known = [device for device in linked if folder.knows(device)]
        try:
            await self._runtime.in_thread(self.notes(folder).note_seen, known, self._runtime.wall_time_ns())
        except ResourceError as error:  # it is only shown: nothing else may wait for it, nor fail
            log.warning("when members of %s were seen is not remembered: %s", folder.name, error)

    async def _cut(self, link: Link) -> None:
        """End the link of a device that is gone, once it could read why."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await link.wait_closed()
        if not self._knows(link.peer):
            link.close("this device is no member any more")

    async def _rekey(self, folder: Folder, told: Told) -> None:
        """Whoever left by itself holds the key still."""
        replica = folder.replica
        if not told.key_is_due or replica.membership.acting_owners()[:1] != [self._own]:
            return

        def build() -> Rekey | None:
            due = replica.membership.acting_owners()[:1] == [self._own]
            return make_due_rekey(replica, self._runtime) if due else None

        try:
            await replica.propose(build)
        except MeshsyncError as error:  # asked for again at the next change
            log.warning("a new key is due and cannot be given: %s", error)
