"""Which invitations are open, and taking them back. Invariant: a revoked ticket and its code admit nobody any more."""

from __future__ import annotations

from meshsync.agent import api_schema as api
from meshsync.agent import status_report
from meshsync.agent.codes import End
from meshsync.agent.daemon import Agent
from meshsync.agent.folder import Folder
from meshsync.errors import NotFound
from meshsync.metalog.membership_entry import Invite, Revoke

_ROLES: dict[int, api.Role] = {1: "owner", 2: "writer", 3: "reader", 4: "backup"}


def open_invitations(agent: Agent, folder: Folder) -> list[api.Invitation]:
    """Return the invitations of one folder that still admit somebody, oldest first, whoever made them."""
    return [_described(agent, folder, invite) for invite in _open(agent, folder)]


async def revoke(agent: Agent, folder: Folder, name: str) -> list[str]:
    """Take back the invitation whose id begins with `name`, all of the folder if it is empty; return their ids.

    Raises NotFound if there is none or `name` is not clear, RoleForbids if this device is no owner.
    """
    found = [invite for invite in _open(agent, folder) if invite.ticket.hex().startswith(name.lower())]
    if not found or (name and len(found) > 1):
        what = "no open invitation has this id" if not found else "several invitations begin so"
        raise NotFound(what, folder=folder.name, next_step=f"meshsync invitations {folder.name}")
    for invite in found:
        await folder.replica.change_membership(Revoke(invite.ticket))
        if (told := agent.codes.of_ticket(invite.ticket)) is not None:
            agent.codes.close(told, End.WITHDRAWN)
    agent.refresh()
    return [invite.ticket.hex() for invite in found]


def _open(agent: Agent, folder: Folder) -> list[Invite]:
    invites = folder.replica.membership.invites.values()
    return [invite for invite in invites if agent.invitations.admits(folder.id, invite.ticket)]


def _described(agent: Agent, folder: Folder, invite: Invite) -> api.Invitation:
    told = agent.codes.of_ticket(invite.ticket)
    code: api.CodePhase = "none"
    if told is not None:
        code = "open" if agent.codes.is_open(told) else "tried in vain" if told.end is End.WRONG else "ended"
    return api.Invitation(
        id=invite.ticket.hex(),
        folder=folder.name,
        role=_ROLES[int(invite.role)],
        expires=status_report.time_text(invite.expires_s * 10**9),
        code=code,
    )
