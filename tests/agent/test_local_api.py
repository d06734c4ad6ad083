"""The local API: routes, problems, jobs, events, the socket's mode (cli.md, "Local API")."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from meshsync.agent import openapi
from meshsync.agent.api_routes import ROUTES
from meshsync.agent.home import Home
from meshsync.agent.local_api import LocalApi
from meshsync.errors import ConfigError
from meshsync.limits import API_REQUEST_BYTES_MAX, SOCKET_PATH_BYTES_MAX
from meshsync.runtime import SystemRuntime
from tests.support.agent_twin import TICKET, AgentTwin

ROOT = Path(__file__).parents[2]


@contextlib.asynccontextmanager
async def api(tmp_path: Path) -> AsyncIterator[tuple[AgentTwin, Path]]:
    twin, runtime = AgentTwin(), SystemRuntime(threads=1)
    local_api = LocalApi(twin, twin.events, runtime)
    path = tmp_path / "agent.sock"
    await local_api.start(path)
    try:
        yield twin, path
    finally:
        await local_api.stop()
        runtime.close()


async def ask(
    path: Path, method: str, target: str, body: bytes = b"", *headers: str
) -> tuple[int, dict[str, str], Any]:
    """Send one request as bytes and return (status, headers, body parsed as JSON if it is)."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    lines = [f"{method} {target} HTTP/1.0", f"Content-Length: {len(body)}"]
    writer.write("\r\n".join([*lines, *headers, "", ""]).encode() + body)
    head, _, rest = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    status, *fields = head.decode().split("\r\n")
    found = {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)}
    is_json = "json" in found.get("content-type", "")
    return int(status.split()[1]), found, json.loads(rest) if is_json else rest


async def finished(path: Path, job: dict[str, Any]) -> dict[str, Any]:
    _, _, answer = await ask(path, "GET", f"/api/v1/jobs/{job['id']}?wait_s=5")
    return answer  # type: ignore[no-any-return]


async def test_the_socket_is_for_this_user_only_and_gone_after_the_end(tmp_path: Path) -> None:
    async with api(tmp_path) as (_, path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


async def test_a_dead_agents_socket_is_replaced_and_a_living_ones_is_not(tmp_path: Path) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "agent.sock"))
    dead.close()
    async with api(tmp_path) as (twin, path):
        second = LocalApi(twin, twin.events, SystemRuntime(threads=1))
        with pytest.raises(ConfigError, match="running in this home already"):
            await second.start(path)
        assert (await ask(path, "GET", "/healthz"))[0] == 200


async def test_a_file_in_the_way_of_the_socket_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "agent.sock").write_text("mine")
    with pytest.raises(ConfigError, match="not a socket"):
        async with api(tmp_path):
            pass
    assert (tmp_path / "agent.sock").read_text() == "mine"


async def test_status_has_every_field_that_scripts_rely_on(tmp_path: Path) -> None:
    async with api(tmp_path) as (_, path):
        status, headers, answer = await ask(path, "GET", "/api/v1/status")
    assert (status, headers["content-type"], answer["schema"]) == (200, "application/json", 1)
    assert {"idle", "device", "health", "relays", "devices", "folders"} <= answer.keys()
    assert answer["device"].keys() == {"id", "name"}
    assert {"address", "connected", "rtt_ms"} <= answer["relays"][0].keys()
    assert {"id", "name", "path", "rtt_ms", "seen"} <= answer["devices"][0].keys()
    folder = {"id", "name", "path", "state", "files", "bytes", "pending", "not_durable", "conflicts", "held"}
    assert folder <= answer["folders"][0].keys()
    assert answer["folders"][0]["pending"].keys() == {"scan", "publish", "fetch", "apply"}


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "code"),
    [
        ("GET", "/api/v1/members?folder=Nope", b"", 404, "NotFound"),
        ("GET", "/api/v1/nothing", b"", 404, "ConfigError"),
        ("PUT", "/api/v1/status", b"", 405, "ConfigError"),
        ("GET", "/api/v1/jobs/none", b"", 404, "NotFound"),
        ("GET", "/api/v1/jobs/none?wait_s=nan", b"", 400, "ConfigError"),
        ("GET", "/api/v1/cat?path=relative", b"", 400, "ConfigError"),
        ("GET", "/api/v1/cat?path=/x&version=7", b"", 404, "NotFound"),
        ("GET", "/api/v1/versions?deleted=maybe", b"", 400, "ConfigError"),
        ("GET", "/api/v1/why?" + "&".join(f"a{n}=1" for n in range(40)), b"", 400, "ConfigError"),
        ("POST", "/api/v1/leaves", b"{}", 400, "ConfigError"),
        ("POST", "/api/v1/shares", b"not json", 400, "ConfigError"),
        ("POST", "/api/v1/shares", b"[" * 100_000, 400, "ConfigError"),
        ("POST", "/api/v1/shares", b'{"path":"/x","role":"god"}', 400, "ConfigError"),
        ("POST", "/api/v1/shares", b'{"path":"/x","expires_s":1e99}', 400, "ConfigError"),
        ("POST", "/api/v1/shares", b'{"path":"/x","expires_s":NaN}', 400, "ConfigError"),
        ("POST", "/api/v1/shares", b'{"path":"x"}', 400, "ConfigError"),
    ],
)
async def test_a_wrong_request_is_a_problem_and_never_a_crash(
    tmp_path: Path, method: str, target: str, body: bytes, status: int, code: str
) -> None:
    async with api(tmp_path) as (twin, path):
        found, headers, problem = await ask(path, method, target, body)
        assert found == status
        assert headers["content-type"] == "application/problem+json"
        assert problem["code"] == code and problem["status"] == status
        assert twin.calls == [] or twin.calls[0][0] == "cat"


async def test_a_request_that_is_too_long_is_refused_before_it_is_read(tmp_path: Path) -> None:
    async with api(tmp_path) as (_, path):
        reader, writer = await asyncio.open_unix_connection(str(path))
        length = API_REQUEST_BYTES_MAX + 1
        writer.write(f"POST /api/v1/shares HTTP/1.0\r\nContent-Length: {length}\r\n\r\n".encode())
        assert b" 413 " in await reader.readline()
        writer.close()
        await writer.wait_closed()


async def test_a_job_answers_202_and_ends_with_its_result(tmp_path: Path) -> None:
    body = json.dumps({"path": "/home/ann/Docs"}).encode()
    async with api(tmp_path) as (_, path):
        status, _, job = await ask(path, "POST", "/api/v1/shares", body)
        done = await finished(path, job)
    assert (status, job["state"], job["kind"]) == (202, "running", "share")
    assert done["state"] == "done" and done["done"] == 50 and done["total"] == 100
    assert done["result"] == {
        "schema": 1,
        "folder": "f0" * 32,
        "code": "7-crossover-clockwork-sunset",
        "ticket": TICKET,
        "expires": "2026-01-31T12:00:00.000000Z",
        "code_expires": "",
        "id": "",
        "addresses": [],
        "is_file": False,
        "stored": False,
    }


async def test_a_failed_job_carries_the_problem_and_the_next_command(tmp_path: Path) -> None:
    async with api(tmp_path) as (_, path):
        _, _, job = await ask(path, "POST", "/api/v1/joins", b'{"ticket":"old"}')
        problem = (await finished(path, job))["problem"]
    assert (problem["code"], problem["status"], problem["exit_code"]) == ("TicketInvalid", 403, 1)
    assert problem["next"] == "meshsync share PATH"


async def test_waiting_for_a_job_ends_at_the_deadline_with_the_job_still_running(tmp_path: Path) -> None:
    async with api(tmp_path) as (twin, path):
        _, _, job = await ask(path, "POST", "/api/v1/waits", b'{"folder":"held"}')
        _, _, running = await ask(path, "GET", f"/api/v1/jobs/{job['id']}?wait_s=0.01")
        assert running["state"] == "running"
        twin.held.set()
        assert (await finished(path, job))["result"]["idle"] is True


async def test_stopping_the_api_ends_running_jobs(tmp_path: Path) -> None:
    async with api(tmp_path) as (twin, path):
        await ask(path, "POST", "/api/v1/waits", b'{"folder":"held"}')
    assert [event.data["state"] for event in twin.events.after(0)] == ["failed"]


async def test_cat_streams_the_exact_bytes_and_keeps_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    async with api(tmp_path) as (twin, path):
        _, headers, content = await ask(path, "GET", "/api/v1/cat?path=/d/%ff%26x&version=2")
    assert (headers["content-type"], content) == ("application/octet-stream", b"seconds")
    assert twin.calls == [("cat", ("/d/\udcff&x", "2"))]


async def read_events(path: Path, count: int, *headers: str) -> list[tuple[int, str]]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write("\r\n".join(["GET /api/v1/events HTTP/1.1", "Host: localhost", *headers, "", ""]).encode())
    found: list[tuple[int, str]] = []
    event_id = 0
    while len(found) < count:
        line = (await reader.readline()).decode().strip()
        if line.startswith("id: "):
            event_id = int(line[4:])
        elif line.startswith("event: "):
            found.append((event_id, line[7:]))
    writer.close()
    await writer.wait_closed()
    return found


async def test_events_are_replayed_without_a_gap_after_the_last_id(tmp_path: Path) -> None:
    async with api(tmp_path) as (twin, path):
        for name in ("a", "b", "c"):
            twin.events.publish(name, {"path": "\udcff"})
        assert await read_events(path, 2, "Last-Event-ID: 1") == [(2, "b"), (3, "c")]


async def test_events_that_are_gone_are_said_to_be_gone(tmp_path: Path) -> None:
    async with api(tmp_path) as (twin, path):
        for _ in range(2000):
            twin.events.publish("x", {})
        assert (await read_events(path, 2, "Last-Event-ID: 7"))[0] == (2000 - 1024, "reset")


async def test_a_wrong_last_event_id_is_a_problem(tmp_path: Path) -> None:
    async with api(tmp_path) as (_, path):
        assert (await ask(path, "GET", "/api/v1/events", b"", "Last-Event-ID: -4"))[0] == 400


async def test_metrics_are_open_metrics_without_names(tmp_path: Path) -> None:
    async with api(tmp_path) as (_, path):
        _, headers, text = await ask(path, "GET", "/metrics")
    assert headers["content-type"].startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n") and b'meshsync_link_bytes_sent_total{link="lan"} 2048' in text
    assert b"Docs" not in text and b"laptop" not in text


def test_the_openapi_file_is_the_route_table() -> None:
    assert (ROOT / "docs/openapi.json").read_text() == openapi.render(), "python -m meshsync.agent.openapi writes it"
    described = openapi.describe()["paths"]
    assert all(route.method.lower() in described["/api/v1" + route.path] for route in ROUTES)


def test_a_home_with_a_long_path_gets_a_socket_that_fits(tmp_path: Path) -> None:
    home = Home(tmp_path / ("d" * 100))
    assert len(bytes(home.socket)) <= SOCKET_PATH_BYTES_MAX
    assert home.socket == Home(tmp_path / ("d" * 100)).socket != Home(tmp_path / ("e" * 100)).socket
    assert Home(Path("/h")).socket == Path("/h/agent.sock")


def test_a_home_is_private_even_if_it_was_not(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o755)
    Home(tmp_path / "home").create()
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700


def test_a_home_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="not a directory of this user"):
        Home(tmp_path / "home").create()


async def test_the_end_of_the_agent_ends_streams_of_events(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with api(tmp_path) as (_, path):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"GET /api/v1/events HTTP/1.1\r\nHost: agent\r\n\r\n")
        assert b"200" in await reader.readline()
        while await reader.readline() != b": events\n":
            pass
    assert b"event" not in await reader.read()
    writer.close()
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]
