"""Snapshots: a signed name for the folder as it is, which every member can go back to.

Invariant: a snapshot is an entry of its author's chain; it copies nothing, and what it names never changes.
"""

from __future__ import annotations

import os

from meshsync.agent import api_schema as api
from meshsync.agent.daemon import Agent
from meshsync.agent.folder import Folder
from meshsync.agent.members_names import named
from meshsync.agent.restoring import ready
from meshsync.agent.status_report import time_text
from meshsync.agent.versions_report import directories_of
from meshsync.content.record import Mark
from meshsync.errors import ConfigError, NotFound, ResourceError, RoleForbids
from meshsync.limits import NAME_BYTES_MAX, SNAPSHOTS_MAX


async def snapshot(agent: Agent, request: api.SnapshotRequest) -> api.SnapshotList:
    """Take a snapshot of one folder or of each that this device may write, or remove it. See `Operations.snapshot`."""
    name = os.fsencode(request.name)
    if not 1 <= len(name) <= NAME_BYTES_MAX or not request.name.isprintable() or "/" in request.name:
        raise ConfigError("not a name for a snapshot", path=request.name, next_step="Use letters and digits.")
    folders = directories_of(agent, request.folder)
    if not request.folder:
        folders = [each for each in folders if each.replica.membership.may_write(agent.keys.device)]
    if not folders:
        raise RoleForbids("this device may write no folder", next_step="meshsync status")
    for folder in folders:
        _check(folder, name, request)
    for folder in folders:
        await _mark(folder, name, request)
    return api.SnapshotList(
        snapshots=[one for folder in folders for one in _listed(folder) if one.name == request.name]
    )


def snapshots(agent: Agent, folder: str) -> api.SnapshotList:
    """Return the snapshots of one folder or of all, newest first in each. Raises NotFound."""
    return api.SnapshotList(snapshots=[one for each in directories_of(agent, folder) for one in _listed(each)])


def _check(folder: Folder, name: bytes, request: api.SnapshotRequest) -> None:
    found = folder.replica.marks.find(name)
    if request.remove and found is None:
        raise NotFound("there is no such snapshot", folder=folder.name, path=request.name, next_step=_LIST)
    if not request.remove and found is not None:
        raise ConfigError(
            "there is a snapshot of this name", folder=folder.name, path=request.name, next_step="Choose another name."
        )
    if not request.remove and len(folder.replica.marks.all()) >= SNAPSHOTS_MAX:
        raise ResourceError(
            f"a folder has at most {SNAPSHOTS_MAX} snapshots",
            folder=folder.name,
            next_step="Remove some: meshsync snapshot --remove NAME",
        )


async def _mark(folder: Folder, name: bytes, request: api.SnapshotRequest) -> None:
    loop, _ = ready(folder)
    if not request.remove:
        loop.look_at(None)
        await loop.published()  # what its user did so far is part of it
    _check(folder, name, request)
    await folder.replica.append(lambda chain, seq: [Mark(name, not request.remove)], lambda entry: None)


def _listed(folder: Folder) -> list[api.Snapshot]:
    return [
        api.Snapshot(
            folder=folder.name,
            name=os.fsdecode(one.name),
            time=time_text(one.time_ns),
            device=named(folder, one.device).name,
        )
        for one in reversed(folder.replica.marks.all())
    ]


_LIST = "meshsync snapshots"
