"""What stands before the page and the API behind it: who may ask over TCP.

Loopback TCP is open to every user of the machine and, through a browser, to every web site. Invariant: nothing that the
agent knows is answered, and nothing is done, unless the request names this listener (a name that was rebound to
loopback does not), comes from this page and no other, and carries a token that the agent gave out to its user.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from meshsync.errors import MeshsyncError, PageRefused

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

OPEN: Final = frozenset({"/", "/page.js", "/shown.js", "/page.css", "/healthz", "/session"})
"""Paths that need no token: they tell nothing of the agent."""
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_HEADERS: Final = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


def guarded(app: App, port: int, admits: Callable[[str], bool]) -> App:
    """Return `app` behind the guard, on 127.0.0.1:`port`; `admits` says whether a token is one that was given out."""

    async def guard(scope: Message, receive: Receive, send: Send) -> None:
        headers = {bytes(name).lower(): bytes(value) for name, value in scope["headers"]}
        many = len(headers) != len(scope["headers"])  # of two Hosts, one would be looked at and the other one used
        refusal = _refusal(scope, headers, many, port, admits)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = [header for header in message["headers"] if header[0].lower() != b"cache-control"]
                message["headers"] = [*given, *_HEADERS]
            await send(message)

        if refusal is None:
            await app(scope, receive, send_with_headers)
        else:
            await _refuse(send_with_headers, *refusal)

    return guard


def _refusal(
    scope: Message, headers: dict[bytes, bytes], many: bool, port: int, admits: Callable[[str], bool]
) -> tuple[int, MeshsyncError] | None:
    """Return why and with which status a request is refused, None if it may pass."""
    hosts = {f"127.0.0.1:{port}".encode(), f"localhost:{port}".encode()}
    host, path = headers.get(b"host", b""), scope["path"]
    if host not in hosts or many:
        return 421, PageRefused("the request does not name this page", next_step="meshsync open")
    origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site", b"none")
    is_visit = path == "/" and scope["method"] in ("GET", "HEAD")  # a link may lead here: it shows an empty page
    if origin not in (None, b"http://" + host) or (site not in (b"none", b"same-origin") and not is_visit):
        return 403, PageRefused("another site asks in the name of the page", next_step="meshsync open")
    kind, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if path in OPEN or (kind == "Bearer" and admits(token)):
        return None
    return 401, PageRefused("the token is missing or has ended", next_step="meshsync open")


async def _refuse(send: Send, status: int, error: MeshsyncError) -> None:
    problem = {
        "type": f"urn:meshsync:error:{type(error).__name__}",
        "title": "page refused",
        "status": status,
        "detail": error.what,
        "code": type(error).__name__,
        "exit_code": error.exit_code,
        "next": error.next_step,
    }
    body = json.dumps(problem, separators=(",", ":")).encode()
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
