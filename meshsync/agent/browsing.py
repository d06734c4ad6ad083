"""Looking at a folder as it was, without writing anything: listing a directory, comparing two points.

Invariant: read-only; the answers of one call are of one state of the log.
"""

from __future__ import annotations

from meshsync.agent import api_schema as api
from meshsync.agent.daemon import Agent
from meshsync.agent.folder import Folder
from meshsync.agent.observer import display
from meshsync.agent.past import Point, Was, below, differing, present, views
from meshsync.agent.points import point
from meshsync.agent.status_report import time_text
from meshsync.agent.versions_report import locate
from meshsync.content.record import Kind
from meshsync.errors import NotFound
from meshsync.limits import RESTORE_LISTED_MAX, TREE_LISTED_MAX
from meshsync.sync.disk_rows import Path

_KINDS: dict[Kind, api.EntryKind] = {Kind.FILE: "file", Kind.DIRECTORY: "directory", Kind.LINK: "link"}


def directory(agent: Agent, path: str, at: str, after: str) -> api.Directory:
    """Return what was in a directory, by name, from the name after `after` on. Blocking.

    Raises NotFound (no such directory then), ConfigError.
    """
    folder, inside = locate(agent, path)
    (view,) = views(folder.replica, _point(agent, folder, at))
    found = below(view, inside)
    if inside and found[0].content.kind is not Kind.DIRECTORY:
        raise NotFound("not a directory", path=path, next_step="meshsync cat reads a file")
    there = sorted((was for was in found if len(was.path) == len(inside) + 1), key=lambda was: display(was.path[-1:]))
    later = [was for was in there if display(was.path[-1:]) > after]
    return api.Directory(
        path=path, entries=[_entry(was) for was in later[:TREE_LISTED_MAX]], more=len(later) > TREE_LISTED_MAX
    )


def file_at(agent: Agent, path: str, at: str) -> tuple[Folder, Was]:
    """Return the file that lay at `path`. Blocking. Raises NotFound, ConfigError."""
    folder, inside = locate(agent, path)
    (view,) = views(folder.replica, _point(agent, folder, at))
    found = below(view, inside)
    if not inside or found[0].content.kind is not Kind.FILE:
        raise NotFound("it was not a file", path=path, next_step="meshsync ls --at shows what was there")
    return folder, found[0]


def compare(agent: Agent, path: str, since: str, until: str) -> api.Differences:
    """Return what differs between two points at and below `path`; empty `until`: the present. Blocking.

    Raises NotFound, ConfigError.
    """
    folder, inside = locate(agent, path)
    one, other = views(folder.replica, point(agent, folder, since), _point(agent, folder, until))
    found = differing(one, other, inside)
    created = sorted(was.path for was in found.wanted if found.now[was.path] is None)
    changed = sorted(was.path for was in found.wanted if found.now[was.path] is not None)
    removed = sorted(found.gone)
    return api.Differences(
        path=path,
        created=_paths(created),
        changed=_paths(changed),
        removed=_paths(removed),
        counts=[len(created), len(changed), len(removed)],
    )


def _point(agent: Agent, folder: Folder, at: str) -> Point:
    return point(agent, folder, at) if at else present


def _paths(paths: list[Path]) -> list[str]:
    return [display(path) for path in paths[:RESTORE_LISTED_MAX]]


def _entry(was: Was) -> api.DirectoryEntry:
    return api.DirectoryEntry(
        name=display(was.path[-1:]),
        kind=_KINDS[was.content.kind],
        size=was.content.size,
        executable=was.executable,
        modified=time_text(was.mtime_ns),
    )
