"""The local API: HTTP over a Unix socket that only this user can open, and behind the page once that is asked for.

Invariant: nobody but this user's processes is answered. The socket's mode is 0600 before the first connection is
accepted; and where a file system does not keep modes, or the socket was opened up, the kernel is asked who connected
before a byte is read.
Every answer is JSON of `api_schema`, a problem, a byte stream of one version, or a stream of events.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import parse_qsl

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route as HttpRoute
from uvicorn.protocols.http.h11_impl import H11Protocol

from meshsync.agent.api_routes import ROUTES, Call, Route, absolute, decode_body, number
from meshsync.agent.api_schema import PageAddress, Problem, Schema
from meshsync.agent.events import Event, EventRing
from meshsync.agent.http_server import HttpServer
from meshsync.agent.jobs import Jobs
from meshsync.agent.metrics import render
from meshsync.agent.operations import Operations
from meshsync.agent.page import Page
from meshsync.agent.problems import http_status, problem_of
from meshsync.agent.socket_user import may_ask, user_of_peer
from meshsync.errors import ConfigError, MeshsyncError, TransientError
from meshsync.limits import (
    API_REQUEST_BYTES_MAX,
    EVENT_STREAMS_MAX,
    EVENTS_PING_S,
)
from meshsync.runtime import Runtime

log = logging.getLogger(__name__)
PREFIX = "/api/v1"
SOCKET_MODE = 0o600


def to_json(value: Schema) -> bytes:
    """Return `value` as ASCII JSON; undecodable bytes in names appear as escaped surrogates."""
    return json.dumps(msgspec.to_builtins(value), separators=(",", ":")).encode("ascii")


class LocalApi:
    """Serves `operations` on a Unix socket. `events` is the ring that the daemon publishes into."""

    def __init__(self, operations: Operations, events: EventRing, runtime: Runtime) -> None:
        self._operations = operations
        self._events = events
        self._runtime = runtime
        self._jobs = Jobs(runtime, events)
        self._streams = 0
        self._stopping = False
        self._page = Page(runtime)
        self._server: HttpServer | None = None
        self._path: Path | None = None
        self.app = self._application()

    async def start(self, path: Path) -> None:
        """Serve on a socket at `path`; return once it accepts connections.

        A socket left by a dead agent is replaced. Raises ConfigError if a living one answers there.
        """
        listener = _bind(path)
        self._server = HttpServer(self.app, self._runtime, _OwnUserOnly)
        self._path = path
        await self._server.start(listener, "local api")

    async def stop(self) -> None:
        """Cancel the jobs, finish the answers under way, close and remove the socket. Safe to call twice."""
        if self._server is None or self._path is None:
            return
        await self._jobs.close()
        self._stopping = True
        self._events.wake()  # streams of events have no other end
        await self._page.close()
        await self._server.stop()
        self._path.unlink(missing_ok=True)
        self._server = None

    def _application(self) -> Starlette:
        routes = [
            HttpRoute(PREFIX + route.path, self._endpoint(route), methods=[route.method], name=route.name)
            for route in ROUTES
        ]
        routes += [
            HttpRoute(PREFIX + "/cat", self._cat, methods=["GET"]),
            HttpRoute(PREFIX + "/events", self._event_stream, methods=["GET"]),
            HttpRoute(PREFIX + "/page", self._open_page, methods=["POST"]),
            HttpRoute("/healthz", self._healthz, methods=["GET"]),
            HttpRoute("/metrics", self._metrics, methods=["GET"]),
            *self._page.routes(),
        ]
        handlers = {MeshsyncError: _on_error, HTTPException: _on_http_error}
        return Starlette(routes=routes, exception_handlers=handlers, max_body_size=API_REQUEST_BYTES_MAX)

    def _endpoint(self, route: Route) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            body = decode_body(route, await request.body())
            path = {name: str(value) for name, value in request.path_params.items()}
            call = Call(self._operations, self._jobs, path, _query(request), body)
            return _json(await route.handler(call), route.status)

        return endpoint

    async def _cat(self, request: Request) -> Response:
        query = _query(request)
        pieces = self._operations.cat(absolute(query.get("path", "")), query.get("version", ""), query.get("at", ""))
        first = await anext(pieces, b"")  # so that an error becomes a problem, not a cut answer

        async def content() -> AsyncIterator[bytes]:
            yield first
            async for piece in pieces:
                yield piece

        return StreamingResponse(content(), media_type="application/octet-stream")

    async def _event_stream(self, request: Request) -> Response:
        given = request.headers.get("last-event-id", "")
        last_id = int(number(given, "Last-Event-ID", 0, 2**62)) if given else self._events.last_id
        if self._streams >= EVENT_STREAMS_MAX:
            raise TransientError(f"{self._streams} programs listen to events already")
        return StreamingResponse(self._event_lines(last_id), media_type="text/event-stream")

    async def _event_lines(self, last_id: int) -> AsyncIterator[bytes]:
        self._streams += 1
        try:
            yield b": events\n\n"  # the headers reach the listener before the first event
            while not self._stopping:
                events = await self._events.wait(last_id, EVENTS_PING_S)
                for event in events:
                    last_id = event.id
                    yield _event_line(event)
                if not events and not self._stopping:
                    yield b": ping\n\n"
        finally:
            self._streams -= 1

    async def _open_page(self, request: Request) -> Response:
        await request.body()  # answered before that is read, a client could not send it to its end
        url, expires_s = await self._page.open(self.app)
        return _json(PageAddress(url=url, expires_s=expires_s), 200)

    async def _healthz(self, request: Request) -> Response:
        return Response(b'{"schema":1,"ok":true}', media_type="application/json")

    async def _metrics(self, request: Request) -> Response:
        text = render(await self._operations.status(), await self._operations.stats())
        return Response(text, media_type="application/openmetrics-text; version=1.0.0; charset=utf-8")


class _OwnUserOnly(H11Protocol):
    """Ends a connection of another user's process unread and without an answer."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        user = user_of_peer(transport.get_extra_info("socket"))
        if not may_ask(user):
            log.debug("user %d connected to the agent's socket and is not answered", user)
            transport.abort()


def _bind(path: Path) -> socket.socket:
    """Return a bound socket of mode 0600 that does not listen yet, so nobody connects before the mode is set."""
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(os.fsencode(path))
        path.chmod(SOCKET_MODE)
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot make the agent's socket: {error.strerror or error}", path=str(path)) from error
    return listener


def _remove_stale(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigError("something that is not a socket is in the way of the agent's socket", path=str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(os.fsencode(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise ConfigError("an agent is running in this home already", path=str(path.parent), next_step="meshsync status")


def _query(request: Request) -> dict[str, str]:
    # Starlette decodes with replacement; a name that is not UTF-8 must keep its bytes.
    text = request.scope["query_string"].decode("ascii", "surrogateescape")
    try:
        return dict(parse_qsl(text, keep_blank_values=True, errors="surrogateescape", max_num_fields=16))
    except ValueError as error:
        raise ConfigError("the query has too many parameters") from error


def _json(value: Schema, status: int) -> Response:
    return Response(to_json(value), status_code=status, media_type="application/json")


def _problem(problem: Problem, status: int) -> Response:
    return Response(to_json(problem), status_code=status, media_type="application/problem+json")


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, MeshsyncError)
    return _problem(problem_of(error), http_status(error))


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.scope["path"]  # `request.url` raises for a query that is not UTF-8
    problem = problem_of(ConfigError(f"{request.method} {path}: {error.detail}"))
    return _problem(msgspec.structs.replace(problem, status=error.status_code), error.status_code)


def _event_line(event: Event) -> bytes:
    data = json.dumps(dict(event.data), separators=(",", ":"))
    return f"id: {event.id}\nevent: {event.kind}\ndata: {data}\n\n".encode("ascii")
