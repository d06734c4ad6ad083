"""The log between two members: each side follows the other's heads and pulls what it lacks.

Invariant: entries and membership are pulled in bounded pages; a side that cannot make progress asks again only when the
other's heads change, so two devices that disagree never loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from meshsync.agent.changes import Changes
from meshsync.agent.conversation import Conversation
from meshsync.errors import MalformedMessage, RoleForbids
from meshsync.ids import FolderId, RecordId
from meshsync.limits import RECORDS_PAGE_BYTES_MAX, RECORDS_PAGE_ITEMS_MAX
from meshsync.metalog.fields import ChainHead
from meshsync.runtime import Runtime
from meshsync.wire.peer_messages import (
    EntriesPage,
    FollowLog,
    FollowRefused,
    GetEntries,
    GetMembership,
    Heads,
    MembershipPage,
)


class LogReplica(Protocol):
    """A folder's log on this device, as the exchange sees it."""

    folder: FolderId
    changes: Changes

    def heads(self) -> Heads:
        """Return what this side holds."""

    def has_membership(self, head: RecordId) -> bool:
        """Whether the membership chain here contains `head`."""

    def membership_page(self, start: int, bytes_max: int) -> list[bytes]:
        """Return membership entries from `start` on."""

    def lacks(self, heads: tuple[ChainHead, ...]) -> bool:
        """Whether any of `heads` is not delivered here."""

    def entries_for(self, heads: tuple[ChainHead, ...], bytes_max: int) -> tuple[list[bytes], bool]:
        """Return entries that a holder of `heads` lacks, in causal order, and whether there are more."""

    async def receive_membership(self, start: int, entries: tuple[bytes, ...]) -> bool:
        """Take membership entries; return whether anything changed."""

    async def receive_entries(self, entries: tuple[bytes, ...]) -> bool:
        """Take entries; return whether anything changed."""


class LogServer:
    """Answers one member that follows this side's log."""

    def __init__(
        self, runtime: Runtime, replica: LogReplica, farewell: Callable[[], Heads | None] = lambda: None
    ) -> None:
        """`farewell()` is None while the peer is a member; afterwards, all that it may still be told."""
        self._runtime = runtime
        self._replica = replica
        self._farewell = farewell

    async def serve(self, conversation: Conversation) -> None:
        """Push heads and answer requests until the peer finishes. Raises PeerError, LinkClosed."""
        pusher = self._runtime.spawn(self._push(conversation), "push heads")
        try:
            while (message := await conversation.receive()) is not None:
                farewell = self._farewell()
                if isinstance(message, GetMembership):
                    entries = self._replica.membership_page(message.start, RECORDS_PAGE_BYTES_MAX)
                    if farewell is not None:
                        entries = entries[: max(0, farewell.membership_count - message.start)]
                    await conversation.send(MembershipPage(message.start, tuple(entries[:RECORDS_PAGE_ITEMS_MAX])))
                elif farewell is not None:
                    await conversation.send(FollowRefused("this device is no member any more"))
                    return
                elif isinstance(message, GetEntries):
                    bytes_max = min(message.bytes_max, RECORDS_PAGE_BYTES_MAX)
                    page, more = await self._runtime.in_thread(self._replica.entries_for, message.chains, bytes_max)
                    await conversation.send(EntriesPage(tuple(page), more))
                else:
                    raise MalformedMessage(f"{type(message).__name__} on a log stream")
        finally:
            pusher.cancel()
            await asyncio.gather(pusher, return_exceptions=True)

    async def _push(self, conversation: Conversation) -> None:
        while True:
            count = self._replica.changes.count
            farewell = self._farewell()
            await conversation.send(farewell or self._replica.heads())
            if farewell is not None:
                return
            await self._replica.changes.after(count)


class LogPuller:
    """Follows one member's log. `on_heads` is told of each of the peer's heads."""

    def __init__(self, replica: LogReplica, on_heads: Callable[[Heads], None]) -> None:
        self._replica = replica
        self._on_heads = on_heads
        self._peer: Heads | None = None
        self._asked: str = ""
        self._stuck: set[str] = set()

    async def follow(self, conversation: Conversation) -> None:
        """Pull until the stream ends. Raises RoleForbids if the peer refuses, PeerError, LinkClosed."""
        await conversation.send(FollowLog(self._replica.folder))
        while (message := await conversation.receive()) is not None:
            if isinstance(message, Heads):
                self._peer = message
                self._stuck.clear()
                self._on_heads(message)
            elif isinstance(message, MembershipPage) and self._asked == "membership":
                self._asked = ""
                if not await self._replica.receive_membership(message.start, message.entries):
                    # Two chains that fork below the end of this one meet only when read from the beginning.
                    self._stuck.add("membership" if message.start == 0 else "membership end")
            elif isinstance(message, EntriesPage) and self._asked == "entries":
                self._asked = ""
                if not await self._replica.receive_entries(message.entries):
                    self._stuck.add("entries")
            elif isinstance(message, FollowRefused):
                raise RoleForbids(f"the device refuses to share its log: {message.reason}")
            else:
                raise MalformedMessage(f"{type(message).__name__} where none was asked for")
            await self._ask(conversation)

    async def _ask(self, conversation: Conversation) -> None:
        peer = self._peer
        if peer is None or self._asked:
            return
        if "membership" not in self._stuck and not self._replica.has_membership(RecordId(peer.membership_head)):
            self._asked = "membership"
            ours = self._replica.heads().membership_count
            from_end = ours < peer.membership_count and "membership end" not in self._stuck
            await conversation.send(GetMembership(ours if from_end else 0))
        elif "entries" not in self._stuck and self._replica.lacks(peer.chains):
            self._asked = "entries"
            await conversation.send(GetEntries(self._replica.heads().chains, RECORDS_PAGE_BYTES_MAX))
