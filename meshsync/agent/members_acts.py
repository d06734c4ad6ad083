"""What an owner, or a member for itself, does to who belongs to a folder: roles, removal, leaving, the end of sharing.

Invariant: each is one signed entry of the membership chain, durable here before it is told; what is asked and not
allowed changes nothing. What a device that is gone had, it keeps.
"""

from __future__ import annotations

from collections.abc import Callable

from meshsync.agent import api_schema as api
from meshsync.agent import members_report as report
from meshsync.agent.daemon import Agent
from meshsync.agent.folder import Folder
from meshsync.agent.members_keys import make_due_rekey, make_removal, make_role, pins_of
from meshsync.agent.members_names import named
from meshsync.errors import ConfigError, RoleForbids
from meshsync.ids import DeviceId
from meshsync.limits import LEAVE_LOOK_S, LEAVE_TELL_S
from meshsync.metalog.membership_entry import Remove, Revoke
from meshsync.roles import Role

_ROLE = {name: role for role, name in report.ROLES.items()}


def require_owner(agent: Agent, folder: Folder) -> None:
    """Raise RoleForbids unless this device owns the folder."""
    if agent.keys.device not in folder.replica.membership.owners():
        raise RoleForbids(
            "only an owner may do this",
            device=agent.options.name,
            folder=folder.name,
            next_step=f"Ask an owner: meshsync members {folder.name}",
        )


async def change_role(agent: Agent, folder: Folder, request: api.RoleRequest) -> api.RoleResult:
    """Give a member another role. Raises RoleForbids (no owner, or the last one lowered), NotFound, ConfigError."""
    require_owner(agent, folder)
    replica = folder.replica
    device = report.find_device(folder, request.device, list(replica.membership.members))
    role = _ROLE[request.role]
    before = replica.membership.members[device].role
    if Role.BACKUP in (role, before) and role is not before:
        raise ConfigError(
            "a device cannot become a backup, or stop to be one, without joining anew",
            device=request.device,
            folder=folder.name,
            next_step=f"meshsync remove {folder.name} {request.device}",
        )
    _keep_an_owner(folder, [device] if not role.may_own else [])
    entry = await replica.propose(lambda: make_role(replica, device, role))
    await replica.propose(lambda: make_due_rekey(replica, agent.runtime))
    waiting = await _relays_told(agent, folder) if entry is not None else []
    return api.RoleResult(
        folder=folder.id.hex(),
        member=report.member(agent, folder, device, role),
        before=report.ROLES[before],
        relays_waiting=waiting,
    )


async def remove(agent: Agent, folder: Folder, request: api.RemovalRequest) -> api.RemovalResult:
    """Remove a device, or every device of a person; return what they could have read.

    With `dry_run` nothing changes, and devices that are gone already may be asked about. Raises RoleForbids, NotFound,
    ConfigError (this device itself).
    """
    membership = folder.replica.membership
    among = [*membership.members, *(folder.told.departures if request.dry_run else ())]
    devices = report.find_devices(folder, request.who, among)
    if not request.dry_run:
        require_owner(agent, folder)
    if agent.keys.device in devices:
        raise ConfigError(
            "this is this device", device=request.who, folder=folder.name, next_step=f"meshsync leave {folder.name}"
        )
    _keep_an_owner(folder, devices)
    return await _end(agent, folder, devices, request.dry_run)


async def unshare(agent: Agent, folder: Folder, request: api.UnshareRequest) -> api.RemovalResult:
    """Remove every other device and withdraw every invitation; the folder and this device's recovery sheet stay.

    Raises RoleForbids.
    """
    require_owner(agent, folder)
    members = folder.replica.membership.members
    others = [device for device, one in members.items() if agent.keys.device not in (device, one.enrolled_by)]
    result = await _end(agent, folder, others, request.dry_run)
    if not request.dry_run:
        await _revoke(folder, lambda inviter: True)
    return result


async def leave(agent: Agent, folder: Folder) -> api.LeaveResult:
    """Stop being a member, tell the others, and forget the folder's keys; files stay.

    Raises RoleForbids if this is the last owner of a folder that others share; then nothing has changed.
    """
    replica = folder.replica
    own, membership = agent.keys.device, folder.replica.membership
    told = True
    # A recovery sheet is nobody who would go on with the folder; it can still bring it back.
    others = [device for device, one in membership.members.items() if device != own and not one.enrolled_by]
    if membership.is_member(own) and others:
        if membership.acting_owners() == [own]:
            raise RoleForbids(
                "the last owner cannot leave a folder that others share",
                device=agent.options.name,
                folder=folder.name,
                next_step=f"meshsync role {folder.name} DEVICE owner, or: meshsync unshare {folder.name}",
            )
        if membership.may_read(own):
            folder.leaving = True
            await replica.propose(lambda: Remove(own, pins_of(replica, own), None))
        told = membership.may_read(own) and await _until(agent, lambda: _somebody_knows(agent, folder))
    await agent.close_folder(folder)
    await agent.runtime.in_thread(folder.home.remove)
    return api.LeaveResult(told=told)


async def _end(agent: Agent, folder: Folder, devices: list[DeviceId], dry_run: bool) -> api.RemovalResult:
    replica = folder.replica
    roles = {device: replica.membership.role(device) or folder.told.departures[device].role for device in devices}
    gone = [report.member(agent, folder, device, role) for device, role in roles.items()]
    exposures = [await agent.runtime.in_thread(report.exposure, agent, folder, device) for device in devices]
    widest = max(exposures, key=lambda one: one.versions, default=api.Exposure())
    open_before = len(replica.membership.invites)
    waiting: list[str] = []
    if not dry_run:
        for device in devices:

            def build(device: DeviceId = device) -> Remove | None:
                return make_removal(replica, agent.runtime, device) if replica.membership.is_member(device) else None

            await replica.propose(build)
        await _revoke(folder, lambda inviter: inviter in devices)
        waiting = await _relays_told(agent, folder)
    return api.RemovalResult(
        folder=folder.id.hex(),
        removed=gone,
        dry_run=dry_run,
        exposure=widest,
        closed_invitations=open_before if dry_run else open_before - len(replica.membership.invites),
        relays_waiting=waiting,
    )


async def _revoke(folder: Folder, whose: Callable[[DeviceId], bool]) -> None:
    """Withdraw the open invitations of these inviters that the new key left open."""
    replica = folder.replica
    for ticket in list(replica.membership.invites):
        if not whose(folder.told.inviters[ticket]):
            continue

        def build(ticket: bytes = ticket) -> Revoke | None:
            return Revoke(DeviceId(ticket)) if ticket in replica.membership.invites else None

        await replica.propose(build)


def _keep_an_owner(folder: Folder, losing: list[DeviceId]) -> None:
    owners = folder.replica.membership.acting_owners()
    if losing and set(owners) <= set(losing):
        raise RoleForbids(
            "the last owner cannot be removed or lose its role",
            device=named(folder, owners[0]).name,
            folder=folder.name,
            next_step=f"meshsync role {folder.name} DEVICE owner",
        )


async def _relays_told(agent: Agent, folder: Folder) -> list[str]:
    """Give relays a moment to take the newest membership; return the addresses of those that have not yet."""
    await _until(agent, lambda: not _lacking(agent, folder, linked=True))
    return _lacking(agent, folder, linked=False)


def _lacking(agent: Agent, folder: Folder, linked: bool) -> list[str]:
    clients = [client for device in folder.replica.membership.relays if (client := agent.relays.get(device))]
    return [
        client.address.address
        for client in clients
        if (client.link is not None or not linked)
        and client.address.device is not None
        and folder.relay_rows.unseen_membership(client.address.device)
    ]


def _somebody_knows(agent: Agent, folder: Folder) -> bool:
    """Whether a relay or a member has the newest membership of this device."""
    head = folder.replica.membership.head
    if any(heads.membership_head == head for heads in folder.peers.values()):
        return True
    linked = [device for device in folder.replica.membership.relays if _is_linked(agent, device)]
    return any(not folder.relay_rows.unseen_membership(device) for device in linked)


def _is_linked(agent: Agent, relay: DeviceId) -> bool:
    client = agent.relays.get(relay)
    return client is not None and client.link is not None


async def _until(agent: Agent, reached: Callable[[], bool]) -> bool:
    """Return whether it is so within LEAVE_TELL_S. Looked at in turns: a relay's answer is written, not told."""
    deadline = agent.runtime.monotonic() + LEAVE_TELL_S
    while not reached():
        if agent.runtime.monotonic() >= deadline:
            return False
        await agent.runtime.sleep(LEAVE_LOOK_S)
    return True
