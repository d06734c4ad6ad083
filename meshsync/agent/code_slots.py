"""Keeps the slot of a told code open at relays, and serves whoever enters it.

Invariant: a slot is open only while its code is; a relay that refuses, lies or is gone costs that relay's way only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from meshsync.agent.code_talk import SlotTalk, heard
from meshsync.agent.codes import Codes, ToldCode
from meshsync.agent.conversation import RelayConversation
from meshsync.agent.relay_client import RelayClient
from meshsync.errors import MeshsyncError, TransientError
from meshsync.limits import CODE_ANSWER_S, DIAL_PAUSE_S, DIAL_PAUSE_S_MAX
from meshsync.runtime import Runtime
from meshsync.transport.base import Link, Priority
from meshsync.wire.peer_messages import CodeAsk
from meshsync.wire.relay_messages import Code, OpenSlot, Refused, SlotEntered, SlotOpened

log = logging.getLogger(__name__)

Serve = Callable[[SlotTalk, CodeAsk], Awaitable[None]]


async def open_slot(link: Link, number: int) -> RelayConversation | None:
    """Return the stream of a slot now open at the relay `link.peer`, None if the number is taken there.

    Raises TransientError or another MeshsyncError if no slot can be opened there now.
    """
    conversation = RelayConversation(await link.open_stream(Priority.INTERACTIVE))
    try:
        async with asyncio.timeout(CODE_ANSWER_S):
            await conversation.send(OpenSlot(number))
            answer = await conversation.receive()
    except TimeoutError:
        conversation.reset()
        raise TransientError("the relay does not answer") from None
    except BaseException:
        conversation.reset()
        raise
    if isinstance(answer, SlotOpened):
        return conversation
    conversation.reset()
    if isinstance(answer, Refused) and answer.code is Code.CONFLICT:
        return None
    raise TransientError("the relay opens no slot")


class SlotKeeper:
    """Holds one code's slot at one relay, for as long as `run` runs."""

    def __init__(self, runtime: Runtime, codes: Codes, told: ToldCode, client: RelayClient, serve: Serve) -> None:
        self.serving = False  # whether a newcomer is there, who is answered though the code has ended
        self._runtime, self._codes, self._told, self._client, self._serve = runtime, codes, told, client, serve

    async def run(self, opened: RelayConversation | None) -> None:
        """Serve the slot that is `opened` already, if it is, and open it again until the code has ended."""
        pause = DIAL_PAUSE_S
        while self._codes.is_open(self._told):
            link = self._client.link
            try:
                if opened is None and link is not None:
                    opened = await open_slot(link, self._told.code.number)
                    if opened is None:
                        log.info("relay %s: the slot of a code is another device's now", self._client.address.host)
                if opened is not None and link is not None:
                    await self._wait(SlotTalk(link.peer, opened), opened)
                    pause = DIAL_PAUSE_S
                    continue
            except MeshsyncError as error:
                log.info("relay %s: %s", self._client.address.host, error)
            finally:
                if opened is not None:
                    await _end(opened)
                opened = None
            await self._runtime.sleep(pause * (0.5 + self._runtime.random()))
            pause = min(pause * 2, DIAL_PAUSE_S_MAX)

    async def _wait(self, talk: SlotTalk, conversation: RelayConversation) -> None:
        """Serve one newcomer."""
        await conversation.expect(SlotEntered)
        self.serving = True
        try:
            ask = await heard(talk, CodeAsk)
            if ask is not None:
                await self._serve(talk, ask)
        finally:
            self.serving = False


async def _end(conversation: RelayConversation) -> None:
    """End a slot: what was sent still arrives."""
    try:
        await conversation.finish()
    except MeshsyncError:
        conversation.reset()


async def reserve(clients: Iterable[RelayClient], number: int) -> dict[RelayClient, RelayConversation] | None:
    """Open slot `number` at every relay that is linked and takes it; None if it is another device's at one of them."""
    opened: dict[RelayClient, RelayConversation] = {}
    for client in clients:
        if client.link is None:
            continue
        try:
            conversation = await open_slot(client.link, number)
        except MeshsyncError as error:
            log.info("relay %s: %s", client.address.host, error)
            continue
        if conversation is None:
            for other in opened.values():
                other.reset()
            return None
        opened[client] = conversation
    return opened
