"""Conflicts as users see them, and ending one. Invariant: what an answer names is on this disk when it is made.

A conflict is ended by changes of files, not by entries of its own kind: what a device publishes then is what it would
have published had its user copied and removed the files by hand, so no other device needs to know of resolving.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from meshsync.agent import api_schema as api
from meshsync.agent.daemon import Agent
from meshsync.agent.folder import Folder, check_present
from meshsync.agent.folder_loop import FolderLoop
from meshsync.agent.history import unpack_content
from meshsync.agent.in_conflict import InConflict, all_in_conflict, conflict_at
from meshsync.agent.observer import display
from meshsync.agent.resolver import Resolved, Resolver, Winner
from meshsync.agent.restoring import version_pieces
from meshsync.agent.status_report import time_text
from meshsync.errors import ConfigError, NotFound, ResourceError, RoleForbids, TextsClash, TransientError
from meshsync.ids import short
from meshsync.index.version_rows import VersionRow
from meshsync.limits import MERGE_BYTES_MAX
from meshsync.sync.ancestors import ancestors
from meshsync.sync.disk_rows import Path as TreePath
from meshsync.sync.disk_rows import SyncedRow


def conflicts(agent: Agent, folder: Folder) -> list[api.Conflict]:
    """Return the paths in conflict of one folder."""
    return [_listed(agent, folder, conflict) for conflict in all_in_conflict(folder.synced)]


def _listed(agent: Agent, folder: Folder, conflict: InConflict) -> api.Conflict:
    present = conflict.present
    base = common_base(folder, conflict)
    return api.Conflict(
        path=display(conflict.path),
        copies=[
            api.ConflictCopy(
                path=display(path), device=author(agent, folder, row), time=_time(folder, row), size=row.content.size
            )
            for path, row in conflict.copies
        ],
        base=None if base is None else base.dot.hex(),
        folder=folder.name,
        root=str(folder.root_path),
        device=author(agent, folder, present) if present is not None else "",
        time=_time(folder, present) if present is not None else "",
        size=present.content.size if present is not None else 0,
    )


def author(agent: Agent, folder: Folder, row: SyncedRow) -> str:
    """Return the name of the device that wrote what a row holds, empty if that is not known."""
    chain = folder.replica.chains.rows(row.versions[0][:32]) if row.versions else []  # type: ignore[arg-type]
    return agent.names().get(chain[0].device, short(chain[0].device)) if chain else ""


def _time(folder: Folder, row: SyncedRow) -> str:
    version = folder.replica.versions.get(row.versions[0]) if row.versions else None
    return time_text(version.time_ns if version is not None else row.mtime_ns)


def common_base(folder: Folder, conflict: InConflict) -> VersionRow | None:
    """Return the newest version that what lies at the path and its first copy both came from, None for none."""
    view, present = folder.replica.view, conflict.present
    row = conflict.copies[0][1]
    if present is None or not present.versions or not row.versions:
        return None
    one, other = view.version(present.versions[0]), view.version(row.versions[0])
    if one is None or other is None:
        return None
    theirs = {version.dot for version in ancestors(other, view.versions)}
    shared = (version.dot for version in ancestors(one, view.versions) if version.dot in theirs)
    newest = next(shared, None)
    return None if newest is None else folder.replica.versions.get(newest)


async def resolve(agent: Agent, folder: Folder, inside: TreePath, request: api.ResolveRequest) -> api.ResolveResult:
    """End the conflict at `inside`; see `Operations.resolve`."""
    winner = Winner(request.keep)
    if request.to and winner is not Winner.MERGED:
        raise ConfigError("only what is merged can be written elsewhere", next_step="Add --keep merged")
    conflict = _chosen(folder, inside)
    loop, resolver = _ready(folder)
    base = await _base(agent, folder, conflict) if winner is Winner.MERGED else None
    paths = [conflict.path, *(path for path, _ in conflict.copies)]
    device = author(agent, folder, conflict.copies[0][1])

    async def work() -> tuple[Resolved, int]:
        if conflict_at(folder.synced, inside) != conflict:
            raise TransientError("the conflict changed just now", path=request.path, next_step="meshsync conflicts")
        resolver.check(conflict, winner)
        try:
            if request.to:
                assert base is not None
                return Resolved(), await agent.runtime.in_thread(_write_merge, resolver, conflict, base, request.to)
            return await agent.runtime.in_thread(resolver.resolve, conflict, winner, device, base), 0
        finally:
            loop.look_at(paths)

    loop.look_at(paths)
    done, clashes = await loop.turns.take(work)
    loop.look_at(done.touched)
    return _answer(folder, request, done, clashes)


def _chosen(folder: Folder, inside: TreePath) -> InConflict:
    found = conflict_at(folder.synced, inside)
    if found is None:
        raise NotFound("the path is not in conflict", path=display(inside), next_step="meshsync conflicts")
    return found


def _ready(folder: Folder) -> tuple[FolderLoop, Resolver]:
    check_present(folder)
    if folder.joining or folder.loop is None or folder.resolver is None:
        raise TransientError("the folder is not ready yet", folder=folder.name, next_step="meshsync status")
    if not folder.replica.membership.may_write(folder.replica.device.device):
        raise RoleForbids(
            "this device may only read the folder",
            folder=folder.name,
            next_step="End the conflict on a device that may write.",
        )
    return folder.loop, folder.resolver


async def _base(agent: Agent, folder: Folder, conflict: InConflict) -> bytes:
    """Return the content that both sides came from. Raises TextsClash, SourceUnavailable."""
    found = common_base(folder, conflict)
    if found is None:
        raise TextsClash(
            "both sides were written without a common version, so nothing tells what each changed",
            path=display(conflict.path),
            next_step="Keep mine, theirs or both.",
        )
    data = bytearray()
    async for piece in version_pieces(agent, folder, unpack_content(found.content), os.fsdecode(found.path)):
        data += piece
        if len(data) > MERGE_BYTES_MAX:
            break
    return bytes(data)


def _write_merge(resolver: Resolver, conflict: InConflict, base: bytes, to: str) -> int:
    """Write what is merged to a new file; return how many places clash in it."""
    made = resolver.merged(conflict, base)
    try:
        with Path(to).open("xb") as file:
            file.write(made.text)
    except FileExistsError as error:
        raise ConfigError("something lies there already", path=to, next_step="Name a new file.") from error
    except OSError as error:
        raise ResourceError("the merged text cannot be written", path=to) from error
    return made.clashes


def _answer(folder: Folder, request: api.ResolveRequest, done: Resolved, clashes: int) -> api.ResolveResult:
    def full(path: TreePath) -> str:
        return str(folder.root_path / os.fsdecode(b"/".join(path)))

    return api.ResolveResult(
        path=request.path,
        keep=request.keep,
        now=[request.to] if request.to else [full(path) for path in done.now],
        kept_in=full(done.kept_in) if done.kept_in else "",
        undo=[
            f"meshsync restore {shlex.quote(full(path))} --version {row.versions[0].hex()}"
            for path, row in done.lost
            if row.versions
        ],
        clashes=clashes,
    )
