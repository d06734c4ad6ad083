"""One stream of a device: attach to a folder, then requests, one at a time; or a slot to another device.

Invariant: each request is answered by the membership as it is then; a device removed meanwhile gets nothing more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

from meshsync.errors import LinkClosed, MalformedMessage, MeshsyncError, PeerError, PeerTimeout
from meshsync.ids import DeviceId, FolderId
from meshsync.limits import RECORDS_PAGE_BYTES_MAX, RECORDS_PAGE_ITEMS_MAX
from meshsync.metalog.head import head_hash
from meshsync.metalog.record_log import GENESIS_HEAD, LogRecord, RecordKind
from meshsync.wire.relay_messages import (
    Append,
    Attach,
    Attached,
    BlobsLost,
    Code,
    CreateFolder,
    EnterSlot,
    Fetch,
    Follow,
    ListFolders,
    LogGrew,
    MembershipPage,
    MembershipRecord,
    Message,
    Offer,
    OpenSlot,
    Page,
    Read,
    ReadMembership,
    Refused,
    refused,
)
from relay.access import Right, proves_ticket, right_of
from relay.append import append, create
from relay.blob_exchange import give, take_offer
from relay.core import RelayCore
from relay.drivers.base import HintStream
from relay.enrolled import list_folders
from relay.messages import MessageStream
from relay.records import code_of
from relay.sequencer import FolderView
from relay.slots import serve_slot

Serve: TypeAlias = Callable[[Message], Awaitable[Message | None]]

_UNKNOWN = "this relay does not know this folder or this device in it"


class Conversation:
    """Serves one stream for `device`, whose link comes from the host `source`."""

    def __init__(self, core: RelayCore, device: DeviceId, stream: MessageStream, source: str) -> None:
        self._core, self._device, self._stream, self._source = core, device, stream, source
        self._attach: Attach | None = None
        self._folder = FolderId(b"")

    async def run(self) -> None:
        """Serve until the device ends the stream.

        Raises PeerError if the device broke the protocol, LinkClosed or PeerTimeout if it is gone.
        """
        request = await self._stream.next_request()
        if isinstance(request, OpenSlot | EnterSlot):
            await serve_slot(self._core.slots, self._device, self._source, self._stream, request)
            return
        if isinstance(request, ListFolders):
            await self._answered(partial(list_folders, self._core, self._device), request)
            return
        if request is None or not await self._answered(self._begin, request):
            return
        while (request := await self._stream.next_request()) is not None:
            if isinstance(request, Follow):
                await self._follow(request)
                return
            await self._answered(self._serve, request)

    async def _answered(self, serve: Serve, request: Message) -> bool:
        """Serve `request` and send the answer; False if it was refused. Errors of ours are refusals to the device."""
        try:
            answer = await serve(request)
        except (PeerError, LinkClosed, PeerTimeout):
            raise
        except MeshsyncError as error:
            answer = refused(code_of(error), error.what)
        if answer is not None:
            await self._stream.send(answer)
        return not isinstance(answer, Refused)

    # --- the first message

    async def _begin(self, request: Message) -> Message:
        match request:
            case Attach():
                self._folder, self._attach = FolderId(request.folder), request
            case CreateFolder():
                created = await create(self._core, self._device, request.genesis, request.proof)
                if isinstance(created, Refused):
                    return created
                self._folder = created
            case _:
                raise MalformedMessage("a stream that does not begin with attach or create")
        view, right = await self._look()
        if view is None or right is Right.NONE:
            return refused(Code.UNKNOWN, _UNKNOWN)
        return Attached(self._core.signed_head(view, self._attach.shown if self._attach else b""))

    async def _look(self) -> tuple[FolderView | None, Right]:
        """Return the folder as it is now and what the device may do in it now."""
        view = await self._core.views.get(self._folder)
        if view is None:
            return None, Right.NONE
        right = right_of(view.membership, self._device)
        if right is Right.NONE and self._attach is not None and self._attach.ticket:
            proven = proves_ticket(
                view.membership, self._attach, self._core.keys.device, self._device, self._core.now_s()
            )
            right = Right.JOIN if proven else Right.NONE
        return view, right

    # --- requests

    async def _serve(self, request: Message) -> Message | None:
        view, right = await self._look()
        needed = _needed(request)
        if view is None or right is Right.NONE:
            return refused(Code.UNKNOWN, _UNKNOWN)
        if right < needed:
            return refused(Code.ROLE_FORBIDS, "this device may not ask this here")
        match request:
            case ReadMembership():
                return await self._membership_page(request)
            case Append():
                return await append(self._core, self._folder, self._device, right, request.records)
            case Read():
                return await self._page(request)
            case Offer():
                return await take_offer(self._core, self._folder, self._device, request, self._stream)
            case Fetch():
                await give(self._core, self._folder, request, self._stream)
                return None
            case _:
                raise MalformedMessage(f"a {type(request).__name__} is no request")

    async def _page(self, request: Read) -> Message:
        log = self._core.log
        rows = await log.read(self._folder, request.start, request.bytes_max, RECORDS_PAGE_ITEMS_MAX)
        reached = rows[-1].head if rows else GENESIS_HEAD
        if not rows and request.start > 1:  # the row before gives the head at which an empty page stands
            before = await log.read(self._folder, request.start - 1, 1, 1)
            reached = before[0].head if before else GENESIS_HEAD
        view = await self._core.views.get(self._folder)
        if view is None:
            return refused(Code.UNKNOWN, _UNKNOWN)
        records = tuple(LogRecord(row.kind, row.data) for row in rows)
        return Page(request.start, records, reached, self._core.signed_head(view, request.shown))

    async def _membership_page(self, request: ReadMembership) -> Message:
        rows = await self._core.log.read(
            self._folder, request.start, RECORDS_PAGE_BYTES_MAX, RECORDS_PAGE_ITEMS_MAX, [RecordKind.MEMBERSHIP]
        )
        more = bool(rows) and bool(
            await self._core.log.read(self._folder, rows[-1].index + 1, 1, 1, [RecordKind.MEMBERSHIP])
        )
        return MembershipPage(tuple(MembershipRecord(row.index, row.data) for row in rows), more)

    async def _follow(self, request: Follow) -> None:
        """Push heads and what is lost until the stream or the right ends. Each head names the one before, so a rollback
        convicts itself."""
        hints = self._core.hints.follow(self._folder)
        losses = self._core.losses
        losses.follow(self._folder, hints.wake)
        told, shown = request.index, request.shown
        told_losses = 0
        ending = self._core.runtime.spawn(self._until_end(hints), "relay follower")
        try:
            while True:
                view, right = await self._look()
                if view is None or right < Right.READ:
                    await self._stream.send(refused(Code.UNKNOWN, _UNKNOWN))
                    return
                if view.index > told:
                    head = self._core.signed_head(view, shown)
                    await self._stream.send(LogGrew(head))
                    told, shown = view.index, head_hash(head)
                lost, told_losses = losses.found_after(self._folder, told_losses)
                if lost:
                    await self._stream.send(BlobsLost(tuple(lost)))
                    continue
                if await hints.next() is None:
                    return
        finally:
            losses.unfollow(self._folder, hints.wake)
            hints.close()
            ending.cancel()

    async def _until_end(self, hints: HintStream) -> None:
        """Stop following when the device ends its stream, or says anything more on it."""
        with contextlib.suppress(MeshsyncError):
            await self._stream.next_request()
        hints.close()


def _needed(request: Message) -> Right:
    match request:
        case ReadMembership() | Append():
            return Right.JOIN
        case Offer():
            return Right.UPLOAD
        case _:
            return Right.READ
