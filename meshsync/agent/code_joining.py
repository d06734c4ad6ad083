"""Finding the device that told a code, and getting its ticket for the words.

Invariant: a device that does not know the words learns that somebody holds a code with this number, and nothing else;
at most CODE_TRIES_MAX devices get to test one guess each; whatever the outcome, nothing is left waiting.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

from meshsync.agent.code_talk import DirectTalk, SlotTalk, Talk, heard
from meshsync.agent.conversation import Conversation, RelayConversation
from meshsync.agent.daemon import Agent
from meshsync.agent.relay_client import RelayClient
from meshsync.content.code import NEXT_STEP, Code, discovery_key
from meshsync.content.ticket import Ticket, parse_ticket
from meshsync.crypto.pake import SCALAR_SIZE_BYTES
from meshsync.errors import (
    AccessError,
    CodeInvalid,
    ConfigError,
    LinkClosed,
    MeshsyncError,
    PeerTimeout,
    SourceUnavailable,
)
from meshsync.ids import DeviceId, short
from meshsync.limits import (
    CODE_ANSWER_S,
    CODE_CANDIDATES_MAX,
    CODE_FIND_S,
    CODE_LAN_FIRST_S,
    CODE_MORE_S,
    CODE_SLOT_PAUSE_S,
    CODE_TRIES_MAX,
    DIAL_PAUSE_S,
    DIAL_TIMEOUT_S,
)
from meshsync.transport.base import Link, Priority
from meshsync.wire.code_exchange import NONCE_SIZE_BYTES, NewcomerRun
from meshsync.wire.peer_messages import CodeOffer, CodeTicket
from meshsync.wire.relay_messages import EnterSlot, SlotEntered

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What a code was exchanged for, and the relay through which, if through any."""

    ticket: Ticket
    relay: DeviceId | None = None


async def exchange_code(agent: Agent, code: Code, address: str = "") -> Exchanged:
    """Return the ticket that `code` stands for; look on the LAN and at every relay, or only at `address` if given.

    Raises CodeInvalid if it is wrong, used or expired, SourceUnavailable if nobody who told it is found, ConfigError
    for a bad address.
    """
    search = _Search(agent, code)
    try:
        async with asyncio.timeout(CODE_FIND_S):
            return await search.run(address)
    except TimeoutError:
        raise search.failure or SourceUnavailable(
            f"no device that waits for code {code.number} was found",
            next_step="Ask whether the code is still open and both devices are on one network or relay; "
            "or use: meshsync join CODE --address HOST:PORT, or the ticket",
        ) from None
    finally:
        await search.close()


class _Search:
    """One search. Candidates come from several sources and are tried as they come."""

    def __init__(self, agent: Agent, code: Code) -> None:
        self.failure: MeshsyncError | None = None
        self._agent = agent
        self._code = code
        self._found: asyncio.Future[Exchanged] = asyncio.get_running_loop().create_future()
        self._tasks: list[asyncio.Task[None]] = []
        self._asked: set[DeviceId] = set()
        self._tries = 0

    async def run(self, address: str) -> Exchanged:
        """Return what was found; never without a candidate that knows the words."""
        if address:
            self._spawn(self._try_address(address), "dial the address of a code")
        else:
            self._look_around()
        return await self._found

    async def close(self) -> None:
        """End every attempt."""
        key = discovery_key(self._code.number)
        self._agent.seeking.pop(key, None)
        self._agent.dialer.forget(key)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._found.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.append(self._agent.runtime.spawn(work, name))

    # --- where to look ------------------------------------------------------------------------------------

    def _look_around(self) -> None:
        """Ask every device that is linked now or gets linked; dial those that announce the number."""
        self._agent.seeking[discovery_key(self._code.number)] = self._try_link
        for member in self._agent.links.all():
            self._try_link(member.link)
        self._agent.dialer.refresh()
        for client in self._agent.relays.values():
            self._spawn(self._at_relay(client), f"code at {client.address.host}")

    async def _at_relay(self, client: RelayClient) -> None:
        """Look into the slot again and again: this device or the other may get linked to the relay meanwhile."""
        if self._agent.looks_around:
            await self._agent.runtime.sleep(CODE_LAN_FIRST_S)
        while True:
            if (link := client.link) is not None:
                await self._try(partial(self._through_slot, link))
            await self._agent.runtime.sleep(CODE_SLOT_PAUSE_S)

    async def _try_address(self, address: str) -> None:
        key = discovery_key(self._code.number)
        while True:
            try:
                link = await self._agent.endpoint.dial(
                    address, expect=None, discovery_key=key, timeout_s=DIAL_TIMEOUT_S
                )
                break
            except ConfigError as error:
                self._give_up(error)
                return
            except AccessError as error:
                log.info("%s: %s", address, error)
                self._give_up(_refused())
                return
            except MeshsyncError as error:
                log.info("%s: %s", address, error)
            await self._agent.runtime.sleep(DIAL_PAUSE_S)
        self._agent.adopt(link)
        self._try_link(link)

    def _try_link(self, link: Link) -> None:
        if link.peer in self._asked or len(self._asked) >= CODE_CANDIDATES_MAX:
            return
        self._asked.add(link.peer)
        self._spawn(self._try(partial(self._over_link, link)), f"code {short(link.peer)}")

    async def _over_link(self, link: Link) -> Exchanged | None:
        try:
            conversation = Conversation(await link.open_stream(Priority.INTERACTIVE))
            try:
                ticket = await self._exchange(DirectTalk(link, conversation))
            finally:
                conversation.reset()
        except LinkClosed:
            kept = self._agent.links.get(link.peer)
            if kept is not None and kept is not link:  # it took this one's place while this one was asked
                self._asked.discard(link.peer)
                self._try_link(kept)
            raise
        return Exchanged(ticket) if ticket is not None else None

    async def _through_slot(self, link: Link) -> Exchanged | None:
        conversation = RelayConversation(await link.open_stream(Priority.INTERACTIVE))
        try:
            async with asyncio.timeout(CODE_ANSWER_S):
                await conversation.send(EnterSlot(self._code.number))
                answer = await conversation.receive()
            if not isinstance(answer, SlotEntered):
                return None
            ticket = await self._exchange(SlotTalk(link.peer, conversation))
        except TimeoutError as error:
            raise PeerTimeout("the relay does not answer") from error
        finally:
            conversation.reset()
        return Exchanged(ticket, link.peer) if ticket is not None else None

    # --- one candidate ------------------------------------------------------------------------------------

    async def _try(self, exchange: Callable[[], Awaitable[Exchanged | None]]) -> None:
        """Ask one candidate. One that knows the words ends the search, another ends it soon, without a code at once."""
        try:
            exchanged = await exchange()
        except AccessError as error:
            self._fail(error)
        except MeshsyncError as error:
            log.info("asking for a code: %s", error)
        else:
            if exchanged is not None and not self._found.done():
                self._found.set_result(exchanged)

    async def _exchange(self, talk: Talk) -> Ticket | None:
        """Return the ticket, None if the other side has no such code. Raises CodeInvalid, PeerError, TransientError."""
        runtime, code = self._agent.runtime, self._code
        nonce, scalar = runtime.random_bytes(NONCE_SIZE_BYTES), runtime.random_bytes(SCALAR_SIZE_BYTES)
        run = NewcomerRun(self._agent.keys, code.number, code.password, talk.channel, nonce, scalar)
        await talk.send(run.ask())
        offer = await heard(talk, CodeOffer)
        if offer is None:
            return None
        answer = run.answer(offer)
        if self._tries >= CODE_TRIES_MAX:
            raise _refused()
        self._tries += 1
        await talk.send(answer)
        sealed = await heard(talk, CodeTicket)
        if sealed is None:
            raise _refused()
        inviter, text = run.open(sealed)
        ticket = parse_ticket(text)
        if ticket.inviter != inviter:
            raise CodeInvalid("the ticket behind the code is another device's", device=short(inviter))
        return ticket

    def _fail(self, error: AccessError) -> None:
        """A candidate did not know the words, or these are wrong: others get a moment, then that is the answer."""
        if self.failure is None:
            self.failure = error
            self._spawn(self._end_soon(), "end of a code")

    async def _end_soon(self) -> None:
        await self._agent.runtime.sleep(CODE_MORE_S)
        assert self.failure is not None
        self._give_up(self.failure)

    def _give_up(self, error: MeshsyncError) -> None:
        if not self._found.done():
            self._found.set_exception(error)


def _refused() -> CodeInvalid:
    return CodeInvalid("the code is wrong, was used already, or has expired", next_step=NEXT_STEP)
