"""Reading an old version and bringing it back. Invariant: what is written was checked chunk by chunk; in place, it
replaces exactly what was there when the restore began, and becomes a version like any other edit.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

from meshsync.agent.content_pieces import content_pieces
from meshsync.agent.daemon import Agent
from meshsync.agent.folder import Folder, check_present
from meshsync.agent.history import unpack_content
from meshsync.agent.kept import find_kept
from meshsync.agent.observer import display
from meshsync.agent.operations import Progress
from meshsync.content.record import Kind
from meshsync.errors import ConfigError, NotFound, ResourceError
from meshsync.index.version_rows import VersionRow
from meshsync.sync.disk_rows import Path as TreePath


async def version_pieces(agent: Agent, folder: Folder, row: VersionRow) -> AsyncIterator[bytes]:
    """Yield the content of a version in order. Raises SourceUnavailable if a piece cannot be had in CAT_WAIT_S."""
    content = unpack_content(row.content)
    kept = await agent.runtime.in_thread(find_kept, folder.root_path, content, folder.keys(), folder.cut_params)
    if kept is not None:
        for kept_piece in kept.pieces():
            yield kept_piece
        return
    async for piece in content_pieces(agent.runtime, folder, content, os.fsdecode(row.path)):
        yield piece


async def restore_version(
    agent: Agent, folder: Folder, inside: TreePath, row: VersionRow, to: str, progress: Progress
) -> Path:
    """Write a version to the directory `to`, or back to its path; return where it is now."""
    content = unpack_content(row.content)
    if content.kind is not Kind.FILE:
        raise NotFound("only files can be restored yet", path=display(inside))
    if not to:
        check_present(folder)
    target = Path(to) / os.fsdecode(inside[-1]) if to else folder.root_path / os.fsdecode(b"/".join(inside))
    staging = folder.root_path / ".meshsync" / "staging" if not to else Path(to)
    temporary = staging / f"restore-{agent.runtime.random_bytes(8).hex()}"
    try:
        await agent.runtime.in_thread(target.parent.mkdir, parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            done = 0
            async for piece in version_pieces(agent, folder, row):
                await agent.runtime.in_thread(file.write, piece)
                done += len(piece)
                progress(done, content.size)
            file.flush()
            await agent.runtime.in_thread(os.fsync, file.fileno())
        if not to and target.is_dir():
            raise ConfigError("a directory is there now", path=str(target), next_step="Restore with --to DIR")
        await agent.runtime.in_thread(temporary.replace, target)
    except OSError as error:
        raise ResourceError(f"the version cannot be written: {error.strerror}", path=str(target)) from error
    finally:
        temporary.unlink(missing_ok=True)
    if folder.loop is not None and not to:
        folder.loop.look_at([inside])
    return target
