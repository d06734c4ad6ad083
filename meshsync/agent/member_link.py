"""One link to another device: serves the streams it opens, follows its log for every folder that both share.

Invariant: a stream is served only for a folder whose membership chain names the peer; a broken stream costs itself, a
broken rule costs the link.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Protocol

from meshsync.agent.chunk_server import ChunkServer
from meshsync.agent.conversation import Conversation
from meshsync.agent.fetcher import Fetcher
from meshsync.agent.log_exchange import LogPuller, LogReplica, LogServer
from meshsync.agent.peer_source import PeerSource
from meshsync.crypto.folder_keys import FolderKeys
from meshsync.errors import AccessError, MalformedMessage, MeshsyncError, PeerError, TransientError
from meshsync.ids import DeviceId, FolderId, short
from meshsync.limits import FOLLOW_RETRY_S, SERVED_STREAMS_MAX
from meshsync.runtime import Runtime
from meshsync.transport.base import Link, Priority
from meshsync.transport.framed import FramedStream
from meshsync.wire.peer_messages import (
    CodeAsk,
    CodeRefused,
    FollowLog,
    FollowRefused,
    Heads,
    Message,
    OpenChunks,
    PairRequest,
)
from meshsync.wire.relay_messages import is_relay_frame

log = logging.getLogger(__name__)


class SharedFolder(Protocol):
    """What a link needs of a folder."""

    @property
    def replica(self) -> LogReplica:
        """The folder's log here."""

    @property
    def fetcher(self) -> Fetcher:
        """Asks sources for chunks."""

    @property
    def chunk_server(self) -> ChunkServer:
        """Answers requests for chunks."""

    @property
    def paused(self) -> bool:
        """Whether nothing is exchanged about the folder."""

    def keys(self) -> FolderKeys:
        """Return the folder's keys."""

    def knows(self, device: DeviceId) -> bool:
        """Whether `device` is a member."""

    def is_backup(self, device: DeviceId) -> bool:
        """Whether `device` keeps the folder without reading it: it is spoken with as with a relay."""

    def farewell(self, device: DeviceId) -> Heads | None:
        """Return what a device that was a member and is none is still told; None if it never was one, or is one."""

    def peer_heads(self, device: DeviceId, heads: Heads) -> None:
        """Hear what a member holds."""

    def peer_gone(self, device: DeviceId) -> None:
        """The member no longer tells what it holds."""


PairHandler = Callable[[Conversation, PairRequest, DeviceId], Awaitable[None]]
CodeHandler = Callable[[Conversation, CodeAsk, Link], Awaitable[None]]


KeepHandler = Callable[[Link, FolderId], Coroutine[Any, Any, None]]
KeptHandler = Callable[[FramedStream, Link], Awaitable[None]]


async def _no_backup(framed: FramedStream, link: Link) -> None:
    raise MalformedMessage("this device is no backup")


async def _no_keeping(link: Link, folder: FolderId) -> None:
    return


async def _no_codes(conversation: Conversation, ask: CodeAsk, link: Link) -> None:
    await conversation.send(CodeRefused())


class MemberLink:
    """Runs until the link ends. `folders()` are those of this device; `pair` and `code` serve newcomers' streams.

    `keep` brings a folder to the peer if it is a backup of it; `kept` serves what this device is itself a backup of.
    """

    def __init__(
        self,
        runtime: Runtime,
        link: Link,
        *,
        folders: Callable[[], Iterable[SharedFolder]],
        pair: PairHandler,
        code: CodeHandler = _no_codes,
        keep: KeepHandler = _no_keeping,
        kept: KeptHandler = _no_backup,
    ) -> None:
        self.link = link
        self._runtime = runtime
        self._folders = folders
        self._pair = pair
        self._code = code
        self._keep = keep
        self._kept = kept
        self._tasks: set[asyncio.Task[None]] = set()
        self._refused: dict[FolderId, asyncio.Future[None]] = {}
        self._following: dict[FolderId, asyncio.Task[None]] = {}
        self._giving: dict[asyncio.Task[Any], FolderId] = {}
        self._telling: dict[asyncio.Task[None], FolderId] = {}
        self._serving = asyncio.Semaphore(SERVED_STREAMS_MAX)
        self._is_over = False

    async def run(self) -> None:
        """Serve and follow; return when the link has ended, with everything it started."""
        self.refresh()
        try:
            while True:
                await self._serving.acquire()
                try:
                    stream = await self.link.accept_stream()
                except BaseException:
                    self._serving.release()
                    raise
                self._spawn(self._serve(Conversation(stream)), "serve stream")
        except (TransientError, PeerError) as error:
            log.info("link to %s ended: %s", short(self.link.peer), error)
        finally:
            await self._stop()

    def refresh(self) -> None:
        """Begin to follow folders that became shared with the peer; stop those that are no more, or paused.

        Once the link has ended nothing is begun: nobody would ever end it.
        """
        if self._is_over:
            return
        folders = list(self._folders())
        shared = {f.replica.folder: f for f in folders if self._shares(f)}
        for folder, task in list(self._following.items()):
            if folder not in shared:
                task.cancel()
                del self._following[folder]
        for giving, folder in list(self._giving.items()):
            if folder not in shared:
                giving.cancel()
        told = {f.replica.folder for f in folders if not f.paused}  # who is no member any more is told that, too
        for telling, folder in list(self._telling.items()):
            if folder not in told:
                telling.cancel()
        for folder, service in shared.items():
            task_before = self._following.get(folder)
            if task_before is None or task_before.done():
                if service.is_backup(self.link.peer):
                    self._following[folder] = self._spawn(self._keep(self.link, folder), "bring to backup")
                else:
                    self._following[folder] = self._spawn(self._follow(service), "follow log")

    def _shares(self, folder: SharedFolder) -> bool:
        peer = self.link.peer
        return not folder.paused and (folder.knows(peer) or folder.is_backup(peer))

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._runtime.spawn(work, f"{name} {short(self.link.peer)}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _stop(self) -> None:
        self._is_over = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.link.close("done")

    async def _serve(self, conversation: Conversation) -> None:
        try:
            if is_relay_frame(await conversation.look()):
                await self._kept(conversation.framed, self.link)
                return
            message = await conversation.receive()
            if message is not None:
                await self._dispatch(conversation, message)
        except TransientError:
            conversation.reset()
        except MeshsyncError as error:
            log.warning("device %s broke the protocol: %s", short(self.link.peer), error)
            self.link.close(error.what[:100])
        finally:
            self._serving.release()

    async def _dispatch(self, conversation: Conversation, message: Message) -> None:
        if isinstance(message, PairRequest):
            await self._pair(conversation, message, self.link.peer)
            await conversation.finish()
            return
        if isinstance(message, CodeAsk):
            await self._code(conversation, message, self.link)
            await conversation.finish()
            return
        if not isinstance(message, FollowLog | OpenChunks):
            raise MalformedMessage(f"{type(message).__name__} opens no stream")
        service = next((f for f in self._folders() if f.replica.folder == message.folder and not f.paused), None)
        peer = self.link.peer
        is_told = service is not None and isinstance(message, FollowLog) and service.farewell(peer) is not None
        if service is None or not (service.knows(peer) or is_told):
            await conversation.send(FollowRefused("not shared with this device"))
            await conversation.finish()
        elif isinstance(message, FollowLog):
            self._nudge(service.replica.folder)
            await self._tell(service, conversation)
        else:
            await self._give(service, conversation)

    async def _tell(self, service: SharedFolder, conversation: Conversation) -> None:
        """Serve the log until the peer finishes, or the folder is paused or closed: the peer then asks again later."""
        server = LogServer(self._runtime, service.replica, lambda: service.farewell(self.link.peer))
        telling = self._spawn(server.serve(conversation), "serve log")
        self._telling[telling] = service.replica.folder
        try:
            await asyncio.wait((telling,))
        finally:
            telling.cancel()
            del self._telling[telling]
        if not telling.cancelled():
            telling.result()
        elif not self._is_over:
            await conversation.send(FollowRefused("not shared with this device now"))
            await conversation.finish()

    async def _give(self, service: SharedFolder, conversation: Conversation) -> None:
        """Serve chunks for as long as the folder is shared with the peer."""
        task = asyncio.current_task()
        assert task is not None
        self._giving[task] = service.replica.folder
        try:
            await service.chunk_server.serve(conversation)
        except asyncio.CancelledError:
            conversation.reset()
            raise
        finally:
            del self._giving[task]

    def _nudge(self, folder: FolderId) -> None:
        """The peer has the folder now: ask it again at once if it refused before."""
        waiting = self._refused.get(folder)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    async def _pause(self, folder: FolderId, seconds: float) -> None:
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._refused[folder] = waiting
        timer = self._spawn(self._runtime.sleep(seconds), "follow retry")
        timer.add_done_callback(lambda _: self._nudge(folder))
        try:
            await waiting
        finally:
            timer.cancel()

    async def _follow(self, service: SharedFolder) -> None:
        name = f"device {short(self.link.peer)}"
        source = PeerSource(name, self.link, service.replica.folder, service.keys())
        delay = FOLLOW_RETRY_S
        adding: list[asyncio.Task[None]] = []

        def heard(heads: Heads) -> None:
            service.peer_heads(self.link.peer, heads)
            if not adding:
                adding.append(self._spawn(service.fetcher.add_source(source), "add source"))
            else:
                service.fetcher.news(name)

        try:
            while True:
                conversation = Conversation(await self.link.open_stream(Priority.INTERACTIVE))
                try:
                    await LogPuller(service.replica, heard).follow(conversation)
                except AccessError as error:
                    log.info("%s", error)
                finally:
                    conversation.reset()
                # The peer may not know yet that both are members: it learns it from the relay or another device.
                await self._pause(service.replica.folder, delay * (0.5 + self._runtime.random()))
                delay = min(delay * 2, 60.0)
        except TransientError as error:
            log.info("stopped following %s: %s", short(self.link.peer), error)
        except MeshsyncError as error:
            log.warning("device %s broke the protocol: %s", short(self.link.peer), error)
            self.link.close(error.what[:100])
        finally:
            # The end of the link cancels this task here once more: what must happen comes before the first wait.
            for task in adding:
                task.cancel()
            service.peer_gone(self.link.peer)
            await service.fetcher.remove_source(source)
