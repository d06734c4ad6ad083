"""Fetches the contents that planned writes need, some at once, and keeps them staged until they are applied.

Invariant: one fetch for each node; a staged file is kept by name in the index from its creation, so a restart goes on
with what it holds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from meshsync.agent.fetcher import Fetcher
from meshsync.agent.folder_store import FolderStore
from meshsync.agent.local_chunks import LocalChunks
from meshsync.agent.observer import display
from meshsync.agent.partial_rows import PartialRows
from meshsync.agent.small_fetch import SmallFetch, is_small
from meshsync.agent.staged import Staged
from meshsync.agent.version_fetch import VersionFetch
from meshsync.agent.work import path_text
from meshsync.content.record import Content
from meshsync.crypto.folder_keys import FolderKeys
from meshsync.errors import MeshsyncError, TransientError
from meshsync.folder.staging import StagedFile, Staging
from meshsync.ids import NodeId
from meshsync.limits import FETCH_PARTIAL_BYTES_MIN, FETCH_SMALL_BATCH, FETCH_VERSIONS_MAX
from meshsync.runtime import Runtime
from meshsync.sync.actions import WriteFile, nodes_of


class FetchPool:
    """Belongs to one loop. `on_ready` is told when something finished or failed."""

    def __init__(
        self,
        runtime: Runtime,
        fetcher: Fetcher,
        local: LocalChunks,
        store: FolderStore,
        staging: Callable[[], Staging],
        partial: PartialRows,
        keys: Callable[[], FolderKeys],
        chunk_min: int,
        on_ready: Callable[[], None],
    ) -> None:
        self.done_bytes = 0
        self._runtime = runtime
        self._fetcher = fetcher
        self._local = local
        self._store = store
        self._staging = staging
        self._partial = partial
        self._keys = keys
        self._chunk_min = chunk_min
        self._on_ready = on_ready
        self._wanted: dict[NodeId, WriteFile] = {}
        self._queue: deque[NodeId] = deque()
        self._queued: set[NodeId] = set()
        self._running: dict[NodeId, asyncio.Task[None]] = {}
        self._ending: dict[asyncio.Task[None], NodeId] = {}  # cancelled, but not through with their staged files
        self._small = SmallFetch(runtime, fetcher, local, store.chunks, staging, self._small_done, self._is_wanted)
        self._staged: dict[NodeId, tuple[Content, Staged]] = {}
        self._finished: list[NodeId] = []
        self._failed: list[tuple[NodeId, str]] = []
        self._closed = False

    @property
    def total_bytes(self) -> int:
        """Content bytes of all versions that are wanted and not applied yet."""
        return sum(action.content.size for action in self._wanted.values())

    def want(self, action: WriteFile) -> bool:
        """See to it that the content of `action` gets staged; return whether it is already."""
        node = action.node
        held = self._staged.get(node)
        if held is not None and held[0] == action.content and held[1].file.name:  # else it was lost in the control area
            self._wanted[node] = action
            return True
        before = self._wanted.get(node)
        if before is not None and before.content == action.content and node not in self._staged:
            self._wanted[node] = action
            if node in self._running or node in self._queued:
                return False
        elif before is not None:
            self._end(node, action)
        self._wanted[node] = action
        self._queue.append(node)
        self._queued.add(node)
        return False

    def start(self) -> None:
        """Begin to fetch what is wanted, as far as the bounds allow; nothing once the pool is closed."""
        if self._closed:
            return
        batch: list[WriteFile] = []
        while self._queue and len(self._running) + len(self._staged) < FETCH_VERSIONS_MAX:
            node = self._queue.popleft()
            self._queued.discard(node)
            action = self._wanted.get(node)
            if action is None or node in self._running or node in self._staged:
                continue
            if not is_small(action.content):
                self._running[node] = self._runtime.spawn(self._fetch(node, action), "fetch version")
                continue
            batch.append(action)
            if len(batch) >= FETCH_SMALL_BATCH:
                self._start_small(batch)
                batch = []
        if batch:
            self._start_small(batch)

    def _start_small(self, batch: list[WriteFile]) -> None:
        task = self._runtime.spawn(self._run_small(batch), "fetch small files")
        for action in batch:
            self._running[action.node] = task

    async def _run_small(self, batch: list[WriteFile]) -> None:
        try:
            await self._small.run(batch)
        finally:
            for action in batch:
                if self._running.get(action.node) is asyncio.current_task():
                    del self._running[action.node]
            self.start()
            self._on_ready()

    def _small_done(self, action: WriteFile, staged: Staged | None, why: str) -> None:
        node = action.node
        if not self._is_wanted(action):  # another content of the node may be on its way
            if staged is not None:
                staged.file.discard()
            return
        self._running.pop(node, None)
        if staged is None:
            if why:
                self._failed.append((node, why))
        elif node not in self._staged:
            self._staged[node] = (action.content, staged)
            self._finished.append(node)
            self._progress(action.content.size)
        else:
            staged.file.discard()
        self._on_ready()

    def unavailable(self) -> set[NodeId]:
        """Return the nodes that wait for what none of those that are asked has."""
        lacking = self._fetcher.waiting_for()
        actions = [self._wanted[node] for node in self._running if node in self._wanted]
        found = [action for action in actions if lacking.get(display(path_text(action.target))) == []]
        return {node for action in found for node in nodes_of(action)}

    def staged(self, node: NodeId) -> Staged:
        """Return the staged content of a node that was reported as finished."""
        return self._staged[node][1]

    def take_finished(self) -> list[NodeId]:
        """Return the nodes whose content was staged since the last call."""
        finished, self._finished = self._finished, []
        return [node for node in finished if node in self._staged]

    def take_failed(self) -> list[tuple[NodeId, str]]:
        """Return the nodes that could not be fetched since the last call, and why."""
        failed, self._failed = self._failed, []
        return failed

    async def clear(self) -> bool:
        """Remove staged files that the disk refused to remove before; return whether it refuses some still."""
        staging = self._staging()
        if staging.has_left:
            await self._runtime.in_thread(staging.clear)
        return staging.has_left

    def cancel(self, node: NodeId) -> None:
        """Stop fetching; what was fetched is discarded."""
        self.discard(node)

    def forget(self, node: NodeId) -> None:
        """The content was put in place."""
        self._wanted.pop(node, None)
        self._staged.pop(node, None)
        self._partial.forget(node)
        self.start()

    def discard(self, node: NodeId) -> None:
        """Throw away what is staged or being fetched for `node`."""
        self._end(node, None)

    def _end(self, node: NodeId, successor: WriteFile | None) -> None:
        """End what is done for `node`. What is staged goes, unless the fetch for `successor` can begin with it.

        A file that grows or is written to again and again, faster than it can be fetched, is complete here only if each
        fetch goes on from the one before.
        """
        self._wanted.pop(node, None)
        self._small.drop(node)
        task = self._running.pop(node, None)
        if task is not None and task not in self._running.values():
            task.cancel()  # of a batch of small files the others go on
            self._ending[task] = node
            task.add_done_callback(lambda done: self._ending.pop(done, None))
        held, begun = self._staged.pop(node, None), self._partial.name(node)
        is_there = begun is not None and (held is None or held[1].file.name == begun)  # not lost on its way to the tree
        if successor is not None and _may_go_on(successor) and is_there:
            if held is not None:
                held[1].file.close()
            return
        if held is not None:
            held[1].file.discard()
        elif begun is not None and task is None:  # left by a fetch that ended early, for the next one to go on with
            self._staging().remove_soon(begun)
        self._partial.forget(node)

    async def close(self) -> None:
        """Stop all fetches and begin no more; staged files stay for the next start."""
        self._closed = True  # a fetch that ends gives its place to one that waits
        tasks = set(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self._ending, return_exceptions=True)
        for _, staged in self._staged.values():
            staged.file.close()

    async def _fetch(self, node: NodeId, action: WriteFile) -> None:
        before = [task for task, ending in self._ending.items() if ending == node]
        opening = self._runtime.spawn(self._opened(node, action, before), "open staged file")
        kept = False
        try:
            staged, resumed = await asyncio.shield(opening)
            base = await self._runtime.in_thread(self._store.chunks.file_chunks, node)
            fetch = VersionFetch(
                self._runtime,
                self._fetcher,
                self._local,
                self._keys(),
                content=action.content,
                chunk_min=self._chunk_min,
                path=display(path_text(action.target)),
                base=base,
                on_progress=self._progress,
            )
            fetched = await fetch.into(staged, resumed)
            if self._is_wanted(action):
                kept = True
                content = Staged(staged, tuple(fetched.chunks), tuple(fetched.lists))
                self._staged[node] = (action.content, content)
                self._finished.append(node)
        except TransientError:
            pass  # the agent is stopping: what is staged stays
        except MeshsyncError as error:
            self._failed.append((node, error.what))
        finally:
            if self._running.get(node) is asyncio.current_task():
                del self._running[node]
            if not kept:
                await self._leave(node, action, opening)
            self.start()
            self._on_ready()

    async def _leave(self, node: NodeId, action: WriteFile, opening: asyncio.Task[tuple[StagedFile, bool]]) -> None:
        """Keep the staged file of a fetch that ended early if the next try goes on with it, else remove it."""
        try:
            file, _ = await opening  # a thread cannot be stopped: what it opened is there when it ends
        except MeshsyncError:
            return
        is_known, wanted = self._partial.name(node) == file.name, self._wanted.get(node)
        if is_known and wanted is not None and _may_go_on(wanted):
            file.close()
            return
        file.discard()
        if is_known:
            self._partial.forget(node)

    def _is_wanted(self, action: WriteFile) -> bool:
        wanted = self._wanted.get(action.node)
        return wanted is not None and wanted.content == action.content

    async def _opened(
        self, node: NodeId, action: WriteFile, before: list[asyncio.Task[None]]
    ) -> tuple[StagedFile, bool]:
        if before:
            await asyncio.wait(before)  # a staged file has one writer
        return await self._runtime.in_thread(self._open, node, action)

    def _open(self, node: NodeId, action: WriteFile) -> tuple[StagedFile, bool]:
        """Return the staged file that was begun for the node, whether for this content or an earlier one, or a new one;
        and whether it may hold chunks. Blocking.
        """
        staging, size = self._staging(), action.content.size
        name = self._partial.name(node)
        if name is not None:
            file = staging.reopen(name)
            try:
                if file is not None and _may_go_on(action):
                    file.resize(size)
                    self._partial.set(node, name)
                    return file, True
            except MeshsyncError:
                assert file is not None
                file.discard()
                raise
            if file is not None:
                file.discard()
        file = staging.create(size)
        try:
            if _may_go_on(action):
                self._partial.set(node, file.name)
        except MeshsyncError:
            file.discard()
            raise
        return file, False

    def _progress(self, size: int) -> None:
        self.done_bytes += size


def _may_go_on(action: WriteFile) -> bool:
    """Whether a fetch for `action` may begin with what an earlier one staged, and is kept for a later one."""
    return action.content.size >= FETCH_PARTIAL_BYTES_MIN and not is_small(action.content)
