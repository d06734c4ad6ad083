"""Bringing a folder to another tree, exactly: what that has is put back, what it has not is taken away.

Invariant: what is replaced or removed was set aside before, and stays in the history; what somebody changed meanwhile
stays as it is and is told. Given up half-way, every path is as it was or as it should be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from meshsync.agent.daemon import Agent
from meshsync.agent.folder import Folder
from meshsync.agent.operations import Progress
from meshsync.agent.past import Difference
from meshsync.agent.restoring import InPlace, Restored, batches, ready
from meshsync.content.record import Kind
from meshsync.ids import NodeId
from meshsync.limits import RESTORE_BATCH_FILES
from meshsync.sync.disk_rows import Path
from meshsync.sync.draft import Draft
from meshsync.sync.rejecting import giving_up, restoring
from meshsync.sync.view import View


async def bring_to(agent: Agent, folder: Folder, difference: Difference, progress: Progress) -> Restored:
    """Make the folder show the other tree; return once that is published.

    Raises ConfigError (the folder is not there), TransientError (not ready), RoleForbids (may only read).
    """
    loop, placer = ready(folder)
    loop.look_at([*difference.now])
    await loop.published()
    total, seen = sum(was.content.size for was in difference.wanted), dict(difference.now)
    work = InPlace(agent, folder, loop, placer, progress, total, seen)
    in_the_way = _in_the_way(difference)
    for removed in _portions(in_the_way):
        await work.remove(removed)
    if in_the_way:
        await loop.published()  # so that what was removed is not taken for what lies there
        seen.update(dict.fromkeys(in_the_way))
    for batch in batches(difference.wanted):
        await work.take(batch)
    for removed in _portions([path for path in difference.gone if path not in set(in_the_way)]):
        await work.remove(removed)
    await loop.published()
    await loop.overrule(lambda view: _not_here(folder, difference, view, work.done))
    await loop.published()  # what was held is planned anew
    return work.done


def _in_the_way(difference: Difference) -> list[Path]:
    """Return the directories that are to be something else, with all in them, deepest first."""
    tops = {
        was.path
        for was in difference.wanted
        if was.content.kind is not Kind.DIRECTORY
        and (now := difference.now[was.path]) is not None
        and now.kind is Kind.DIRECTORY
    }
    inside = [path for path in difference.gone if any(path[:depth] in tops for depth in range(len(path)))]
    return [*inside, *sorted(tops, key=lambda path: (-len(path), path))]


def _portions(paths: Sequence[Path]) -> Iterator[Sequence[Path]]:
    for at in range(0, len(paths), RESTORE_BATCH_FILES):
        yield paths[at : at + RESTORE_BATCH_FILES]


def _not_here(folder: Folder, difference: Difference, view: View, done: Restored) -> Draft:
    """Return what overrules what others did and this disk has not done, because it is held or was still to come."""
    kept: list[NodeId] = []
    for was in difference.wanted:
        for row in folder.synced.at(was.path):
            face = view.face(row.node)
            if row.content == was.content and (face is None or face.content != row.content):
                kept.append(row.node)
                done.written.append(was.path)
    given_up: list[NodeId] = []
    for path in difference.gone:
        shown = None if folder.synced.at(path) else view.resolve(path)
        if shown is not None and shown.content == difference.now[path]:
            given_up += [node for node in shown.nodes if node not in folder.synced.rows]
            done.removed.append(path)
    draft = restoring(folder.synced, view, kept)
    for change in giving_up(view, given_up).changes:
        draft.add(change.op, change.rows)
    return draft
