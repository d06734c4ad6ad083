"""Fetching many files of one chunk together: one look-up, one request for each chunk, no task for each file.

Invariant: each action is reported exactly once, with a staged file or a reason, unless the run is cancelled.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from functools import partial

from meshsync.agent.fetcher import Fetcher
from meshsync.agent.local_chunks import LocalChunks
from meshsync.agent.observer import display
from meshsync.agent.staged import Staged
from meshsync.agent.work import path_text
from meshsync.content.record import Content
from meshsync.content.seal import BlobKind
from meshsync.errors import ManifestMismatch, MeshsyncError, TransientError
from meshsync.folder.staging import Staging
from meshsync.ids import ChunkId, NodeId
from meshsync.index.chunk_rows import ChunkRows
from meshsync.runtime import Runtime
from meshsync.sync.actions import WriteFile
from meshsync.transport.base import Priority

Report = Callable[[WriteFile, Staged | None, str], None]
"""Called on the loop: the staged content, or None and why not; None and "" if it was interrupted."""


def is_small(content: Content) -> bool:
    """Whether a file is one chunk, or empty."""
    return content.depth == 0


class _Held:
    """The staged file of one request. A thread may bring it after nobody waits any more; then it is removed."""

    def __init__(self) -> None:
        self.staged: Staged | None = None
        self._lock = threading.Lock()
        self._is_let_go = False

    def keep(self, staged: Staged) -> None:
        """Hold `staged`; it goes away again if nobody waits any more, or another source was faster."""
        with self._lock:
            if not self._is_let_go and self.staged is None:
                self.staged = staged
                return
        staged.file.discard()

    def let_go(self) -> None:
        with self._lock:
            self._is_let_go = True
        if self.staged is not None:
            self.staged.file.discard()


class SmallFetch:
    """Fetches batches of small files of one folder."""

    def __init__(
        self,
        runtime: Runtime,
        fetcher: Fetcher,
        local: LocalChunks,
        chunks: ChunkRows,
        staging: Callable[[], Staging],
        report: Report,
        is_wanted: Callable[[WriteFile], bool],
    ) -> None:
        self._runtime = runtime
        self._fetcher = fetcher
        self._local = local
        self._chunks = chunks
        self._staging = staging
        self._report = report
        self._is_wanted = is_wanted
        self._requests: dict[NodeId, asyncio.Future[bytes]] = {}

    async def run(self, actions: Sequence[WriteFile]) -> None:
        """Stage the contents of `actions`, reporting each as it is there. Cancel to stop."""
        futures: list[asyncio.Future[bytes]] = []
        placing = self._runtime.spawn(self._runtime.in_thread(self._place, actions), "place small files")
        try:
            placed = await asyncio.shield(placing)
        except asyncio.CancelledError:
            for found, _ in await placing:  # a thread cannot be stopped: what it staged is there when it ends
                if isinstance(found, Staged):
                    found.file.discard()
            raise
        try:
            for action, (found, base) in zip(actions, placed, strict=True):
                if found is None and not self._is_wanted(action):
                    self._report(action, None, "")
                elif isinstance(found, MeshsyncError):
                    self._report(action, None, found.what)
                elif found is not None:
                    self._report(action, found, "")
                else:
                    futures.append(self._request(action, base))
            await asyncio.gather(*futures, return_exceptions=True)
        finally:
            for future in futures:
                future.cancel()

    def drop(self, node: NodeId) -> None:
        """Stop asking for one of a batch, whose content may be nowhere any more; the others go on."""
        request = self._requests.pop(node, None)
        if request is not None:
            request.cancel()

    def _request(self, action: WriteFile, base: bytes | None) -> asyncio.Future[bytes]:
        content = action.content
        held = _Held()
        future = self._fetcher.request(
            content.root,
            BlobKind.CHUNK,
            content.size,
            Priority.INTERACTIVE,
            base=base,
            path=display(path_text(action.target)),
            sink=partial(self._take, content, held),
        )
        self._requests[action.node] = future
        future.add_done_callback(lambda done: self._finish(action, held, done))
        return future

    def _finish(self, action: WriteFile, held: _Held, future: asyncio.Future[bytes]) -> None:
        if self._requests.get(action.node) is future:
            del self._requests[action.node]
        error = None if future.cancelled() else future.exception()
        if held.staged is not None and error is None and not future.cancelled():
            self._report(action, held.staged, "")
            return
        held.let_go()
        interrupted = error is None or isinstance(error, TransientError)
        self._report(action, None, "" if interrupted else str(error))

    def _take(self, content: Content, held: _Held, data: bytes) -> None:
        held.keep(self._stage(content, data))

    def _stage(self, content: Content, data: bytes) -> Staged:
        if len(data) != content.size:
            raise ManifestMismatch(f"a version of {content.size} bytes whose one chunk has {len(data)}")
        file = self._staging().create(content.size)
        try:
            if data:
                file.write(0, data)
        except MeshsyncError:
            file.discard()
            raise
        return Staged(file, ((content.root, content.size),) if data else (), ())

    def _place(self, actions: Sequence[WriteFile]) -> list[tuple[Staged | MeshsyncError | None, bytes | None]]:
        """Stage what is on this device already; for the rest find what it may be a small change of. Blocking."""
        try:
            here = self._local.find_chunks([action.content.root for action in actions if action.content.size])
        except MeshsyncError as error:
            return [(error, None) for _ in actions]
        placed: list[tuple[Staged | MeshsyncError | None, bytes | None]] = []
        for action in actions:
            data = here.get(action.content.root) if action.content.size else b""
            try:
                placed.append((None, self._base(action)) if data is None else (self._stage(action.content, data), None))
            except MeshsyncError as error:
                placed.append((error, None))
        return placed

    def _base(self, action: WriteFile) -> bytes | None:
        if action.expected is None:
            return None  # nothing lies there: the file is new
        chunks: list[tuple[ChunkId, int]] = self._chunks.file_chunks(action.node)
        return self._local.find(chunks[0][0], BlobKind.CHUNK) if len(chunks) == 1 else None
