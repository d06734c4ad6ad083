"""Handing a file out: the handout's only file is made from the shared file, and made again when that changes.

Invariant: what is handed out are bytes that the source folder agreed on, checked chunk by chunk, and sealed anew under
keys of the handout alone; nothing else of the source folder comes near it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec

from meshsync.agent.content_pieces import content_pieces
from meshsync.agent.folder import Folder
from meshsync.agent.handout import FILE_NAME, Act, Given, due
from meshsync.agent.history import pack_content
from meshsync.content.record import Content, Kind
from meshsync.errors import ConfigError, ResourceError, TransientError
from meshsync.ids import NodeId
from meshsync.limits import FOLDER_READ_WINDOW_BYTES
from meshsync.runtime import Runtime
from meshsync.sync.disk_rows import SyncedRow

COMING_NAME = "coming"  # in the handout's state, on the file system of its root

Progress = Callable[[int, int], None]


def shown(source: Folder, node: NodeId) -> SyncedRow | None:
    """Return what the source folder agrees to be on this disk for the shared file, None for nothing yet or no more."""
    row = source.synced.rows.get(node)
    return row if row is not None and source.synced.path_of(node) is not None else None


def is_gone(source: Folder, node: NodeId) -> bool:
    """Whether the source folder, once it was looked at, has no such file any more, here or by its log."""
    looked = source.loop is not None and source.loop.scanned and not source.joining
    return looked and node not in source.synced.rows and source.replica.view.face(node) is None


async def follow(runtime: Runtime, handout: Folder, source: Folder) -> bool:
    """Do what is due; return whether something was done. Raises ResourceError, SourceUnavailable: try again later."""
    given = handout.handout
    assert isinstance(given, Given)
    if handout.loop is None:
        return False
    node = NodeId(given.node)
    row = shown(source, node)
    packed = b"" if row is None else pack_content(row.content)
    act = due(given, packed, None if row is None else row.content, is_gone(source, node))
    if act is Act.PUBLISH and row is not None:
        path = os.fsdecode(b"/".join(source.synced.path_of(node) or ()))
        pieces = content_pieces(runtime, source, row.content, path)
        await put(runtime, handout, pieces, row.content, row.executable, row.mtime_ns)
    elif act is Act.WITHDRAW:
        await withdraw(runtime, handout)
        packed = b""
    if act is not Act.NOTHING:
        await handout.note_handout(msgspec.structs.replace(given, content=packed))
    return act is not Act.NOTHING


async def put(
    runtime: Runtime,
    handout: Folder,
    pieces: AsyncIterator[bytes],
    content: Content | None,
    executable: bool,
    mtime_ns: int,
    progress: Progress | None = None,
) -> None:
    """Make `pieces` the handout's file, durably and in one step. Raises ResourceError, and what `pieces` raises."""
    coming = handout.home.path / COMING_NAME
    done = 0
    try:
        with coming.open("wb") as file:
            async for piece in pieces:
                await runtime.in_thread(file.write, piece)
                done += len(piece)
                if progress is not None:
                    progress(done, done if content is None else content.size)
            file.flush()
            os.fchmod(file.fileno(), 0o700 if executable else 0o600)
            os.utime(file.fileno(), ns=(mtime_ns, mtime_ns))
            await runtime.in_thread(os.fsync, file.fileno())
        await runtime.in_thread(coming.replace, handout.root_path / os.fsdecode(FILE_NAME))
    except OSError as error:
        raise ResourceError(f"the file cannot be handed out: {error.strerror}", path=str(coming)) from error
    finally:
        coming.unlink(missing_ok=True)
    _look(handout)


async def withdraw(runtime: Runtime, handout: Folder) -> None:
    """Take the file out of the handout: the holder is told, keeps what it has, and nobody new is given it."""
    try:
        await runtime.in_thread((handout.root_path / os.fsdecode(FILE_NAME)).unlink, True)
    except OSError as error:
        raise ResourceError(f"the file cannot be taken back: {error.strerror}", path=str(handout.root_path)) from error
    _look(handout)


async def plain_pieces(runtime: Runtime, path: Path) -> AsyncIterator[bytes]:
    """Yield a file that lies in no folder. Raises ConfigError if it is none, TransientError if it changes meanwhile."""
    try:
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            while piece := await runtime.in_thread(file.read, FOLDER_READ_WINDOW_BYTES):
                yield piece
            after = os.fstat(file.fileno())
    except OSError as error:
        raise ConfigError(f"the file cannot be read: {error.strerror}", path=str(path)) from error
    if (before.st_size, before.st_mtime_ns, before.st_ctime_ns) != (
        after.st_size,
        after.st_mtime_ns,
        after.st_ctime_ns,
    ):
        raise TransientError("the file was changed while it was read", path=str(path), next_step="Share it again.")


def published(handout: Folder) -> bool:
    """Whether what lies in the handout is what its readers are told of."""
    loop = handout.loop
    return loop is not None and loop.scanned and loop.idle


def holds_file(handout: Folder) -> SyncedRow | None:
    """Return the handout's file as it is agreed to be on this disk, None if there is none."""
    rows = handout.synced.at((FILE_NAME,))
    return rows[0] if rows and rows[0].kind is Kind.FILE else None


def _look(handout: Folder) -> None:
    if handout.loop is not None:
        handout.loop.look_at([(FILE_NAME,)])
