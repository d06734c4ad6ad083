"""The local page as others see it: over loopback TCP, which every user and every web site of this machine reaches."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from meshsync.agent.local_api import LocalApi
from meshsync.limits import PAGE_KEY_S, PAGE_KEYS_MAX, PAGE_SESSIONS_MAX
from meshsync.runtime import SystemRuntime
from tests.agent.test_local_api import ask
from tests.support.agent_twin import AgentTwin


class Clock(SystemRuntime):
    """The system, with hours that pass when the test says so."""

    passed_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.passed_s


@dataclass
class Opened:
    twin: AgentTwin
    socket: Path
    runtime: Clock
    port: int = 0

    async def key(self) -> str:
        status, _, answer = await ask(self.socket, "POST", "/api/v1/page")
        assert status == 200
        url = urlsplit(answer["url"])
        assert url.hostname == "127.0.0.1"
        self.port = url.port or 0
        return url.fragment

    async def ask(self, method: str, target: str, *headers: str, host: str = "") -> tuple[int, dict[str, str], bytes]:
        return await over_tcp(self.port, method, target, f"Host: {host or f'127.0.0.1:{self.port}'}", *headers)

    async def token(self) -> str:
        status, _, body = await self.ask("POST", "/session", f"X-Meshsync-Key: {await self.key()}")
        assert status == 200
        return body.decode()


async def over_tcp(port: int, method: str, target: str, *headers: str) -> tuple[int, dict[str, str], bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write("\r\n".join([f"{method} {target} HTTP/1.1", "Connection: close", *headers, "", ""]).encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    status, *fields = head.decode().split("\r\n")
    return int(status.split()[1]), {k.lower(): v for k, v in (field.split(": ", 1) for field in fields)}, body


@contextlib.asynccontextmanager
async def agent(tmp_path: Path) -> AsyncIterator[Opened]:
    twin, runtime = AgentTwin(), Clock(threads=1)
    local_api = LocalApi(twin, twin.events, runtime)
    await local_api.start(tmp_path / "agent.sock")
    try:
        yield Opened(twin, tmp_path / "agent.sock", runtime)
    finally:
        await local_api.stop()
        runtime.close()


def problem(answer: tuple[int, dict[str, str], bytes]) -> dict[str, Any]:
    status, headers, body = answer
    assert headers["content-type"] == "application/problem+json"
    found = json.loads(body)
    assert found["status"] == status and found["next"] == "meshsync open"
    return found  # type: ignore[no-any-return]


async def test_nothing_listens_before_it_is_opened_and_nothing_after_the_end(tmp_path: Path) -> None:
    before = listening()
    async with agent(tmp_path) as opened:
        assert listening() == before
        await opened.key()
        assert opened.port in listening()
    assert opened.port not in listening()


def listening() -> set[int]:
    """Return the TCP ports of this machine on which something listens on 127.0.0.1."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(line[1].split(":")[1], 16) for line in lines if line[3] == "0A" and line[1].startswith("0100007F")}


async def test_a_key_opens_it_once_and_the_token_shows_what_the_agent_knows(tmp_path: Path) -> None:
    async with agent(tmp_path) as opened:
        key = await opened.key()
        status, _, token = await opened.ask("POST", "/session", f"X-Meshsync-Key: {key}")
        assert status == 200 and token.decode() != key
        status, _, body = await opened.ask("GET", "/api/v1/status", f"Authorization: Bearer {token.decode()}")
        assert status == 200 and json.loads(body)["folders"][0]["name"] == "Docs"
        assert (await opened.ask("POST", "/session", f"X-Meshsync-Key: {key}"))[0] == 403
        assert (await opened.ask("POST", "/session", f"X-Meshsync-Key: {token.decode()}"))[0] == 403


async def test_a_key_is_too_old_after_a_minute_and_a_token_lives_as_long_as_the_agent(tmp_path: Path) -> None:
    async with agent(tmp_path) as opened:
        token, key = await opened.token(), await opened.key()
        opened.runtime.passed_s = PAGE_KEY_S
        assert problem(await opened.ask("POST", "/session", f"X-Meshsync-Key: {key}"))["code"] == "PageRefused"
        opened.runtime.passed_s = 1e9
        assert (await opened.ask("GET", "/api/v1/status", f"Authorization: Bearer {token}"))[0] == 200


API = ["/api/v1/status", "/api/v1/events", "/api/v1/cat?path=/x", "/metrics", "/nothing", "//page.js", "/./page.js"]


async def test_without_a_token_nothing_is_answered(tmp_path: Path) -> None:
    async with agent(tmp_path) as opened:
        token = await opened.token()
        for target in API:
            for header in ("", "Authorization: Bearer ", "Authorization: Bearer 00", f"Authorization: Basic {token}"):
                answer = await opened.ask("GET", target, *([header] if header else []))
                assert answer[0] == 401 and problem(answer)["code"] == "PageRefused"


@pytest.mark.parametrize(
    "foreign",
    [
        ("evil.example:{port}", ""),
        ("127.0.0.1", ""),
        ("127.0.0.1:1", ""),
        ("evil.example", "Origin: http://evil.example"),
        ("127.0.0.1:{port}", "Host: evil.example"),
        ("127.0.0.1:{port}", "Origin: http://evil.example"),
        ("127.0.0.1:{port}", "Origin: null"),
        ("127.0.0.1:{port}", "Origin: http://127.0.0.1:1"),
        ("127.0.0.1:{port}", "Origin: https://127.0.0.1:{port}"),
        ("127.0.0.1:{port}", "Origin: http://localhost:{port}"),
        ("127.0.0.1:{port}", "Sec-Fetch-Site: cross-site"),
        ("127.0.0.1:{port}", "Sec-Fetch-Site: same-site"),
    ],
)
async def test_a_foreign_host_or_site_does_nothing_even_with_the_token(
    tmp_path: Path, foreign: tuple[str, str]
) -> None:
    async with agent(tmp_path) as opened:
        token = f"Authorization: Bearer {await opened.token()}"
        host, more = (text.format(port=opened.port) for text in foreign)
        for target in ("/api/v1/stop", "/api/v1/pause", "/api/v1/page", "/session"):
            for headers in ([], [token]):
                status, _, _ = await opened.ask("POST", target, *headers, *([more] if more else []), host=host)
                assert status in (400, 403, 421)
        assert not opened.twin.stopped.is_set()
        assert (await opened.ask("GET", "/api/v1/status", token))[0] == 200


async def test_a_link_from_elsewhere_shows_the_page_which_holds_nothing(tmp_path: Path) -> None:
    async with agent(tmp_path) as opened:
        await opened.key()
        status, headers, body = await opened.ask("GET", "/", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate")
        assert status == 200 and b"Docs" not in body
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert headers["cache-control"] == "no-store" and headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers
        for path in ("/page.js", "/shown.js", "/page.css"):
            assert (await opened.ask("GET", path))[0] == 200
            assert (await opened.ask("GET", path, "Sec-Fetch-Site: cross-site"))[0] == 403


async def test_every_answer_carries_the_policy(tmp_path: Path) -> None:
    async with agent(tmp_path) as opened:
        token = await opened.token()
        for path in ("/", "/api/v1/status", "/api/v1/nothing"):
            _, headers, _ = await opened.ask("GET", path, f"Authorization: Bearer {token}")
            assert "default-src 'none'" in headers["content-security-policy"]


async def test_keys_and_sessions_are_bounded_and_the_oldest_makes_room(tmp_path: Path) -> None:
    async with agent(tmp_path) as opened:
        first = await opened.token()
        for _ in range(PAGE_SESSIONS_MAX):
            last = await opened.token()
        assert (await opened.ask("GET", "/api/v1/status", f"Authorization: Bearer {first}"))[0] == 401
        assert (await opened.ask("GET", "/api/v1/status", f"Authorization: Bearer {last}"))[0] == 200
        keys = [await opened.key() for _ in range(PAGE_KEYS_MAX + 1)]
        assert (await opened.ask("POST", "/session", f"X-Meshsync-Key: {keys[0]}"))[0] == 403
        assert (await opened.ask("POST", "/session", f"X-Meshsync-Key: {keys[1]}"))[0] == 200


async def test_where_the_usual_port_is_taken_another_one_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr("meshsync.agent.page.PAGE_PORT", taken.getsockname()[1])
        async with agent(tmp_path) as opened:
            await opened.token()
            assert opened.port != taken.getsockname()[1]
