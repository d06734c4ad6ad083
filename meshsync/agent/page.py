"""The local web page: a listener on loopback that is opened when its user asks for it, and whom it answers.

A key opens the page once and soon (it is seen on screens and in command lines); the page trades it for a token that
lives as long as the agent. Invariant: until `open` is called nothing listens; keys and tokens are in memory only, so
whoever listens at this port after the agent's end is shown tokens that open nothing.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Mapping
from importlib import resources
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from meshsync.agent.http_server import HttpServer
from meshsync.agent.page_guard import App, guarded
from meshsync.errors import PageRefused, ResourceError
from meshsync.limits import PAGE_KEY_S, PAGE_KEYS_MAX, PAGE_PORT, PAGE_SESSIONS_MAX
from meshsync.runtime import Runtime

ADDRESS = "127.0.0.1"
_FILES: Mapping[str, tuple[str, str]] = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/shown.js": ("shown.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
_SECRET_BYTES = 32


class Page:
    """Keys, tokens and the listener. Belongs to one loop."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._keys: dict[bytes, float] = {}  # hash of a key: until when it opens
        self._tokens: dict[bytes, None] = {}  # hashes of tokens, oldest first
        self._server: HttpServer | None = None
        self._port = 0

    def routes(self) -> list[Route]:
        """Return the routes of the page itself; what needs a token is the application's own."""
        return [
            *(Route(path, _file(*found), methods=["GET"]) for path, found in _FILES.items()),
            Route("/session", self._session, methods=["POST"]),
        ]

    async def open(self, app: Any) -> tuple[str, float]:
        """Serve `app` behind the guard, if it is not served yet; return an address that opens once, for how many
        seconds. Raises ResourceError if no port is to be had.
        """
        if self._server is None:
            listener = _bind()
            self._port = listener.getsockname()[1]
            served: App = guarded(app, self._port, self._admits)
            self._server = HttpServer(served, self._runtime)
            await self._server.start(listener, "page")
        now = self._runtime.monotonic()
        self._keys = {key: until for key, until in self._keys.items() if until > now}
        while len(self._keys) >= PAGE_KEYS_MAX:
            del self._keys[next(iter(self._keys))]
        key = self._runtime.random_bytes(_SECRET_BYTES).hex()
        self._keys[_hash(key)] = now + PAGE_KEY_S
        return f"http://{ADDRESS}:{self._port}/#{key}", PAGE_KEY_S

    async def close(self) -> None:
        """End the listener and every token."""
        self._keys.clear()
        self._tokens.clear()
        if self._server is not None:
            await self._server.stop()
            self._server = None

    async def _session(self, request: Request) -> Response:
        """Trade a key for a token. A key serves once, whether or not the answer arrives."""
        key = request.headers.get("x-meshsync-key", "")
        until = self._keys.pop(_hash(key), None)
        if until is None or until <= self._runtime.monotonic():
            raise PageRefused("this address was used already, or is too old", next_step="meshsync open")
        while len(self._tokens) >= PAGE_SESSIONS_MAX:
            del self._tokens[next(iter(self._tokens))]
        token = self._runtime.random_bytes(_SECRET_BYTES).hex()
        self._tokens[_hash(token)] = None
        return Response(token, media_type="text/plain")

    def _admits(self, token: str) -> bool:
        return _hash(token) in self._tokens  # how long that takes tells of a hash, not of a token


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _bind() -> socket.socket:
    """Return a socket on loopback, at the usual port or, where somebody has that, at any."""
    error: OSError | None = None
    for port in (PAGE_PORT, 0):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.bind((ADDRESS, port))
        except OSError as refused:
            listener.close()
            error = refused
        else:
            return listener
    raise ResourceError("no port for the page on this machine") from error


def _file(name: str, media_type: str) -> Any:
    async def answer(request: Request) -> Response:
        data = resources.files("meshsync.agent").joinpath("page_files", name).read_bytes()
        return Response(data, media_type=media_type)

    return answer
