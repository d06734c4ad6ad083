"""The members of a folder as users see them: who, whose, since when; who is gone; what a device could read.

Invariant: a device is named by its id, its name or its person's name; a name that means several devices is refused
where one is asked for.
"""

from __future__ import annotations

import os

from meshsync.agent import api_schema as api
from meshsync.agent.daemon import Agent
from meshsync.agent.folder import Folder
from meshsync.agent.history import unpack_content
from meshsync.agent.members_names import named
from meshsync.agent.status_report import time_text
from meshsync.codec.canonical import decode
from meshsync.content.record import Kind
from meshsync.crypto.safety_number import fingerprint, safety_number
from meshsync.errors import ConfigError, NotFound
from meshsync.ids import ChunkId, DeviceId, EpochId, dot_parts, short
from meshsync.limits import ENTRY_ENVELOPE_BYTES_MAX, VERSIONS_LISTED_MAX
from meshsync.metalog.entry import Envelope
from meshsync.metalog.membership_entry import Genesis, Rekey, Remove
from meshsync.roles import Role

ROLES: dict[Role, api.Role] = {Role.OWNER: "owner", Role.WRITER: "writer", Role.READER: "reader", Role.BACKUP: "backup"}
_ID_DIGITS_MIN = 8


def member(agent: Agent, folder: Folder, device: DeviceId, role: Role) -> api.Member:
    """Return one member."""
    who, notes = named(folder, device), agent.members.notes(folder)
    since = notes.since.get(device)
    link = agent.links.get(device)
    seen = max(notes.seen.get(device, 0), agent.links.seen_ns.get(device, 0))
    if link is not None or device == agent.keys.device:
        seen = agent.runtime.wall_time_ns()
    inviter = folder.told.invited_by.get(device)
    return api.Member(
        id=device.hex(),
        name=who.name,
        person=who.person,
        role=ROLES[role],
        since=time_text(since) if since else None,
        seen=time_text(seen) if seen else None,
        fingerprint=fingerprint(device),
        invited_by=named(folder, inviter).name if inviter is not None else "",
        self=device == agent.keys.device,
        kept_offline=device in folder.told.enrolled,
    )


def member_list(agent: Agent, folder: Folder) -> api.MemberList:
    """Return the members of one folder, devices of one person together, and those who are gone."""
    members = [member(agent, folder, device, one.role) for device, one in folder.replica.membership.members.items()]
    members.sort(key=lambda one: (one.person == "", one.person, one.name, one.id))
    gone_ns = agent.members.notes(folder).gone
    former = []
    for gone in sorted(folder.told.departures.values(), key=lambda gone: gone.seq):
        who = named(folder, gone.device)
        when = gone_ns.get(gone.device)
        former.append(
            api.FormerMember(
                id=gone.device.hex(),
                name=who.name,
                person=who.person,
                role=ROLES[gone.role],
                left=gone.left,
                by=named(folder, gone.by).name,
                when=time_text(when) if when else None,
            )
        )
    return api.MemberList(folder=folder.id.hex(), members=members, former=former)


def find_devices(folder: Folder, who: str, among: list[DeviceId]) -> list[DeviceId]:
    """Return the devices that `who` means: one by its id or name, or all of a person.

    Raises NotFound, and ConfigError if several devices have that name.
    """
    by_id = [device for device in among if len(who) >= _ID_DIGITS_MIN and device.hex().startswith(who.lower())]
    names = [named(folder, device) for device in among]
    found = by_id or [one.device for one in names if one.name == who]
    if len(found) > 1:
        ids = ", ".join(device.hex()[:10] for device in found)
        raise ConfigError(
            f"several devices are called so: {ids}", device=who, folder=folder.name, next_step="Name one by its id."
        )
    found = found or [one.device for one in names if one.person and one.person == who]
    if not found:
        next_step = f"meshsync members {folder.name}"
        raise NotFound("there is no such device or person", device=who, folder=folder.name, next_step=next_step)
    return found


def find_device(folder: Folder, who: str, among: list[DeviceId]) -> DeviceId:
    """Return the one device that `who` means. Raises NotFound, ConfigError."""
    found = find_devices(folder, who, among)
    if len(found) > 1:
        names = ", ".join(named(folder, device).name for device in found)
        raise ConfigError(f"this person has several devices: {names}", device=who, folder=folder.name)
    return found[0]


def verify(agent: Agent, folder: Folder, who: str) -> api.SafetyNumber:
    """Return the number to compare with another member. Raises NotFound, ConfigError."""
    device = find_device(folder, who, list(folder.replica.membership.members))
    if device == agent.keys.device:
        raise ConfigError("this is this device", device=who, next_step=f"meshsync members {folder.name}")
    one = named(folder, device)
    return api.SafetyNumber(
        folder=folder.id.hex(),
        device=device.hex(),
        name=one.name,
        person=one.person,
        number=safety_number(agent.keys.device, device),
        fingerprint=fingerprint(device),
        own_fingerprint=fingerprint(agent.keys.device),
    )


def exposure(agent: Agent, folder: Folder, device: DeviceId) -> api.Exposure:
    """Return which versions a device that is or was a member could have fetched, as far as the log here tells.

    These are all whose entry is sealed under a key that it held: one box opens the folder's whole past. What it did
    fetch nobody can know. Blocking.
    """
    gone = folder.told.departures.get(device)
    role = folder.replica.membership.role(device) if gone is None else gone.role
    if role is None or not role.may_read:
        return api.Exposure()
    epochs = None if gone is None else _epochs_before(folder, gone.seq)
    sealed_under = {} if epochs is None else _epochs_of_entries(folder)
    listed: list[api.ExposedVersion] = []
    contents: dict[ChunkId, int] = {}
    names = {DeviceId(one): named(folder, DeviceId(one)).name for one in folder.told.names}
    for row in folder.replica.versions.all(VERSIONS_LISTED_MAX):
        content = unpack_content(row.content)
        chain, seq, _ = dot_parts(row.dot)
        if row.change in ("renamed", "deleted") or content.kind is not Kind.FILE:
            continue
        if epochs is not None and sealed_under.get((chain, seq)) not in epochs:
            continue
        contents[content.root] = content.size
        author = folder.replica.chains.rows(chain)
        listed.append(
            api.ExposedVersion(
                id=row.dot.hex(),
                path=os.fsdecode(row.path),
                time=time_text(row.time_ns),
                device=names.get(author[0].device, short(author[0].device)) if author else "",
                size=content.size,
            )
        )
    return api.Exposure(versions=len(listed), contents=len(contents), bytes=sum(contents.values()), listed=listed)


def _epochs_before(folder: Folder, seq: int) -> set[EpochId]:
    epochs: set[EpochId] = set()
    for entry in folder.replica.membership_chain[:seq]:
        change = entry.change
        rekey = change.rekey if isinstance(change, Remove) else change
        if isinstance(rekey, Genesis | Rekey):
            epochs.add(rekey.epoch)
        if isinstance(rekey, Rekey):
            epochs.update(wrapped.epoch for wrapped in rekey.wrapped)
    return epochs


def _epochs_of_entries(folder: Folder) -> dict[tuple[bytes, int], EpochId]:
    return {
        (row.chain, row.seq): decode(Envelope, row.envelope, ENTRY_ENVELOPE_BYTES_MAX).epoch
        for row in folder.replica.log_rows.entries()
    }
