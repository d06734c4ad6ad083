"""Serves links. Invariant: a device's fault ends at most its own link, and what a link held is freed when it ends."""

from __future__ import annotations

import asyncio
import contextlib

from meshsync.errors import LinkClosed, MeshsyncError, PeerError
from meshsync.limits import RELAY_LINKS_MAX
from meshsync.transport.base import CloseCode, Endpoint, Link, Stream
from meshsync.transport.framed import FramedStream
from relay.conversation import Conversation
from relay.core import RelayCore
from relay.messages import MessageStream
from relay.slots import source_of


class RelayService:
    """Accepts links at `endpoint` and talks with their devices, until closed."""

    def __init__(self, core: RelayCore, endpoint: Endpoint) -> None:
        self._core, self._endpoint = core, endpoint
        self._links: dict[Link, asyncio.Task[None]] = {}
        self._acceptor: asyncio.Task[None] | None = None

    @property
    def link_count(self) -> int:
        """The number of devices linked now; several links of one device count."""
        return len(self._links)

    def start(self) -> None:
        """Begin to accept links."""
        self._acceptor = self._core.runtime.spawn(self._accept(), "relay accept")

    async def close(self) -> None:
        """End all links. Requests under way are cut; what was not acknowledged may or may not have been done."""
        tasks = [*self._links.values(), *([self._acceptor] if self._acceptor else [])]
        for link in list(self._links):
            link.close("the relay is stopping")
        await _end(tasks)

    async def _accept(self) -> None:
        with contextlib.suppress(LinkClosed):
            while True:
                link = await self._endpoint.accept()
                if len(self._links) >= RELAY_LINKS_MAX:
                    link.close("this relay has too many links")
                    continue
                self._links[link] = self._core.runtime.spawn(self._serve_link(link), "relay link")

    async def _serve_link(self, link: Link) -> None:
        streams: set[asyncio.Task[None]] = set()
        try:
            while True:  # the transport bounds the streams that a peer may have open
                stream = await link.accept_stream()
                task = self._core.runtime.spawn(self._serve_stream(link, stream), "relay stream")
                streams.add(task)
                task.add_done_callback(streams.discard)
        except MeshsyncError:
            pass  # the link has ended, by its own error or the peer's will
        finally:
            self._links.pop(link, None)
            await _end(list(streams))

    async def _serve_stream(self, link: Link, stream: Stream) -> None:
        framed = FramedStream(stream)
        try:
            await Conversation(self._core, link.peer, MessageStream(framed), source_of(link.address)).run()
            await framed.finish()
        except PeerError as error:
            framed.reset(CloseCode.PROTOCOL)
            link.close(error.what)
        except MeshsyncError:
            framed.reset(CloseCode.CANCELLED)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
