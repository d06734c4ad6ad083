"""`undo`: what one device, or everybody, did since a time never happened; all else stays.

Invariant: nobody else's work is lost. Where somebody built on what is undone the answer says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from meshsync.agent import api_schema as api
from meshsync.agent import versions_report
from meshsync.agent.daemon import Agent
from meshsync.agent.folder import Folder
from meshsync.agent.members_names import named
from meshsync.agent.members_report import find_devices
from meshsync.agent.observer import display
from meshsync.agent.operations import Progress
from meshsync.agent.past import Difference, differing, views_without
from meshsync.agent.points import moment_ns
from meshsync.agent.restoring import ready
from meshsync.agent.undoing import bring_to
from meshsync.errors import NotFound
from meshsync.ids import ChainId, DeviceId, dot_parts
from meshsync.limits import RESTORE_LISTED_MAX
from meshsync.sync.disk_rows import Path
from meshsync.sync.undoing import Built
from meshsync.sync.view import View


@dataclass(frozen=True, slots=True)
class _Undoing:
    """What is to be done to one folder, and where somebody built on what goes: path, what becomes of it."""

    folder: Folder
    difference: Difference
    built_on: list[tuple[Path, str]]


async def undo(agent: Agent, request: api.UndoRequest, progress: Progress) -> api.UndoResult:
    """Undo what a request names. See `Operations.undo`."""
    since = moment_ns(request.since)
    results = []
    for folder, devices in _concerned(agent, request):
        loop, _ = ready(folder)
        loop.look_at(None)
        await loop.published()  # what its user did so far is in the log
        undoing = await agent.runtime.in_thread(_undoing, agent, folder, devices, since)
        if request.dry_run:
            wanted, gone = undoing.difference.wanted, undoing.difference.gone
            results.append(_answer(undoing, [was.path for was in wanted], gone, []))
        else:
            done = await bring_to(agent, folder, undoing.difference, progress)
            written = set(done.written)
            changed = [was.path for was in undoing.difference.wanted if was.path in written]
            results.append(_answer(undoing, changed, done.removed, done.skipped))
    return api.UndoResult(folders=results)


def _concerned(agent: Agent, request: api.UndoRequest) -> list[tuple[Folder, list[DeviceId] | None]]:
    """Return the folders in which something is to be undone, and of whom (None: of everybody). Raises NotFound."""
    folders = versions_report.directories_of(agent, request.folder)
    if not request.device:
        return [(folder, None) for folder in folders]
    found: list[tuple[Folder, list[DeviceId] | None]] = []
    for folder in folders:
        try:
            found.append((folder, find_devices(folder, request.device, list(folder.told.names))))
        except NotFound:
            if len(folders) == 1:
                raise
    if not found:
        raise NotFound("there is no such device or person", device=request.device, next_step="meshsync devices")
    return found


def _undoing(agent: Agent, folder: Folder, devices: list[DeviceId] | None, since_ns: int) -> _Undoing:
    """Return what is to be done. Blocking."""
    now, then, built = views_without(folder.replica, devices, since_ns, agent.runtime.wall_time_ns())
    return _Undoing(folder, differing(now, then, ()), list(_built_on(folder, now, then, built)))


def _built_on(folder: Folder, now: View, then: View, built: list[Built]) -> Iterator[tuple[Path, str]]:
    for one in built:
        chain = folder.replica.chains.rows(ChainId(dot_parts(one.name)[0]))
        who = named(folder, chain[0].device).name if chain else "another device"
        face = now.shown_as(one.name)
        if one.removed and now.face(one.node) is None and (path := then.path_of(one.node)) is not None:
            yield path, f"removed by {who} afterwards: it comes back"
        elif not one.removed and face is not None and (path := now.path_of(face.node)) is not None:
            yield path, f"changed by {who} afterwards: it stays as it is"


def _answer(undoing: _Undoing, changed: list[Path], removed: list[Path], skipped: list[tuple[Path, str]]) -> api.Undone:
    folder, made = undoing.folder, set(changed)
    return api.Undone(
        folder=folder.id.hex(),
        name=folder.name,
        restored=len(changed),
        size=sum(was.content.size for was in undoing.difference.wanted if was.path in made),
        removals=len(removed),
        failed=len(skipped),
        changed=[display(path) for path in changed[:RESTORE_LISTED_MAX]],
        removed=[display(path) for path in removed[:RESTORE_LISTED_MAX]],
        skipped=_listed(skipped),
        built_on=_listed(undoing.built_on),
    )


def _listed(paths: list[tuple[Path, str]]) -> list[api.Skipped]:
    return [api.Skipped(path=display(path), why=why) for path, why in paths[:RESTORE_LISTED_MAX]]
