"""One HTTP server over a socket that is bound already, for the local API and the page.

Invariant: it installs no signal handlers and wakes up for requests only; the daemon decides when it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from meshsync.limits import API_BACKLOG_MAX, API_KEEP_ALIVE_S, API_REQUESTS_MAX, API_STOP_TIMEOUT_S
from meshsync.runtime import Runtime


class HttpServer:
    """Serves the ASGI application `app`; `protocol` makes what handles one connection."""

    def __init__(self, app: Any, runtime: Runtime, protocol: type[H11Protocol] = H11Protocol) -> None:
        self._runtime = runtime
        self._server = _Server(
            uvicorn.Config(
                app,
                http=protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                backlog=API_BACKLOG_MAX,
                limit_concurrency=API_REQUESTS_MAX,
                timeout_keep_alive=API_KEEP_ALIVE_S,
                timeout_graceful_shutdown=API_STOP_TIMEOUT_S,
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self, listener: socket.socket, name: str) -> None:
        """Serve on `listener`, which is bound and does not listen yet; return once it accepts connections."""
        self._task = self._runtime.spawn(self._server.serve(sockets=[listener]), name)
        await self._server.accepting.wait()

    async def stop(self) -> None:
        """Finish the answers under way, for API_STOP_TIMEOUT_S at most, and close. Safe to call twice."""
        if self._task is not None:
            self._server.ending.set()
            await self._task
            self._task = None


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers and its ten wake-ups a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepting = asyncio.Event()
        self.ending = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.accepting.set()

    async def main_loop(self) -> None:
        await self.ending.wait()
