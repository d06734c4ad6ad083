"""Making an invitation: a ticket, and the entry in the membership chain that lets its bearer in."""

from __future__ import annotations

from meshsync.agent.addresses import own_addresses
from meshsync.agent.daemon import Agent
from meshsync.agent.folder import Folder
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
