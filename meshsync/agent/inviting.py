"""Making an invitation: a ticket, the entry in the membership chain that lets its bearer in, and a short code."""

from __future__ import annotations

from meshsync.agent.addresses import own_addresses
from meshsync.agent.codes import ToldCode
from meshsync.agent.daemon import Agent
from meshsync.agent.folder import Folder
from meshsync.content.code import discovery_key
from meshsync.content.ticket import SECRET_SIZE_BYTES, Ticket, make_ticket
from meshsync.crypto.envelope import box
from meshsync.crypto.folder_keys import pack_bundle
from meshsync.errors import RoleForbids
from meshsync.limits import ADDRESSES_MAX, EXPIRES_S_MAX
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
    )
    keys = folder.keys()
    sealed = b""
    if role.may_read:
        sealed = box(ticket.keys.box_public, agent.runtime.random_bytes(32), pack_bundle(keys))
    await folder.replica.change_membership(Invite(ticket.keys.device, role, expires, keys.current, sealed))
    agent.invitations.add(ticket)
    agent.refresh()
    return ticket


async def tell_code(agent: Agent, ticket: Ticket) -> ToldCode:
    """Open a short code for a ticket, and let whoever knows it find this device.

    Its number is none that another device on the network uses now, as far as this one has heard.
    """
    number = agent.codes.free_number(lambda number: agent.dialer.announces(discovery_key(number)))
    life_s = ticket.expires_s - agent.runtime.wall_time_ns() // 10**9
    told = agent.codes.tell(ticket, number, life_s)
    agent.runtime.spawn(_expire(agent, told), "code expires")
    agent.refresh()
    return told


async def _expire(agent: Agent, told: ToldCode) -> None:
    """Let nobody be led here once the code is closed."""
    await agent.runtime.sleep(max(0.0, told.closes_s - agent.runtime.monotonic()))
    agent.note_change()
