"""Ending a handout: its holder is removed, its tickets are withdrawn, its key is changed.

Invariant: only the membership changes; asked for again until it is so, since the holder may have been let in at a relay
at the same moment.
"""

from __future__ import annotations

from meshsync.agent.folder import Folder
from meshsync.agent.members_keys import make_removal
from meshsync.ids import DeviceId
from meshsync.metalog.membership_entry import Remove, Revoke
from meshsync.roles import Role
from meshsync.runtime import Runtime


def holders(folder: Folder) -> list[DeviceId]:
    """Return the devices that were handed the file: owners, of which a recovery sheet may be one, share it."""
    membership = folder.replica.membership
    return [device for device, member in membership.members.items() if member.role is not Role.OWNER]


async def end(runtime: Runtime, folder: Folder) -> None:
    """Let nobody have the handout from now on, as far as this device knows. Raises RoleForbids, ResourceError."""
    replica = folder.replica
    for ticket in list(replica.membership.invites):

        def withdraw(ticket: bytes = ticket) -> Revoke | None:
            return Revoke(DeviceId(ticket)) if ticket in replica.membership.invites else None

        await replica.propose(withdraw)
    for device in holders(folder):

        def remove(device: DeviceId = device) -> Remove | None:
            return make_removal(replica, runtime, device) if replica.membership.is_member(device) else None

        await replica.propose(remove)
