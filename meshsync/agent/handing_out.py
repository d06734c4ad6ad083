"""Sharing one file: makes its handout, and ends it.

Invariant: a ticket is given only once the file is in the handout; a try that fails leaves nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from meshsync.agent.codes import End
from meshsync.agent.content_pieces import content_pieces
from meshsync.agent.daemon import Agent
from meshsync.agent.ending import end
from meshsync.agent.folder import Folder, check_present
from meshsync.agent.founding import found_folder
from meshsync.agent.giving import holds_file, plain_pieces, published, put, shown
from meshsync.agent.handout import Given, pack
from meshsync.agent.history import pack_content
from meshsync.agent.inviting import make_invitation, reach_relays
from meshsync.agent.observer import display
from meshsync.agent.operations import Progress
from meshsync.agent.status_report import not_durable
from meshsync.agent.versions_report import locate
from meshsync.content.record import Kind
from meshsync.content.ticket import Ticket
from meshsync.errors import ConfigError, MeshsyncError, NotFound, TransientError
from meshsync.ids import DeviceId, NodeId
from meshsync.roles import Role
from meshsync.sync.disk_rows import Path as TreePath
from meshsync.sync.disk_rows import SyncedRow


@dataclass(frozen=True, slots=True)
class _Found:
    """The file that is to be shared: in which folder and as what there, or neither if it lies in none."""

    path: Path
    source: Folder | None = None
    row: SyncedRow | None = None


async def hand_out(
    agent: Agent, path: Path, this_version: bool, expires_s: float, progress: Progress
) -> tuple[Folder, Ticket]:
    """Share the file at `path`, links resolved; return its handout and the ticket for it.

    Returns once every linked relay has the file, so that it can be fetched while this device is off. Raises NotFound
    (the folder has no such file), ConfigError (it lies in no folder and is to be followed; too many), TransientError
    (it is being changed), ResourceError.
    """
    agent.handouts.check_room()
    found = await _find(agent, path, this_version)
    follows = found.source is not None and found.row is not None and not this_version
    given = Given(
        found.source.id if follows and found.source is not None else b"",
        found.row.node if follows and found.row is not None else b"",
        os.fsencode(path),
        b"" if found.row is None else pack_content(found.row.content),
    )
    home = await agent.runtime.in_thread(
        found_folder,
        agent.runtime,
        agent.home.path,
        agent.keys,
        None,
        path.name,
        agent.options.label,
        dict([pack(given)]),
    )
    agent.handouts.busy.add(home.folder)
    try:
        folder = await agent.open_made(home)
        ticket = await _filled(agent, folder, found, expires_s, progress)
    finally:
        agent.handouts.busy.discard(home.folder)
        agent.note_change()
    await reach_relays(agent, folder)
    await _until(agent, lambda: is_stored(folder) or not _is_storing(agent, folder))
    return folder, ticket


async def _filled(agent: Agent, folder: Folder, found: _Found, expires_s: float, progress: Progress) -> Ticket:
    """Put the file into a new handout and return the ticket for it; if that fails, nothing of it is left."""
    try:
        await _until(agent, lambda: folder.loop is not None and folder.loop.scanned and _has_relays(agent, folder))
        await _fill(agent, folder, found, progress)
        await _until(agent, lambda: published(folder) and holds_file(folder) is not None)
        return await make_invitation(agent, folder, Role.READER, expires_s)
    except MeshsyncError:
        await agent.handouts.forget(folder)
        raise


def is_stored(folder: Folder) -> bool:
    """Whether the newest version can be fetched while this device is off."""
    return bool(folder.replica.membership.relays) and not not_durable(folder)


def _has_relays(agent: Agent, folder: Folder) -> bool:
    """Whether the folder names every relay that this device may store it at, as its ticket has to."""
    own = [device for device, client in agent.relays.items() if client.address.secret is not None]
    return all(device in folder.replica.membership.relays for device in own)


def _is_storing(agent: Agent, folder: Folder) -> bool:
    """Whether some relay of the folder is linked and takes what it is offered."""
    relays = [relay for relay in folder.replica.membership.relays if relay in agent.relays]
    taking = [relay for relay in relays if relay not in folder.refusals and relay not in folder.problems]
    return any(agent.relays[relay].link is not None and not folder.watch.is_convicted(relay) for relay in taking)


async def _find(agent: Agent, path: Path, this_version: bool) -> _Found:
    try:
        source, inside = locate(agent, str(path))
    except NotFound:
        if this_version:
            return _Found(path)
        raise ConfigError(
            "the file lies in no synced folder, so nobody would notice its changes",
            path=str(path),
            next_step=f"meshsync share --version {path}, or: meshsync share {path.parent}",
        ) from None
    check_present(source)
    assert source.loop is not None
    source.loop.look_at([inside])
    await _until(agent, lambda: _is_agreed(source, inside))
    rows = source.synced.at(inside)
    if not rows or rows[0].kind is not Kind.FILE:
        raise NotFound(
            "the folder has no such file yet",
            folder=source.name,
            path=display(inside),
            next_step=f"meshsync why {path}",
        )
    return _Found(path, source, rows[0])


def _is_agreed(source: Folder, inside: TreePath) -> bool:
    """Whether what lies at a path is what its folder has there, or the folder has done all that it can."""
    loop = source.loop
    if loop is None or loop.settled:
        return True
    rows, seen = source.synced.at(inside), loop.seen(inside)
    looked = loop.scanned and not loop.counts()[0]
    return looked and bool(rows) and seen is not None and seen.content == rows[0].content


async def _fill(agent: Agent, folder: Folder, found: _Found, progress: Progress) -> None:
    """Put the file into the handout."""
    if found.source is None or found.row is None:
        about = await agent.runtime.in_thread(found.path.stat)
        pieces = plain_pieces(agent.runtime, found.path)
        is_executable = bool(about.st_mode & 0o100)
        await put(agent.runtime, folder, pieces, None, is_executable, about.st_mtime_ns, progress)
        return
    row = found.row
    pieces = content_pieces(agent.runtime, found.source, row.content, str(found.path))
    try:
        await put(agent.runtime, folder, pieces, row.content, row.executable, row.mtime_ns, progress)
    except TransientError:
        if shown(found.source, NodeId(row.node)) is row:
            raise
        raise TransientError("the file is being changed", path=str(found.path), next_step="Share it again.") from None


async def _until(agent: Agent, reached: Callable[[], bool]) -> None:
    while not reached():
        await agent.changes.after(agent.changes.count)


async def take_back(agent: Agent, handouts: list[Folder], name: str) -> list[str]:
    """End the sharing of files from here: of that whose ticket's id begins with `name`, of all if it is empty.

    Return the ids of their tickets. From then on the holder gets nothing more; what it has, it keeps. What ended is
    forgotten here once every relay knows. Raises NotFound.
    """
    every = [(each, ticket) for each in handouts for ticket in each.told.inviters]
    found = [(each, ticket) for each, ticket in every if ticket.hex().startswith(name.lower())]
    if not found or (name and len(found) > 1):
        what = "no ticket for this file has this id" if not found else "several tickets for this file begin so"
        raise NotFound(what, folder=handouts[0].name, next_step="meshsync status")
    for folder, ticket in found:
        given = folder.handout
        assert isinstance(given, Given)
        with agent.handouts.kept_open(folder):
            await folder.note_handout(msgspec.structs.replace(given, ended=True))
            told = agent.codes.of_ticket(DeviceId(ticket))
            if told is not None:
                agent.codes.close(told, End.WITHDRAWN)
            await end(agent.runtime, folder)
            agent.refresh()
            await reach_relays(agent, folder)
            await end(agent.runtime, folder)  # somebody may have been let in at a relay before it knew
    return [ticket.hex() for _, ticket in found]
