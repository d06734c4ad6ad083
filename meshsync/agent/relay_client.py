"""Keeps one relay linked, and every folder that is stored there in step with it.

Invariant: a refusal for one folder never stops another; whatever ends a link, the next one goes on from the cursors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from meshsync.agent.changes import Changes
from meshsync.errors import MeshsyncError
from meshsync.ids import FolderId, short
from meshsync.limits import DIAL_PAUSE_S, DIAL_PAUSE_S_MAX, DIAL_TIMEOUT_S
from meshsync.runtime import Runtime
from meshsync.transport.base import Endpoint, Link
from meshsync.wire.relay_address import RelayAddress


class RelayClient:
    """One relay. `work(link, wake)` tells what is to be done there now, by folder: each runs until it is cancelled.

    `wake` is noted when what the relay had no room for is to be offered again.
    """

    def __init__(
        self,
        runtime: Runtime,
        endpoint: Callable[[], Endpoint],
        address: RelayAddress,
        work: Callable[[RelayClient, Link, Changes], Mapping[FolderId, Callable[[], Coroutine[Any, Any, None]]]],
        on_change: Callable[[], None],
    ) -> None:
        self.address = address
        self.link: Link | None = None
        self.problem = ""
        self.connected = Changes()
        self._runtime = runtime
        self._endpoint = endpoint
        self._work = work
        self._on_change = on_change
        self._wake = Changes()
        self._serving: dict[FolderId, asyncio.Task[None]] = {}

    def refresh(self) -> None:
        """Look again at which folders the relay stores, and offer at once what it had no room for."""
        self._wake.note()

    async def run(self) -> None:
        """Dial, serve, dial again, until cancelled."""
        pause = DIAL_PAUSE_S
        while True:
            try:
                link = await self._endpoint().dial(
                    self.address.address, expect=self.address.device, discovery_key=None, timeout_s=DIAL_TIMEOUT_S
                )
            except MeshsyncError as error:
                self.problem = error.what
                self._on_change()
                await self._runtime.sleep(pause * (0.5 + self._runtime.random()))
                pause = min(pause * 2, DIAL_PAUSE_S_MAX)
                continue
            pause, self.problem, self.link = DIAL_PAUSE_S, "", link
            self.connected.note()
            self._on_change()
            try:
                await self._serve(link)
            finally:
                self.link = None
                link.close("done")
                self._on_change()

    async def _serve(self, link: Link) -> None:
        ended = self._runtime.spawn(link.wait_closed(), "relay link ends")
        ended.add_done_callback(lambda _: self._wake.note())
        try:
            while not ended.done():
                count = self._wake.count
                wanted = self._work(self, link, self._wake)
                for gone in self._serving.keys() - wanted.keys():
                    self._serving.pop(gone).cancel()
                for name, run in wanted.items():
                    if name not in self._serving or self._serving[name].done():
                        self._serving[name] = self._runtime.spawn(run(), f"relay folder {short(name)}")
                await self._wake.after(count)
        finally:
            tasks = [ended, *self._serving.values()]
            self._serving.clear()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
