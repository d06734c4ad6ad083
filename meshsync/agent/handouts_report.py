"""Single shared files as their users see them: what is shared from here, what was handed to this device."""

from __future__ import annotations

import os

import msgspec

from meshsync.agent import api_schema as api
from meshsync.agent.api_handouts import SharedFile, SharedFileState
from meshsync.agent.daemon import Agent
from meshsync.agent.ending import holders
from meshsync.agent.folder import Folder
from meshsync.agent.giving import holds_file, is_gone, published
from meshsync.agent.handout import Given, Taken, place_of
from meshsync.agent.history import pack_content
from meshsync.agent.status_report import not_durable, time_text
from meshsync.agent.taking import There
from meshsync.ids import DeviceId, NodeId, short

_BUSY: tuple[SharedFileState, ...] = ("updating", "fetching")


def shared_files(agent: Agent) -> list[SharedFile]:
    """Return every file shared by itself, those of this device first, by name."""
    found = [_described(agent, folder) for folder in agent.handouts.all()]
    return sorted(found, key=lambda each: (not each.given, each.name, each.id))


def completed(agent: Agent, status: api.Status) -> api.Status:
    """Return `status` with what there is to say of single shared files."""
    files = shared_files(agent)
    idle = status.idle and not any(each.state in _BUSY for each in files)
    return msgspec.structs.replace(status, idle=idle, shared_files=files, health=[*status.health, *items(agent)])


def is_busy(agent: Agent, folder: Folder) -> bool:
    """Whether a folder is a single shared file of which a newer version is still to be handed out or put in place."""
    return folder.handout is not None and _described(agent, folder).state in _BUSY


def items(agent: Agent) -> list[api.HealthItem]:
    """Return what the user should know of single shared files."""
    found = []
    for folder in agent.handouts.all():
        problem = agent.handouts.problems.get(folder.id)
        if problem is not None:
            what = f"the shared file {folder.name}: {problem.what}"
            following = problem.next_step or "It is tried again by itself."
            found.append(api.HealthItem(what=what, why=problem.path, next=following, code=type(problem).__name__))
        found += _given_items(agent, folder) if isinstance(folder.handout, Given) else _taken_items(agent, folder)
    return found


def _given_items(agent: Agent, folder: Folder) -> list[api.HealthItem]:
    state = _given_state(agent, folder)
    path = os.fsdecode(place_of(folder.handout)) if folder.handout is not None else ""
    if state == "deleted":
        what = f"{folder.name} was deleted, and is not handed out any more"
        why = "who has it keeps the last version"
        return [api.HealthItem(what=what, why=why, next=f"meshsync revoke {path}")]
    if state == "not followed":
        what = f"changes of {folder.name} are not handed out any more"
        return [api.HealthItem(what=what, why="its folder is not synced here", next=f"meshsync revoke {path}")]
    return []


def _taken_items(agent: Agent, folder: Folder) -> list[api.HealthItem]:
    taken = folder.handout
    assert isinstance(taken, Taken)
    path = os.fsdecode(place_of(taken))
    leave = f"meshsync leave {folder.name}"
    state = _taken_state(agent, folder, taken)
    if folder.parted:
        what = f"{folder.name} is shared with this device no more"
        why = f"{path} stays as it is"
        return [api.HealthItem(what=what, why=why, next=leave, code="NotAMember")]
    if state == "deleted":
        what = f"{folder.name} was deleted by who shares it"
        return [api.HealthItem(what=what, why=f"{path} stays as it is", next=leave)]
    if state == "not there":
        what = f"newer versions of {folder.name} are put nowhere"
        why = f"{path} was moved away or deleted here"
        return [api.HealthItem(what=what, why=why, next=f"Put it back, or: {leave}")]
    if state == "changed here":
        what = f"{folder.name} was changed here, and the change stays only here"
        return [api.HealthItem(what=what, why="a newer version goes beside it", next="Copy it elsewhere.")]
    return []


def _described(agent: Agent, folder: Folder) -> SharedFile:
    handout = folder.handout
    assert handout is not None
    row = holds_file(folder)
    membership = folder.replica.membership
    others = holders(folder) if isinstance(handout, Given) else [folder.replica.membership_chain[0].author]
    expiries = [i.expires_s for i in membership.invites.values() if agent.invitations.admits(folder.id, i.ticket)]
    names = agent.names()
    relayed = bool(membership.relays)
    return SharedFile(
        id=folder.id.hex(),
        name=folder.name,
        path=os.fsdecode(place_of(handout)),
        given=isinstance(handout, Given),
        state=_given_state(agent, folder) if isinstance(handout, Given) else _taken_state(agent, folder, handout),
        device=", ".join(names.get(device, short(device)) for device in others),
        follows=handout.follows if isinstance(handout, Given) else None,
        bytes=0 if row is None else row.content.size,
        expires=time_text(max(expiries) * 10**9) if expiries else None,
        relayed=relayed,
        stored=relayed and not not_durable(folder),
    )


def _given_state(agent: Agent, folder: Folder) -> SharedFileState:
    given = folder.handout
    assert isinstance(given, Given)
    if given.ended or (agent.handouts.is_over(folder) and folder.id not in agent.handouts.busy):
        return "ended"
    source = agent.folders.get(given.folder) if given.follows else None
    if given.follows and (source is None or source.parted):
        return "not followed"
    if source is not None and is_gone(source, NodeId(given.node)):
        return "deleted"
    if not published(folder):
        return "updating"
    row = None if source is None else source.synced.rows.get(NodeId(given.node))
    if row is not None and pack_content(row.content) != given.content:
        return "updating"
    return "up to date" if holders(folder) else "invited"


def _taken_state(agent: Agent, folder: Folder, taken: Taken) -> SharedFileState:
    if folder.parted:
        return "ended"
    row = holds_file(folder)
    there = agent.handouts.there.get(folder.id)
    if there is There.NOTHING:
        return "not there"
    if there is There.CHANGED:
        return "changed here"
    if row is None:
        settled = folder.loop is not None and folder.loop.settled and not folder.joining
        return "deleted" if settled else "fetching"
    return "up to date" if pack_content(row.content) == taken.content else "fetching"


def named(agent: Agent, name: str) -> list[Folder]:
    """Return the files shared from here that `name` means: by their name, path, or the beginning of their id."""

    def is_meant(folder: Folder) -> bool:
        if not isinstance(folder.handout, Given):
            return False
        path = os.fsdecode(folder.handout.path)
        return name in (folder.name, path) or (len(name) >= 8 and folder.id.hex().startswith(name))

    return [folder for folder in agent.handouts.all() if is_meant(folder)]


def ticket_ids(folder: Folder) -> list[DeviceId]:
    """Return the public keys of all tickets for a shared file, used ones too."""
    return [DeviceId(ticket) for ticket in folder.told.inviters]
