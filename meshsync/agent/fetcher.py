"""One folder's hunt for chunks: a bounded queue of needs, and workers that ask every source that may have them.

Invariant: a chunk is asked for once at a time, whoever needs it; one that fails its check is the only thing asked for
again, from another source first; a need ends in its bytes or in SourceUnavailable, never silently.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from meshsync.content.seal import BlobKind
from meshsync.errors import AccessError, MeshsyncError, SourceUnavailable
from meshsync.ids import ChunkId, EpochId
from meshsync.limits import (
    FETCH_BATCH_BYTES,
    FETCH_BATCHES_PER_SOURCE,
    FETCH_DAMAGED_TRIES_MAX,
    FETCH_LATE_BYTES_MAX,
    FETCH_OPEN_BYTES,
    FETCH_RETRY_S,
    WANT_ITEMS_MAX,
)
from meshsync.runtime import Runtime
from meshsync.transport.base import Priority

log = logging.getLogger(__name__)

Sink = Callable[[bytes], None]
"""Takes a chunk's checked bytes, in a thread. What it raises ends the request."""


@dataclass(eq=False, slots=True)
class Waiter:
    """One request for a chunk, for `path`. With a `sink` the bytes go there and the future gets b""."""

    future: asyncio.Future[bytes]
    sink: Sink | None
    path: str = ""


@dataclass(eq=False, slots=True)
class Need:
    """One chunk that is wanted. `base` is a chunk on this device to make a delta against, if any."""

    chunk: ChunkId
    kind: BlobKind
    size: int
    priority: Priority
    base: bytes | None = None
    path: str = ""
    waiters: list[Waiter] = field(default_factory=list)
    lacking: set[str] = field(default_factory=set)  # sources that do not have it now
    damaged: dict[str, int] = field(default_factory=dict)  # times that a source's answer failed its check


@dataclass(frozen=True, slots=True)
class Sealed:
    """A source's answer: `form` 0 a whole chunk, 1 a piece delta."""

    need: Need
    form: int
    epoch: EpochId
    blob: bytes


@dataclass(frozen=True, slots=True)
class Absent:
    """The source does not have it; `damaged` if it had but its copy failed its check there."""

    need: Need
    damaged: bool = False


class Source(Protocol):
    """Somewhere to ask for chunks."""

    @property
    def name(self) -> str:
        """What the user calls it; unique among this folder's sources."""

    def may_have(self, need: Need) -> bool:
        """Return whether asking makes sense."""

    def fetch(self, needs: Sequence[Need], priority: Priority) -> AsyncGenerator[Sealed | Absent, None]:
        """Yield one answer for each need, in any order; a need without one counts as absent.

        Raises TransientError when the source is gone, PeerError or another typed error when it does not answer.
        """


Opener = Callable[[Sealed], bytes]
"""Open and check an answer, in a thread. Raises IntegrityError or PeerError if it is not the chunk, AccessError if the
key of its epoch is not here yet."""


class Fetcher:
    """Belongs to one loop. `on_damaged(need, source)` is told of every answer that failed its check."""

    def __init__(
        self,
        runtime: Runtime,
        opener: Opener,
        on_fetched: Callable[[Need, int], None],
        on_damaged: Callable[[Need, str], None],
    ) -> None:
        self._runtime = runtime
        self._opener = opener
        self._on_fetched = on_fetched
        self._on_damaged = on_damaged
        self._needs: dict[ChunkId, Need] = {}
        self._queues: dict[Priority, OrderedDict[ChunkId, Need]] = {
            Priority.INTERACTIVE: OrderedDict(),
            Priority.BULK: OrderedDict(),
        }
        self._workers: dict[str, list[asyncio.Task[None]]] = {}
        self._sources: dict[str, Source] = {}
        self._news = asyncio.Event()
        self._retry: asyncio.Task[None] | None = None
        self._late: dict[ChunkId, bytes] = {}  # came when nobody waited for them any more
        self._closed = False

    @property
    def pending(self) -> int:
        """How many chunks are wanted and not here."""
        return sum(1 for need in self._needs.values() if need.waiters)

    def waiting_for(self) -> dict[str, list[str]]:
        """Return, for each path that waits for a chunk nobody gives, the sources that failed their check."""
        names = set(self._sources)
        return {
            waiter.path: sorted(n.damaged)
            for n in self._needs.values()
            if names <= (n.lacking | n.damaged.keys())
            for waiter in n.waiters
            if waiter.path
        }

    def request(
        self,
        chunk: ChunkId,
        kind: BlobKind,
        size: int,
        priority: Priority,
        *,
        base: bytes | None = None,
        path: str = "",
        sink: Sink | None = None,
    ) -> asyncio.Future[bytes]:
        """Ask for a chunk; the future ends with its checked bytes, however long no source has it. Cancel to give up.

        `base`: a chunk held here that it may be a small change of. `path`: what it is for, for messages. The future
        ends with SourceUnavailable when the fetcher is closed.
        """
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if self._closed:
            future.set_exception(_stopping())
            return future
        late = self._late.pop(chunk, None)
        if late is not None:
            _finish(Waiter(future, sink, path), late, {})
            return future
        need = self._needs.get(chunk)
        if need is None:
            need = Need(chunk, kind, size, priority, base, path)
            self._needs[chunk] = self._queues[priority][chunk] = need
            self._notify()
        elif priority < need.priority:
            self._hasten(need, priority)
        waiter = Waiter(future, sink, path)
        need.waiters.append(waiter)
        future.add_done_callback(lambda _: self._leave(need, waiter))
        return future

    def _hasten(self, need: Need, priority: Priority) -> None:
        if self._queues[need.priority].pop(need.chunk, None) is not None:
            self._queues[priority][need.chunk] = need
        need.priority = priority

    def _leave(self, need: Need, waiter: Waiter) -> None:
        if waiter in need.waiters:
            need.waiters.remove(waiter)
        if need.waiters or self._needs.get(need.chunk) is not need:
            return
        # One that is being asked for stays, so that a new request for it does not ask a second time.
        if self._queues[need.priority].pop(need.chunk, None) is not None:
            del self._needs[need.chunk]

    async def add_source(self, source: Source) -> None:
        """Begin to ask `source`; one of the same name is replaced, and its damaged answers are forgiven."""
        while (before := self._sources.get(source.name)) is not None:
            await self.remove_source(before)
        if self._closed:
            return
        for need in self._needs.values():
            need.damaged.pop(source.name, None)
        self._sources[source.name] = source
        self._workers[source.name] = [
            self._runtime.spawn(self._work(source), f"fetch from {source.name}")
            for _ in range(FETCH_BATCHES_PER_SOURCE)
        ]
        self.news(source.name)
        if self._retry is None:
            self._retry = self._runtime.spawn(self._retry_loop(), "fetch retry")

    async def remove_source(self, source: Source) -> None:
        """Stop asking `source`, unless another has its name by now; what it had not answered goes to the others."""
        if self._sources.get(source.name) is not source:
            return
        del self._sources[source.name]
        tasks = self._workers.pop(source.name)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def source_names(self) -> list[str]:
        """Return the names of all sources that are asked."""
        return list(self._sources)

    def news(self, name: str) -> None:
        """Ask `name` again for what it lacked: it has more now."""
        for need in self._needs.values():
            need.lacking.discard(name)
        self._notify()

    async def close(self) -> None:
        """Stop all workers; needs that wait, and requests from now on, end with SourceUnavailable."""
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
            await asyncio.gather(self._retry, return_exceptions=True)
        for source in list(self._sources.values()):
            await self.remove_source(source)
        for need in list(self._needs.values()):
            self._fail(need, _stopping())
        for queue in self._queues.values():
            queue.clear()
        self._late.clear()

    def _notify(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _retry_loop(self) -> None:
        while True:
            await self._runtime.sleep(FETCH_RETRY_S)
            self._late.clear()
            for queue in self._queues.values():
                for need in queue.values():
                    need.lacking.clear()
            self._notify()

    def _take(self, source: Source) -> list[Need]:
        for priority in (Priority.INTERACTIVE, Priority.BULK):
            batch: list[Need] = []
            size = 0
            for need in self._queues[priority].values():
                if len(batch) >= WANT_ITEMS_MAX or size >= FETCH_BATCH_BYTES:
                    break
                if self._askable(source, need):
                    batch.append(need)
                    size += need.size
            for need in batch:
                del self._queues[priority][need.chunk]
            if batch:
                return batch
        return []

    def _give_back(self, need: Need) -> None:
        if self._needs.get(need.chunk) is not need:
            return
        if need.waiters:
            queue = self._queues[need.priority]
            queue[need.chunk] = need
            queue.move_to_end(need.chunk, last=False)
        else:
            del self._needs[need.chunk]

    def _askable(self, source: Source, need: Need) -> bool:
        if source.name in need.lacking or not source.may_have(need):
            return False
        tries = need.damaged.get(source.name, 0)
        if not tries:
            return True
        others = any(
            name != source.name and name not in need.lacking and name not in need.damaged and other.may_have(need)
            for name, other in self._sources.items()
        )
        return not others and tries < FETCH_DAMAGED_TRIES_MAX

    async def _work(self, source: Source) -> None:
        while True:
            news = self._news
            batch = self._take(source)
            if not batch:
                await news.wait()
                continue
            open_needs = {id(need): need for need in batch}
            try:
                await self._ask(source, batch, open_needs)
            except MeshsyncError as error:
                log.info("%s does not answer: %s", source.name, error)
                for need in open_needs.values():
                    need.lacking.add(source.name)
            finally:
                for need in reversed(open_needs.values()):
                    self._give_back(need)
                if open_needs:
                    self._notify()

    async def _ask(self, source: Source, batch: list[Need], open_needs: dict[int, Need]) -> None:
        unanswered = dict(open_needs)
        arrived: list[Sealed] = []
        size = 0
        async with aclosing(source.fetch(batch, batch[0].priority)) as answers:
            async for answer in answers:
                need = unanswered.pop(id(answer.need), None)
                if need is None:
                    continue
                if isinstance(answer, Absent):
                    need.lacking.add(source.name)
                    if answer.damaged:
                        self._note_damaged(need, source.name)
                    continue
                arrived.append(answer)
                size += len(answer.blob)
                if size >= FETCH_OPEN_BYTES:
                    await self._open(source, arrived, open_needs)
                    arrived, size = [], 0
        for need in unanswered.values():
            need.lacking.add(source.name)
        if arrived:
            await self._open(source, arrived, open_needs)

    async def _open(self, source: Source, arrived: list[Sealed], open_needs: dict[int, Need]) -> None:
        for answer, result in zip(arrived, await self._runtime.in_thread(self._open_all, arrived), strict=True):
            need = answer.need
            if isinstance(result, MeshsyncError):
                if answer.form and need.base is not None:
                    need.base = None  # a delta that does not fit is no damage: ask for the whole chunk
                elif isinstance(result, AccessError):
                    need.lacking.add(source.name)  # sealed under an epoch whose key comes with the membership chain
                else:
                    self._note_damaged(need, source.name)
                continue
            open_needs.pop(id(need), None)
            self._deliver(need, result)
            self._on_fetched(need, len(answer.blob))

    def _open_all(self, arrived: list[Sealed]) -> list[_Opened | MeshsyncError]:
        results: list[_Opened | MeshsyncError] = []
        for answer in arrived:
            try:
                data = self._opener(answer)
            except MeshsyncError as error:
                results.append(error)
                continue
            sunk = {id(waiter): _sink(waiter, data) for waiter in list(answer.need.waiters)}
            results.append(_Opened(data, sunk))
        return results

    def _note_damaged(self, need: Need, source: str) -> None:
        need.damaged[source] = need.damaged.get(source, 0) + 1
        self._on_damaged(need, source)

    def _deliver(self, need: Need, opened: _Opened) -> None:
        if self._needs.get(need.chunk) is need:
            del self._needs[need.chunk]
        if not need.waiters:
            self._keep_late(need.chunk, opened.data)
        for waiter in list(need.waiters):
            # One that came while the chunk was being opened has not been served by the thread.
            _finish(waiter, opened.data, opened.sunk)

    def _keep_late(self, chunk: ChunkId, data: bytes) -> None:
        """Keep a chunk for a while whose request was given up while it was on its way.

        Who gives up the fetch of a content for that of its successor soon asks for most of its chunks again.
        """
        self._late[chunk] = data
        size = sum(map(len, self._late.values()))
        while size > FETCH_LATE_BYTES_MAX:
            size -= len(self._late.pop(next(iter(self._late))))

    def _fail(self, need: Need, error: MeshsyncError) -> None:
        self._needs.pop(need.chunk, None)
        for waiter in list(need.waiters):
            if not waiter.future.done():
                waiter.future.set_exception(error)


@dataclass(frozen=True, slots=True)
class _Opened:
    """Checked bytes, and what became of each waiter's sink."""

    data: bytes
    sunk: dict[int, MeshsyncError | None]


def _stopping() -> SourceUnavailable:
    return SourceUnavailable("the agent is stopping")


def _finish(waiter: Waiter, data: bytes, sunk: Mapping[int, MeshsyncError | None]) -> None:
    """Give a request its chunk; `sunk` says what became of the sinks that have been served already."""
    outcome = sunk[id(waiter)] if id(waiter) in sunk else _sink(waiter, data)
    if waiter.future.done():
        return
    if outcome is not None:
        waiter.future.set_exception(outcome)
    else:
        waiter.future.set_result(b"" if waiter.sink else data)


def _sink(waiter: Waiter, data: bytes) -> MeshsyncError | None:
    if waiter.sink is not None:
        try:
            waiter.sink(data)
        except MeshsyncError as error:
            return error
    return None
