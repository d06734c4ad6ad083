"""Bringing one version's content to this device: into a staged file, from here first, then from whoever has it.

Invariant: a chunk is written only after its id and length were checked, and never after `into` has ended; one that is
already in the staged file (an earlier run) or anywhere on this device is never asked for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from meshsync.agent.fetcher import Fetcher
from meshsync.agent.gate import Gate
from meshsync.agent.local_chunks import LocalChunks
from meshsync.content.chunk_ids import chunk_id
from meshsync.content.manifest import Node, expand, root_node
from meshsync.content.record import Content
from meshsync.content.seal import BlobKind
from meshsync.crypto.folder_keys import FolderKeys
from meshsync.errors import ManifestMismatch
from meshsync.folder.staging import StagedFile
from meshsync.ids import ChunkId
from meshsync.limits import FETCH_DELTA_CHUNKS_MAX, FETCH_LOCAL_CHUNKS, FETCH_WINDOW_CHUNKS, MANIFEST_LIST_BYTES_MAX
from meshsync.runtime import Runtime
from meshsync.transport.base import Priority

SMALL_BYTES = 1 << 20


@dataclass(slots=True)
class Fetched:
    """What is in the staged file: its chunks in order, and the manifest lists above them."""

    chunks: list[tuple[ChunkId, int]] = field(default_factory=list)
    lists: list[tuple[ChunkId, bytes]] = field(default_factory=list)


class VersionFetch:
    """Fetches the content of one version.

    `base` are the chunks (id, size) of the version that it replaces here. `chunk_min` is the folder's least chunk size
    in bytes, which only a file's last chunk may go below: it bounds how many chunks a file can be said to have.
    """

    def __init__(
        self,
        runtime: Runtime,
        fetcher: Fetcher,
        local: LocalChunks,
        keys: FolderKeys,
        *,
        content: Content,
        chunk_min: int,
        path: str,
        base: Sequence[tuple[ChunkId, int]] = (),
        on_progress: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._runtime = runtime
        self._fetcher = fetcher
        self._local = local
        self._keys = keys
        self._content = content
        self._chunk_min = chunk_min
        self._path = path
        self._on_progress = on_progress
        self._bases = BaseChunks(base)
        self._priority = Priority.INTERACTIVE if content.size <= SMALL_BYTES else Priority.BULK
        self._gate = Gate()
        self.fetched = Fetched()

    async def into(self, staged: StagedFile, resumed: bool) -> Fetched:
        """Fill `staged`; `resumed` if it may hold chunks already. Cancel to stop; another VersionFetch goes on.

        Raises IntegrityError for a malformed manifest, StorageFull, ResourceError, SourceUnavailable.
        """
        pending: deque[asyncio.Future[bytes]] = deque()
        try:
            batch: list[Node] = []
            async for leaf in self._leaves():
                batch.append(leaf)
                self.fetched.chunks.append((leaf.id, leaf.size))
                if len(batch) >= FETCH_LOCAL_CHUNKS:
                    await self._place(batch, staged, resumed, pending)
                    batch = []
            await self._place(batch, staged, resumed, pending)
            while pending:
                await pending.popleft()
        finally:
            self._gate.close()  # a thread may be writing; the caller closes the file next
            for future in pending:
                future.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        return self.fetched

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the content in order, for reading a version without placing it."""
        async for leaf in self._leaves():
            data = await self._runtime.in_thread(self._local.find, leaf.id, BlobKind.CHUNK)
            if data is None:
                data = await self._fetcher.request(leaf.id, BlobKind.CHUNK, leaf.size, self._priority, path=self._path)
            _check_size(leaf, data)
            yield data

    async def _leaves(self) -> AsyncIterator[Node]:
        root = root_node(self._content)
        pending = [iter(() if root is None else (root,))]
        while pending:
            node = next(pending[-1], None)
            if node is None:
                pending.pop()
            elif node.level == 0:
                if node.size < self._chunk_min and node.offset + node.size < self._content.size:
                    raise ManifestMismatch(f"a manifest with a chunk of {node.size} bytes inside the file")
                yield node
            else:
                pending.append(iter(expand(node, await self._list(node))))

    async def _list(self, node: Node) -> bytes:
        data = await self._runtime.in_thread(self._local.find, node.id, BlobKind.MANIFEST)
        if data is None:
            data = await self._fetcher.request(
                node.id, BlobKind.MANIFEST, MANIFEST_LIST_BYTES_MAX, Priority.INTERACTIVE, path=self._path
            )
        self.fetched.lists.append((node.id, data))
        return data

    async def _place(
        self, batch: list[Node], staged: StagedFile, resumed: bool, pending: deque[asyncio.Future[bytes]]
    ) -> None:
        if not batch:
            return
        missing = await self._runtime.in_thread(self._place_local, batch, staged, resumed)
        held = sum(node.size for node in batch) - sum(node.size for node, _ in missing)
        if held:
            self._on_progress(held)
        for node, base in missing:
            while len(pending) >= FETCH_WINDOW_CHUNKS:
                await pending.popleft()
            future = self._fetcher.request(
                node.id,
                BlobKind.CHUNK,
                node.size,
                self._priority,
                base=base,
                path=self._path,
                sink=partial(self._write, staged, node),
            )
            pending.append(future)

    def _write(self, staged: StagedFile, node: Node, data: bytes) -> None:
        _check_size(node, data)
        with self._gate.enter() as entered:
            if not entered:
                return
            staged.write(node.offset, data)
        self._on_progress(node.size)

    def _place_local(self, batch: list[Node], staged: StagedFile, resumed: bool) -> list[tuple[Node, bytes | None]]:
        missing: list[tuple[Node, ChunkId | None]] = []
        held: set[int] = set()
        if resumed:
            held = {at for at, node in enumerate(batch) if self._holds(staged, node)}
        here = self._local.find_chunks([node.id for at, node in enumerate(batch) if at not in held])
        for at, node in enumerate(batch):
            base = self._bases.base_for(node.id)
            if at in held:
                continue
            data = here.get(node.id)
            if data is not None:
                _check_size(node, data)
                staged.write(node.offset, data)
            else:
                missing.append((node, base))
        # Where much has changed it is other content, and looking for equal pieces costs more than it saves.
        few = len(missing) <= FETCH_DELTA_CHUNKS_MAX
        wanted = [base for _, base in missing if base is not None] if few else []
        bases = self._local.find_chunks(wanted)
        return [(node, None if base is None else bases.get(base)) for node, base in missing]

    def _holds(self, staged: StagedFile, node: Node) -> bool:
        return chunk_id(self._keys, BlobKind.CHUNK, staged.read(node.offset, node.size)) == node.id


def _check_size(node: Node, data: bytes) -> None:
    if len(data) != node.size:
        raise ManifestMismatch(f"a manifest gives {node.size} bytes to a chunk of {len(data)}")


class BaseChunks:
    """Pairs each new chunk with the old one that it most likely is a change of: the one at the same place in order."""

    def __init__(self, old: Sequence[tuple[ChunkId, int]]) -> None:
        self._old = [chunk for chunk, _ in old]
        self._at: dict[ChunkId, int] = {}
        for at, chunk in enumerate(self._old):
            self._at.setdefault(chunk, at)
        self._next = 0

    def base_for(self, chunk: ChunkId) -> ChunkId | None:
        """Return the old chunk to make a delta of `chunk` against; call in file order, for every chunk."""
        at = self._at.get(chunk)
        if at is not None:
            self._next = at + 1
            return None
        if self._next >= len(self._old):
            return None
        base = self._old[self._next]
        self._next += 1
        return base
