"""Brings a backup what a relay of the folder has: records in the relay's order, with the blobs that they list.

Invariant: nothing is believed because a relay says it: records are judged by the membership chain that is kept here as
if a member had brought them, blobs by their ids. Content that the relay does not give is left to members.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from meshsync.agent.backup_folder import BackupFolder
from meshsync.agent.conversation import RelayConversation
from meshsync.crypto.hashing import blob_id
from meshsync.errors import MalformedMessage, MeshsyncError
from meshsync.ids import BlobId, short
from meshsync.limits import DIAL_PAUSE_S, DIAL_PAUSE_S_MAX
from meshsync.runtime import Runtime
from meshsync.transport.base import Link, Priority
from meshsync.wire.relay_messages import (
    Absence,
    Attach,
    Attached,
    BlobAbsent,
    BlobFrame,
    BlobsLost,
    Fetch,
    Follow,
    LogGrew,
    Page,
    Read,
)

log = logging.getLogger(__name__)


class PullFromRelay:
    """One kept folder at one relay, over one link."""

    def __init__(self, runtime: Runtime, link: Link, folder: BackupFolder, name: str) -> None:
        self._runtime = runtime
        self._link = link
        self._folder = folder
        self._name = name
        self._next = 1  # the index of the relay's next record: all is read again after a link ended, and most is known

    async def run(self) -> None:
        """Read and follow until cancelled; what fails is tried again after a pause."""
        pause = DIAL_PAUSE_S
        while True:
            try:
                await self._pull()
                pause = DIAL_PAUSE_S
                continue
            except MeshsyncError as error:
                log.info("%s, backup %s: %s", self._name, short(self._folder.id), error)
            await self._runtime.sleep(pause * (0.5 + self._runtime.random()))
            pause = min(pause * 2, DIAL_PAUSE_S_MAX)

    async def _pull(self) -> None:
        """Read all that there is, then wait for more. Raises MeshsyncError."""
        conversation = await self._attached(Priority.BULK)
        try:
            while True:
                await conversation.send(Read(self._next))
                page = await conversation.expect(Page)
                if page.start != self._next:
                    raise MalformedMessage("the relay sent another page than it was asked for")
                if not page.records:
                    break
                await self._folder.copy(page.records, self._fetch)
                self._next += len(page.records)
            await conversation.send(Follow(self._next - 1))
            while await conversation.look() == BlobsLost.TYPE:  # members bring it, and it is copied from then on
                await conversation.expect(BlobsLost)
            await conversation.expect(LogGrew)
        finally:
            conversation.reset()

    async def _attached(self, priority: Priority) -> RelayConversation:
        conversation = RelayConversation(await self._link.open_stream(priority))
        await conversation.send(Attach(self._folder.id))
        await conversation.expect(Attached)
        return conversation

    async def _fetch(self, blobs: Sequence[BlobId]) -> list[tuple[BlobId, bytes]]:
        """Return those of `blobs`, at most WANT_ITEMS_MAX, that the relay gives now and that are what they should be.

        At least one is given or known not to be there. Raises MeshsyncError.
        """
        conversation = await self._attached(Priority.BULK)
        found: list[tuple[BlobId, bytes]] = []
        try:
            await conversation.send(Fetch(tuple(blobs)))
            for at, blob in enumerate(blobs):
                message = await conversation.receive()
                if isinstance(message, BlobFrame) and message.position == at:
                    if blob_id(message.data) == blob:
                        found.append((blob, message.data))
                elif isinstance(message, BlobAbsent) and message.position == at:
                    if message.reason == Absence.LATER:
                        break
                else:
                    raise MalformedMessage(f"{type(message).__name__} where the answer to blob {at} was due")
        finally:
            conversation.reset()
        return found
