"""Making an invitation: a ticket, the entry in the membership chain that lets its bearer in, and a short code."""

from __future__ import annotations

import asyncio
import contextlib

from meshsync.agent.addresses import own_addresses
from meshsync.agent.code_slots import SlotKeeper, reserve
from meshsync.agent.codes import ToldCode
from meshsync.agent.conversation import RelayConversation
from meshsync.agent.daemon import Agent
from meshsync.agent.folder import Folder
from meshsync.agent.relay_client import RelayClient
from meshsync.content.code import discovery_key
from meshsync.content.ticket import SECRET_SIZE_BYTES, Ticket, make_ticket
from meshsync.crypto.envelope import box
from meshsync.crypto.folder_keys import pack_bundle
from meshsync.errors import RoleForbids
from meshsync.limits import ADDRESSES_MAX, CODE_NUMBER_TRIES, EXPIRES_S_MAX, SHARE_RELAY_LOOK_S, SHARE_RELAY_S
from meshsync.metalog.membership_entry import Invite
from meshsync.roles import Role


async def make_invitation(agent: Agent, folder: Folder, role: Role, expires_s: float) -> Ticket:
    """Write an invite into the folder's membership chain and return its ticket.

    Raises RoleForbids if this device is no owner.
    """
    if agent.keys.device not in folder.replica.membership.owners():
        raise RoleForbids("only an owner may invite", folder=folder.name, next_step=f"meshsync members {folder.name}")
    expires = agent.runtime.wall_time_ns() // 10**9 + int(min(expires_s, EXPIRES_S_MAX))
    relays = tuple(address for texts in folder.replica.membership.relays.values() for address in texts)
    ticket = make_ticket(
        folder.id,
        agent.keys.device,
        secret=agent.runtime.random_bytes(SECRET_SIZE_BYTES),
        role=role,
        expires_s=expires,
        addresses=own_addresses(agent.endpoint.port, agent.options.listen)[:ADDRESSES_MAX],
        relays=relays[:ADDRESSES_MAX],
        is_file=folder.handout is not None,
    )
    keys = folder.keys()
    sealed = b""
    if role.may_read:
        sealed = box(ticket.keys.box_public, agent.runtime.random_bytes(32), pack_bundle(keys))
    await folder.replica.change_membership(Invite(ticket.keys.device, role, expires, keys.current, sealed))
    agent.refresh()
    return ticket


async def reach_relays(agent: Agent, folder: Folder) -> None:
    """Return when every linked relay of the folder has its membership chain or refuses it, or after SHARE_RELAY_S.

    From then on the invitation works there while this device is off.
    """
    deadline = agent.runtime.monotonic() + SHARE_RELAY_S
    while agent.runtime.monotonic() < deadline:
        relays = [relay for relay in folder.replica.membership.relays if relay in agent.relays]
        linked = [relay for relay in relays if agent.relays[relay].link is not None and relay not in folder.problems]
        if not any(folder.relay_rows.unseen_membership(relay) for relay in linked):
            return
        await agent.runtime.sleep(SHARE_RELAY_LOOK_S)


async def tell_code(agent: Agent, ticket: Ticket) -> ToldCode:
    """Open a short code for a ticket, and let whoever knows it find this device: on the network, and at its relays.

    Its number is none that another device on the network uses now, as far as this one has heard, or at a linked relay.
    """
    number, opened = await _free_number(agent)
    life_s = ticket.expires_s - agent.runtime.wall_time_ns() // 10**9
    told = agent.codes.tell(ticket, number, life_s)
    agent.keep_running(_hold(agent, told, opened), "code")
    agent.refresh()
    return told


async def _free_number(agent: Agent) -> tuple[int, dict[RelayClient, RelayConversation]]:
    """Return a number that is free here when this returns, and its slots at relays that were asked."""
    for _ in range(CODE_NUMBER_TRIES):
        number = agent.codes.free_number(lambda number: agent.dialer.announces(discovery_key(number)))
        opened = await reserve(agent.relays.values(), number)
        if opened is not None and agent.codes.find(number) is None:  # another `share` may have taken it meanwhile
            return number, opened
        for conversation in (opened or {}).values():
            conversation.reset()
    return agent.codes.free_number(lambda number: False), {}


async def _hold(agent: Agent, told: ToldCode, opened: dict[RelayClient, RelayConversation]) -> None:
    """Keep a code's slots until it ends, and then let nobody be led here any more."""
    keepers: list[tuple[SlotKeeper, asyncio.Task[None]]] = []
    for client in list(agent.relays.values()):
        keeper = SlotKeeper(agent.runtime, agent.codes, told, client, agent.serve_code)
        keepers.append((keeper, agent.keep_running(keeper.run(opened.get(client)), "slot of a code")))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, told.closes_s - agent.runtime.monotonic())):
            await told.ended.wait()
    for keeper, task in keepers:
        if not keeper.serving:
            task.cancel()
    agent.note_change()
