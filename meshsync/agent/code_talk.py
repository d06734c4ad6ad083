"""What a code exchange is spoken over: a stream of a link to the other device, or a slot at a relay.

Invariant: whatever arrives is a well-formed message, or a PeerError; nothing is waited for without end.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, TypeVar

from meshsync.agent.conversation import Conversation, RelayConversation
from meshsync.errors import LinkClosed, MalformedMessage, PeerTimeout
from meshsync.ids import DeviceId
from meshsync.limits import CODE_ANSWER_S
from meshsync.transport.base import Link
from meshsync.wire.code_exchange import Channel, direct_channel, relayed_channel
from meshsync.wire.peer_messages import CodeRefused, Message, pack, unpack
from meshsync.wire.relay_messages import SlotData

M = TypeVar("M", bound=Message)


class Talk(Protocol):
    """One exchange with one device."""

    @property
    def channel(self) -> Channel:
        """What the exchange is bound to."""

    async def send(self, message: Message) -> None:
        """Send one message. Raises LinkClosed."""

    async def receive(self) -> Message | None:
        """Return the next message, None if there are no more. Raises PeerError, LinkClosed."""


class DirectTalk:
    """Over a stream of a link to the other device."""

    def __init__(self, link: Link, conversation: Conversation) -> None:
        self.channel = direct_channel(link.binding, link.peer)
        self._conversation = conversation

    async def send(self, message: Message) -> None:
        await self._conversation.send(message)

    async def receive(self) -> Message | None:
        return await self._conversation.receive()


class SlotTalk:
    """Through a slot at a relay, which has said that both devices are there."""

    def __init__(self, relay: DeviceId, conversation: RelayConversation) -> None:
        self.channel = relayed_channel(relay)
        self._conversation = conversation

    async def send(self, message: Message) -> None:
        kind, body = pack(message)
        await self._conversation.send(SlotData(bytes([kind]) + body))

    async def receive(self) -> Message | None:
        data = await self._conversation.receive()
        if data is None:
            return None
        if not isinstance(data, SlotData):
            raise MalformedMessage(f"{type(data).__name__} in a slot")
        return unpack(data.data[0], data.data[1:])


async def heard(talk: Talk, kind: type[M]) -> M | None:
    """Return the next message, which must be a `kind`, or None if the other side refuses.

    Raises PeerTimeout after CODE_ANSWER_S, MalformedMessage and other PeerErrors, LinkClosed.
    """
    try:
        async with asyncio.timeout(CODE_ANSWER_S):
            message = await talk.receive()
    except TimeoutError as error:
        raise PeerTimeout(f"the other side of a code did not answer within {CODE_ANSWER_S:g} s") from error
    if message is None:
        raise LinkClosed("the other side of a code broke off")
    if isinstance(message, CodeRefused):
        return None
    if not isinstance(message, kind):
        raise MalformedMessage(f"{type(message).__name__} where {kind.__name__} was due")
    return message
