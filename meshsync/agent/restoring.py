"""Reading old versions and bringing them back, one or a whole tree.

Invariant: what is written was checked chunk by chunk; in place, it replaces exactly what was there when the restore
began, which is set aside, and becomes a version like any other edit. What lies in place already is neither fetched nor
written.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

from meshsync.agent.content_pieces import content_pieces
from meshsync.agent.daemon import Agent
from meshsync.agent.folder import Folder, check_present
from meshsync.agent.folder_loop import FolderLoop
from meshsync.agent.gate import Gate
from meshsync.agent.kept import KeptArea
from meshsync.agent.observer import display
from meshsync.agent.operations import Progress
from meshsync.agent.past import Was
from meshsync.agent.placing import Placer, directory_above
from meshsync.content.record import Content, Kind
from meshsync.errors import ConfigError, MeshsyncError, ResourceError, RoleForbids, TransientError
from meshsync.folder.staging import StagedFile
from meshsync.limits import HELD_ID_BYTES, RESTORE_AT_ONCE, RESTORE_BATCH_BYTES, RESTORE_BATCH_FILES
from meshsync.sync.disk_rows import Path as TreePath


@dataclass(slots=True)
class Restored:
    """What a restore did: `written` and `removed` paths, how many were as they should be, (path, why) of the rest."""

    written: list[TreePath] = field(default_factory=list)
    removed: list[TreePath] = field(default_factory=list)
    unchanged: int = 0
    skipped: list[tuple[TreePath, str]] = field(default_factory=list)


def kept_area(folder: Folder) -> KeptArea:
    """Return what was set aside on this disk, as it is when it is first asked."""
    return KeptArea(folder.root_path, folder.keys(), folder.cut_params)


async def version_pieces(
    agent: Agent, folder: Folder, content: Content, path: str, area: KeptArea | None = None
) -> AsyncIterator[bytes]:
    """Yield a content in order; `path` is for display. `area` is what was set aside, where many are asked for.

    Raises SourceUnavailable if a piece cannot be had in CAT_WAIT_S.
    """
    kept = await agent.runtime.in_thread((area or kept_area(folder)).find, content)
    if kept is not None:
        for kept_piece in kept.pieces():
            yield kept_piece
        return
    async for piece in content_pieces(agent.runtime, folder, content, path):
        yield piece


def to_do(folder: Folder, wanted: Sequence[Was]) -> list[Was]:
    """Return what a restore in place would write. Raises as `restore_in_place`."""
    _, placer = ready(folder)
    return [was for was in wanted if not placer.is_so(was)]


async def restore_in_place(agent: Agent, folder: Folder, wanted: Sequence[Was], progress: Progress) -> Restored:
    """Bring `wanted` back to where it was, and remove nothing; directories come before what is in them.

    Raises ConfigError (the folder is not there), TransientError (not ready), RoleForbids (may only read).
    """
    loop, placer = ready(folder)
    loop.look_at([was.path for was in wanted])
    await loop.published()
    work = InPlace(agent, folder, loop, placer, progress, sum(was.content.size for was in wanted))
    for batch in batches(wanted):
        await work.take(batch)
    return work.done


async def write_out(
    agent: Agent, folder: Folder, wanted: Sequence[Was], inside: TreePath, to: Path, progress: Progress
) -> Path:
    """Write what was at `inside` into the directory `to`, whole or not at all; return where it is now.

    Raises ConfigError (something is there), SourceUnavailable, ResourceError.
    """
    target = to / (os.fsdecode(inside[-1]) if inside else folder.root_path.name)
    await agent.runtime.in_thread(must_be_free, target)
    temporary = to / f".meshsync-restore-{agent.runtime.random_bytes(8).hex()}"
    total, done, area = sum(was.content.size for was in wanted), 0, kept_area(folder)

    def place(was: Was) -> Path:
        return temporary.joinpath(*map(os.fsdecode, was.path[len(inside) :]))

    async def write(was: Was) -> None:
        nonlocal done
        last = b""  # written with what ends the file: a small one costs one job of a thread
        with _Written(place(was), was) as file:
            async for piece in version_pieces(agent, folder, was.content, display(was.path), area):
                if last:
                    await agent.runtime.in_thread(file.write, last)
                last = piece
                done += len(piece)
                progress(done, total)
            await agent.runtime.in_thread(file.finish, last)

    async def write_all(rest: Iterator[Was]) -> None:
        for was in rest:
            await write(was)

    try:
        await agent.runtime.in_thread(lambda: to.mkdir(parents=True, exist_ok=True))
        if not inside:
            temporary.mkdir()
        for was in wanted:
            if was.content.kind is Kind.DIRECTORY:
                place(was).mkdir()
            elif was.content.kind is Kind.LINK:
                place(was).symlink_to(os.fsdecode(was.content.target))
        files = iter([was for was in wanted if was.content.kind is Kind.FILE])
        await _all_of(
            [write_all(files) for _ in range(RESTORE_AT_ONCE)]
        )  # a disk makes some durable in the time of one
        await agent.runtime.in_thread(must_be_free, target)
        await agent.runtime.in_thread(temporary.rename, target)
    except OSError as error:
        raise ResourceError(f"the version cannot be written: {error.strerror}", path=str(target)) from error
    finally:
        await agent.runtime.in_thread(_remove, temporary)
    return target


async def _all_of(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Do all of `work` at once, and return or raise the first error once all have ended."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


class _Written:
    """A file that threads make and write; leaving it waits for the one at work, and lets no other begin."""

    def __init__(self, path: Path, was: Was) -> None:
        self._path, self._was = path, was
        self._file: BinaryIO | None = None
        self._gate = Gate()

    def __enter__(self) -> _Written:
        return self

    def __exit__(self, *error: object) -> None:
        self._gate.close()
        if self._file is not None:
            self._file.close()

    def write(self, piece: bytes) -> None:
        """Append `piece`. Raises OSError, also if the file was there."""
        with self._gate.enter() as entered:
            if entered:
                self._made().write(piece)

    def finish(self, last: bytes) -> None:
        """Append `last`, set exec bit and mtime, make all of it durable and close it. Raises OSError as `write`."""
        with self._gate.enter() as entered:
            if entered:
                file, was = self._made(), self._was
                file.write(last)
                file.flush()
                mode = os.fstat(file.fileno()).st_mode & 0o777
                os.fchmod(file.fileno(), mode | (mode & 0o444) >> 2 if was.executable else mode)
                os.utime(file.fileno(), ns=(was.mtime_ns, was.mtime_ns))
                os.fsync(file.fileno())
                file.close()

    def _made(self) -> BinaryIO:
        if self._file is None:
            self._file = self._path.open("xb")
        return self._file


class InPlace:
    """One restore at work. What is not as in `seen` any more (None: nothing there) stays as it is."""

    def __init__(
        self,
        agent: Agent,
        folder: Folder,
        loop: FolderLoop,
        placer: Placer,
        progress: Progress,
        total: int,
        seen: Mapping[TreePath, Content | None] = MappingProxyType({}),
    ) -> None:
        self.done = Restored()
        self._seen = seen
        self._agent, self._folder, self._loop, self._placer = agent, folder, loop, placer
        self._progress, self._total, self._bytes = progress, total, 0
        self._label = agent.runtime.random_bytes(HELD_ID_BYTES).hex().encode()
        self._room = asyncio.Semaphore(RESTORE_AT_ONCE)
        self._gate = Gate()

    async def take(self, batch: Sequence[Was]) -> None:
        """Stage what has to be, then put all of the batch in place in one turn. Given up half-way, it ends there."""
        to_write = [was for was in batch if not self._placer.is_so(was) and self._is_as_seen(was.path)]
        self.done.unchanged += sum(map(self._placer.is_so, batch))
        self._count(sum(was.content.size for was in batch) - sum(was.content.size for was in to_write))
        staged: dict[TreePath, StagedFile] = {}
        area = kept_area(self._folder)  # anew for each batch: the one before may have set aside what this one needs
        tasks = [
            self._agent.runtime.spawn(self._stage(was, staged, area), "restore")
            for was in to_write
            if self._placer.needs_content(was)
        ]
        try:
            failed = {path: why for path, why in await asyncio.gather(*tasks) if why}
            self.done.skipped += failed.items()
            complete = [was for was in to_write if was.path not in failed]
            paths = [path for was in complete for path in upward(was.path)]
            await self._loop.turns.take(lambda: self._change(paths, lambda: self._put(complete, staged)))
        except BaseException:
            self._gate.close()  # a thread may be at work on what is discarded next
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for file in staged.values():
                file.discard()

    async def remove(self, batch: Sequence[TreePath]) -> None:
        """Remove all of the batch in one turn, what is in a directory before it. Given up half-way, it ends there."""
        paths = [path for path in batch if self._is_as_seen(path)]
        try:
            await self._loop.turns.take(lambda: self._change(paths, lambda: self._remove(paths)))
        except BaseException:
            self._gate.close()
            raise

    async def _change(self, paths: Sequence[TreePath], change: Callable[[], None]) -> None:
        """Within a turn: no safeguard holds what the user asked for, and the next round looks at it."""
        await self._folder.guard.allow([row.node for path in paths for row in self._folder.synced.at(path)])
        self._loop.look_at(paths)
        await self._agent.runtime.in_thread(change)

    def _is_as_seen(self, path: TreePath) -> bool:
        if path not in self._seen or self._placer.content_at(path) == self._seen[path]:
            return True
        self.done.skipped.append((path, "something else lies there: it was changed just now, or a change waits"))
        return False

    def _remove(self, paths: Sequence[TreePath]) -> None:
        for path in paths:
            with self._gate.enter() as entered:
                if not entered:
                    return
                try:
                    if self._placer.remove(path, self._label):
                        self.done.removed.append(path)
                except MeshsyncError as error:
                    self.done.skipped.append((path, error.what))

    async def _stage(self, was: Was, staged: dict[TreePath, StagedFile], area: KeptArea) -> tuple[TreePath, str]:
        in_thread, offset = self._agent.runtime.in_thread, 0
        async with self._room:
            try:
                await in_thread(self._create, was, staged)
                async for piece in version_pieces(self._agent, self._folder, was.content, display(was.path), area):
                    await in_thread(self._write, staged[was.path], offset, piece)
                    offset += len(piece)
                    self._count(len(piece))
            except MeshsyncError as error:
                return was.path, error.what
        return was.path, ""

    def _create(self, was: Was, staged: dict[TreePath, StagedFile]) -> None:
        with self._gate.enter() as entered:
            if entered:
                staged[was.path] = self._placer.create(was)

    def _write(self, file: StagedFile, offset: int, piece: bytes) -> None:
        with self._gate.enter() as entered:
            if entered:
                file.write(offset, piece)

    def _put(self, batch: Sequence[Was], staged: dict[TreePath, StagedFile]) -> None:
        for was in batch:
            with self._gate.enter() as entered:
                if not entered:
                    return
                try:
                    self._put_one(was, staged.get(was.path))
                except MeshsyncError as error:
                    self.done.skipped.append((was.path, error.what))

    def _put_one(self, was: Was, file: StagedFile | None) -> None:
        above = directory_above(was)
        self.done.written += [at for at in self._placer.make_directories(above, self._label) if at != was.path]
        if above != was.path:
            if file is not None:
                self._placer.finish(was, file)
            self._placer.put(was, file, self._label)
        self.done.written.append(was.path)

    def _count(self, size: int) -> None:
        self._bytes += size
        self._progress(min(self._bytes, self._total), self._total)


def ready(folder: Folder) -> tuple[FolderLoop, Placer]:
    """Return what works on the folder's files. Raises as `restore_in_place`."""
    check_present(folder)
    if folder.joining or folder.loop is None or folder.placer is None:
        raise TransientError("the folder is not ready yet", folder=folder.name, next_step="meshsync status")
    if not folder.replica.membership.may_write(folder.replica.device.device):
        raise RoleForbids(
            "this device may only read the folder", folder=folder.name, next_step="Restore elsewhere: --to DIR"
        )
    return folder.loop, folder.placer


def batches(wanted: Sequence[Was]) -> Iterator[list[Was]]:
    """Yield what is put in place at a time, in order."""
    batch: list[Was] = []
    size = 0
    for was in wanted:
        batch.append(was)
        size += was.content.size
        if len(batch) >= RESTORE_BATCH_FILES or size >= RESTORE_BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def upward(path: TreePath) -> list[TreePath]:
    """Return the path, and before it those of the directories above."""
    return [path[:depth] for depth in range(1, len(path) + 1)]


def must_be_free(target: Path) -> None:
    """Raise ConfigError if anything lies at `target`. Blocking."""
    if os.path.lexists(target):
        raise ConfigError("something lies there already", path=str(target), next_step="Name another directory.")


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
