"""What a user asks to have back, found in the history, brought back, and told. Invariant: nothing is written before all
that is wanted is known to have been there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from meshsync.agent import api_schema as api
from meshsync.agent import versions_report
from meshsync.agent.daemon import Agent
from meshsync.agent.folder import Folder
from meshsync.agent.history import unpack_content
from meshsync.agent.observer import display
from meshsync.agent.operations import Progress
from meshsync.agent.past import Difference, Was, before, below, differing, present, views
from meshsync.agent.points import point
from meshsync.agent.restoring import must_be_free, ready, restore_in_place, to_do, write_out
from meshsync.agent.undoing import bring_to
from meshsync.content.record import Content, Kind
from meshsync.errors import ConfigError, NotFound
from meshsync.ids import dot_parts
from meshsync.index.version_rows import VersionRow
from meshsync.limits import RESTORE_LISTED_MAX
from meshsync.sync.disk_rows import Path as TreePath


async def restore(agent: Agent, request: api.RestoreRequest, progress: Progress) -> api.RestoreResult:
    """Bring back what a request asks for. See `Operations.restore`."""
    folder, inside = versions_report.locate(agent, request.path)
    if request.exact:
        return await _restore_exactly(agent, folder, inside, request, progress)
    wanted, version = await agent.runtime.in_thread(_wanted, agent, folder, inside, request)
    size = sum(was.content.size for was in wanted)
    answer = api.RestoreResult(path=request.path, version=version, restored_to="", size=size, files=len(wanted))
    if request.dry_run:
        changed = wanted if request.to else to_do(folder, wanted)
        return _answer(answer, "", changed, len(wanted) - len(changed), ())
    within = await agent.runtime.in_thread(_within, agent, folder, request.to) if request.to else None
    if within is not None:
        inside, wanted = _moved(folder, inside, within, wanted)
        await agent.runtime.in_thread(must_be_free, folder.root_path / os.fsdecode(b"/".join(inside)))
    elif request.to:
        target = await write_out(agent, folder, wanted, inside, Path(request.to), progress)
        return _answer(answer, str(target), wanted, 0, ())
    done = await restore_in_place(agent, folder, wanted, progress)
    at = folder.root_path / os.fsdecode(b"/".join(inside))
    written = set(done.written)
    changed = [was for was in wanted if was.path in written]
    return _answer(answer, str(at), changed, done.unchanged, done.skipped)


async def _restore_exactly(
    agent: Agent, folder: Folder, inside: TreePath, request: api.RestoreRequest, progress: Progress
) -> api.RestoreResult:
    """Make a path as it was at a time, without what came since."""
    if not request.at or request.to:
        raise ConfigError(
            "exactly restored is what was there at a time, in place", path=request.path, next_step="Add --at TIME"
        )
    loop, _ = ready(folder)
    loop.look_at([inside] if inside else None)
    await loop.published()  # what its user did so far is in the log
    difference = await agent.runtime.in_thread(_since, agent, folder, inside, request.at)
    size, files = sum(was.content.size for was in difference.wanted), len(difference.wanted)
    answer = api.RestoreResult(path=request.path, version="", restored_to="", size=size, files=files)
    if request.dry_run:
        return _answer(answer, "", difference.wanted, 0, (), difference.gone)
    done = await bring_to(agent, folder, difference, progress)
    written = set(done.written)
    changed = [was for was in difference.wanted if was.path in written]
    at = folder.root_path / os.fsdecode(b"/".join(inside))
    return _answer(answer, str(at), changed, done.unchanged, done.skipped, done.removed)


def _since(agent: Agent, folder: Folder, inside: TreePath, at: str) -> Difference:
    now, then = views(folder.replica, present, point(agent, folder, at))
    below(then, inside)  # nothing there is a mistyped time rather than a wish to remove all
    return differing(now, then, inside)


def _within(agent: Agent, folder: Folder, to: str) -> TreePath | None:
    """Return where in `folder` the directory `to` lies, None if it lies in no synced folder. Blocking.

    Raises ConfigError if it lies in another one, or in what is kept for others.
    """
    try:
        found, there = versions_report.locate(agent, os.path.realpath(to))
    except NotFound:
        return None
    if found is not folder:
        raise ConfigError("the directory lies in another synced folder", path=to, next_step="Name one outside of it.")
    return there


def _moved(folder: Folder, inside: TreePath, to: TreePath, wanted: Sequence[Was]) -> tuple[TreePath, list[Was]]:
    """Return where in its own folder what was at `inside` goes if restored to `to`, and what is wanted there then.

    It is put there as in place: what is built in a synced folder bit by bit would be told to others bit by bit.
    """
    target = (*to, inside[-1] if inside else os.fsencode(folder.root_path.name))
    moved = [replace(was, path=target + was.path[len(inside) :]) for was in wanted]
    top = [] if inside else [Was(target, Content(Kind.DIRECTORY), False, 0)]
    return target, top + moved


def _answer(
    answer: api.RestoreResult,
    target: str,
    changed: Sequence[Was],
    unchanged: int,
    skipped: Sequence[tuple[TreePath, str]],
    removed: Sequence[TreePath] = (),
) -> api.RestoreResult:
    return api.RestoreResult(
        path=answer.path,
        version=answer.version,
        restored_to=target,
        size=answer.size,
        files=answer.files,
        unchanged=unchanged,
        changed=[display(was.path) for was in changed[:RESTORE_LISTED_MAX]],
        skipped=[api.Skipped(path=display(path), why=why) for path, why in skipped[:RESTORE_LISTED_MAX]],
        not_restored=len(skipped),
        removals=len(removed),
        removed=[display(path) for path in removed[:RESTORE_LISTED_MAX]],
    )


def _wanted(agent: Agent, folder: Folder, inside: TreePath, request: api.RestoreRequest) -> tuple[list[Was], str]:
    """Return what is to be brought back, and the id of the version if it is one. Raises NotFound, ConfigError."""
    if request.at:
        if request.version:
            raise ConfigError("a version and a time were given", path=request.path, next_step="Name one of the two.")
        (view,) = views(folder.replica, point(agent, folder, request.at))
        return below(view, inside), ""
    if not inside:
        raise ConfigError("of a whole folder the time is needed", path=request.path, next_step="Add --at TIME")
    row = _row(folder, inside, request)
    content = unpack_content(row.content)
    if content.kind is Kind.DIRECTORY:
        return _directory(folder, row, request.path), row.dot.hex()
    return [Was(inside, content, _is_executable(folder, inside, row), row.mtime_ns)], row.dot.hex()


def _row(folder: Folder, inside: TreePath, request: api.RestoreRequest) -> VersionRow:
    if request.version:
        return versions_report.find(folder, inside, request.version)
    rows = versions_report.rows_of(folder, inside)
    present = folder.synced.at(inside)
    older = [row for row in rows if not present or unpack_content(row.content) != present[0].content]
    if not older:
        raise NotFound("there is no earlier version", path=request.path)
    return older[-1]


def _directory(folder: Folder, row: VersionRow, path: str) -> list[Was]:
    """Return a directory and what was in it before it was removed."""
    chain, seq, _ = dot_parts(row.dot)
    entry = next((found.id for found in folder.replica.chains.rows(chain) if found.seq == seq), None)
    if row.change != "deleted" or entry is None:
        raise ConfigError(
            "of a directory the time is needed", path=path, next_step=f"Add --at TIME; meshsync log {path} shows when"
        )
    (view,) = views(folder.replica, before(folder.replica, entry))
    return below(view, tuple(row.path.split(b"/")))


def _is_executable(folder: Folder, inside: TreePath, row: VersionRow) -> bool:
    """The exec bit is the file's, not a version's: as it is now, or as it was written if nothing is there."""
    present = folder.synced.at(inside)
    if present and present[0].kind is Kind.FILE:
        return present[0].executable
    version = folder.replica.view.version(row.dot)
    return version is not None and version.executable
