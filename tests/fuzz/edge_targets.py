"""What comes from a network around, from a person, or from a program of the same user."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec
from zeroconf import DNSIncoming, DNSOutgoing, ServiceInfo
from zeroconf.const import _CLASS_IN, _FLAGS_QR_RESPONSE, _TYPE_TXT

from meshsync.agent import config
from meshsync.agent.local_api import LocalApi
from meshsync.agent.page_guard import OPEN, guarded
from meshsync.cli.escape import printable
from meshsync.cli.history import split_version
from meshsync.cli.session import file_path, folder_argument, folder_path
from meshsync.cli.share import Span
from meshsync.cli.when import ago, local
from meshsync.codec.address import format_address, parse_address
from meshsync.codec.base32 import to_text
from meshsync.content.ticket import PREFIX, TEXT_KIND, Ticket, make_ticket, parse_ticket
from meshsync.discovery.announcement import Announcement, dialable, parse_txt, write_txt
from meshsync.discovery.base import Found
from meshsync.discovery.mdns import SERVICE
from meshsync.discovery.tags import match_tags
from meshsync.errors import ConfigError, MalformedMessage, TicketInvalid
from meshsync.folder.ignore import IgnoreRules
from meshsync.ids import DeviceId, FolderId
from meshsync.limits import DISCOVERY_ADDRESSES_MAX, DISCOVERY_TAGS_MAX, EXPIRES_S_MAX, IGNORE_PATTERNS_MAX
from meshsync.roles import Role
from meshsync.runtime import SystemRuntime
from meshsync.wire.relay_address import RelayAddress, parse_relay_address
from tests.fuzz.loose import items, loose
from tests.fuzz.target import SECONDS_MAX, Target
from tests.support.agent_twin import AgentTwin

LINES_BYTES_MAX = 8192  # of one `.meshignore`: more inputs tell more than longer ones


def text_of(data: bytes) -> str:
    """Return bytes as a command line or socket gives them: what is not UTF-8 as surrogate escapes."""
    return data.decode("utf-8", "surrogateescape")


# --- the local network


def _txt(data: bytes) -> object:
    """The text record of an announcement, as zeroconf hands it over."""
    info = ServiceInfo(SERVICE, f"x.{SERVICE}", properties=data[:8192])
    said = parse_txt(info.properties)
    if isinstance(said, Announcement):
        assert len(said.tags) <= DISCOVERY_TAGS_MAX
        match_tags({0: b"k" * 32}, Found(("10.0.0.1:1",), 1, said.tags, said.nonce))
    return said


def _mdns(data: bytes) -> object:
    """A whole packet: zeroconf reads it, and what it found in it is ours to read."""
    packet = DNSIncoming(data[:9000])
    return [_txt(record.text) for record in packet.answers() if record.type == _TYPE_TXT]


def _mdns_packet(text: bytes) -> bytes:
    out = DNSOutgoing(_FLAGS_QR_RESPONSE)
    info = ServiceInfo(SERVICE, f"x.{SERVICE}", 4433, properties=text, server="x.local.", parsed_addresses=["10.0.0.1"])
    out.add_answer_at_time(info.dns_text(), 0)
    out.add_answer_at_time(info.dns_service(), 0)
    out.add_answer_at_time(info.dns_pointer(), 0)
    assert _CLASS_IN
    return out.packets()[0]


def _dialable(data: bytes) -> object:
    lines = text_of(data).split("\n")
    found = dialable(lines[1:], int.from_bytes(data[:2], "big"))
    assert len(found) <= DISCOVERY_ADDRESSES_MAX
    return found


# --- lines that people hand over


def _address(data: bytes) -> object:
    host, port = parse_address(text_of(data))
    assert parse_address(format_address(host, port)) == (host, port)
    return host


def _relay_address(data: bytes) -> object:
    address = parse_relay_address(text_of(data))
    assert parse_relay_address(address.text) == address
    return address


def _ticket(data: bytes) -> object:
    ticket = parse_ticket(text_of(data))
    assert ticket.text == text_of(data).strip(" \t\r\n")
    return ticket


def _ticket_fields(data: bytes) -> object:
    """A ticket that somebody made up, its checksum right."""
    ticket = parse_ticket(PREFIX + to_text(TEXT_KIND, data[:8192]))
    assert len(ticket.keys.device) == 32
    for relay in ticket.relays:
        with contextlib.suppress(ConfigError):
            parse_relay_address(relay)
    return ticket


def _tickets() -> tuple[Ticket, ...]:
    relay = RelayAddress("relay.example", 4433, DeviceId(b"r" * 32), b"s" * 16).text
    ids = FolderId(b"f" * 32), DeviceId(b"d" * 32)
    addresses = ("192.0.2.7:4433", "[2001:db8::7]:4433")
    plain = make_ticket(*ids, secret=b"s" * 16, role=Role.READER, expires_s=9)
    return plain, make_ticket(
        *ids, secret=b"s" * 16, role=Role.WRITER, expires_s=1_800_000_000, addresses=addresses, relays=(relay,)
    )


# --- the folder's and the user's files


def _ignore(data: bytes) -> object:
    """Any `.meshignore`, asked about the names that it was made for."""
    data = data[:LINES_BYTES_MAX]
    rules = IgnoreRules(data)
    assert len(rules.bad) <= data.count(b"\n") + 2 and all(bad.why for bad in rules.bad)
    paths = [tuple(part[:255] for part in line.split(b"/") if part)[:20] for line in data.split(b"\n")[:8]]
    paths += [(b"a" * 255,), (b"a", b"b" * 255, b"c"), (b"\xff" * 255, b"x.y")]
    return [rules.ignored(path, directory) for path in paths if path for directory in (True, False)]


def _config(data: bytes) -> object:
    with tempfile.NamedTemporaryFile(dir=_SCRATCH) as file:
        file.write(data)
        file.flush()
        read = config.load(Path(file.name))
        return read.arguments(), read.relays


_SCRATCH = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


# --- command lines


def _span(data: bytes) -> object:
    seconds = Span().convert(text_of(data), None, None)
    assert 0 < seconds <= EXPIRES_S_MAX
    return seconds


def _arguments(data: bytes) -> object:
    text = text_of(data).replace("\0", "")  # which no argument can hold
    path, version = split_version(text)
    assert Path(file_path(path)).is_absolute() and Path(folder_path(path)).is_absolute()
    folder_argument(text)
    assert text in (path, f"{path}@{version}")
    for shown in (printable(text), ago(text), local(text)):
        assert shown.isprintable(), "a terminal is told nothing but text"
    return path, version


# --- the local API


class _Asked:
    """The API over a twin of the daemon, asked without a socket: one application for each input."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.runtime = SystemRuntime(threads=1)

    def __call__(self, data: bytes) -> object:
        method, path, query, body = items(loose(data), str, str, bytes, bytes)
        scope = self._scope(method, path, query)
        return self.loop.run_until_complete(self._ask(scope, body))

    def _scope(self, method: str, path: str, query: bytes) -> dict[str, Any]:
        if path == "/api/v1/page":
            raise MalformedMessage("a listener for each input")
        if path.startswith(("/api/v1/events", "/api/v1/jobs")):
            raise MalformedMessage("an answer that waits")  # a stream without end; a wait of the asker's choice
        head = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http"}
        rest = {"method": method, "path": path, "raw_path": path.encode("utf-8", "surrogatepass")}
        return {**head, **rest, "query_string": query, "root_path": "", "headers": [], "server": None, "client": None}

    async def _ask(self, scope: dict[str, Any], body: bytes) -> int:
        twin = AgentTwin()
        api = LocalApi(twin, twin.events, self.runtime)
        statuses: list[int] = []

        said: list[bytes] = [body]

        async def receive() -> dict[str, Any]:
            if not said:
                await asyncio.Event().wait()  # the asker stays until it has its answer
            return {"type": "http.request", "body": said.pop(), "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        try:
            async with asyncio.timeout(SECONDS_MAX):
                await api.app(scope, receive, send)
        finally:
            await api._jobs.close()
        assert statuses and statuses[0] != 500, f"status {statuses}"
        return statuses[0]


def _page(data: bytes) -> object:
    """Send a request to the guard of the page; nothing but what is open to all may pass, for no token was given out."""
    method, path, headers = items(loose(data), str, str, list)
    pairs = [items(pair, bytes, bytes) for pair in headers]
    passed: list[str] = []
    statuses: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        passed.append(scope["path"])

    async def receive() -> dict[str, Any]:
        raise AssertionError("the guard reads no body")

    async def send(message: Any) -> None:
        statuses.extend([message["status"]] if message["type"] == "http.response.start" else [])

    scope = {"type": "http", "method": method, "path": path, "headers": pairs}
    asking = guarded(app, 8520, lambda token: False)(scope, receive, send)
    with contextlib.suppress(StopIteration):
        asking.send(None)  # type: ignore[attr-defined]
    assert set(passed) <= OPEN and set(statuses) <= {401, 403, 421} and len(passed) + len(statuses) == 1
    return passed


def _visits() -> tuple[bytes, ...]:
    host = [b"host", b"127.0.0.1:8520"]
    asked = (
        ("GET", "/", [host, [b"sec-fetch-site", b"cross-site"]]),
        ("POST", "/session", [host, [b"origin", b"http://127.0.0.1:8520"], [b"x-meshsync-key", b"k"]]),
        ("GET", "/api/v1/status", [host, [b"authorization", b"Bearer 00ff"]]),
        ("GET", "/api/v1/status", [host, host, [b"origin", b"http://evil"]]),
    )
    return tuple(msgspec.msgpack.encode(item) for item in asked)


_asked: list[_Asked] = []


def _api(data: bytes) -> object:
    if not _asked:
        _asked.append(_Asked())
    return _asked[0](data)


def _requests() -> tuple[bytes, ...]:
    asked = (
        ("GET", "/api/v1/status", b"", b""),
        ("POST", "/api/v1/shares", b"", b'{"path":"/d","role":"writer","expires_s":60,"name":""}'),
        ("POST", "/api/v1/joins", b"", b'{"ticket":"7-canyon-ribbon-orbit","path":"/d"}'),
        ("POST", "/api/v1/restores", b"", b'{"path":"/d/f","version":"2","to":""}'),
        ("POST", "/api/v1/waits", b"", b'{"folder":"","timeout_s":0.0}'),
        ("POST", "/api/v1/resolves", b"", b'{"path":"/d/f","keep":"mine"}'),
        ("POST", "/api/v1/releases", b"", b'{"folder":"","hold":"abc123"}'),
        ("GET", "/api/v1/log", b"path=/d/%FF&n=2", b""),
        ("GET", "/api/v1/cat", b"path=/d/f&version=2", b""),
        ("GET", "/api/v1/safety-number", b"folder=x&device=y", b""),
        ("POST", "/api/v1/roles", b"", b'{"folder":"x","device":"y","role":"reader"}'),
        ("GET", "/metrics", b"", b""),
        ("GET", "/nowhere", b"path=\xc4\x11", b""),
    )
    return tuple(msgspec.msgpack.encode(item) for item in asked)


_PLAIN, _FULL = _tickets()
_TXT_SEED = b"".join(
    bytes([len(pair)]) + pair
    for pair in (key + b"=" + value for key, value in write_txt(b"n" * 8, [b"t" * 8] * 4).items())
)
_IGNORES = (
    b"a/**/b\n*.?[!a-z]\n!x*y\n",
    b"*.tmp\n!keep.tmp\n# no\nbuild/\n/a/**/b\n[a-c]?.x\n\\ trailing\\ \n",
    b"a*b*c*d\n**/**/x\n[!z]\n\xff*\n" + b"x\n" * (IGNORE_PATTERNS_MAX + 5),
)
Parser = Callable[[bytes], object]

TARGETS = (
    Target("mdns-txt", _txt, (), (_TXT_SEED, b"\x03v=1")),
    Target("mdns-packet", _mdns, (), (_mdns_packet(_TXT_SEED),)),
    Target("mdns-addresses", _dialable, (), (b"\x11\x11\n10.0.0.1\nfe80::1%eth0\n::\n255.255.255.255",)),
    Target("address", _address, (MalformedMessage,), (b"relay.example:4433", b"[2001:db8::1]:1", b"10.0.0.1:65535")),
    Target("relay-address", _relay_address, (ConfigError,),
           (b"quic://h:1", RelayAddress("relay.example", 4433, DeviceId(b"r" * 32), b"s" * 16).text.encode())),
    Target("ticket", _ticket, (TicketInvalid,), (_PLAIN.text.encode(), _FULL.text.encode())),
    Target("ticket-fields", _ticket_fields, (TicketInvalid,),
           tuple(msgspec.msgpack.encode(ticket) for ticket in (_PLAIN, _FULL))),
    Target("ignore-file", _ignore, (), _IGNORES),
    Target("config-file", _config, (ConfigError,),
           (b'name = "desk"\nrelays = ["quic://h:1"]\ndiscovery = false\n[other]\nx = 1979-05-27T07:32:00Z\n',)),
    Target("cli-span", _span, (click.UsageError,), (b"10m", b"7d", b"999999999s")),
    Target("cli-arguments", _arguments, (),
           (b"/d/f@2", b"~nobody-here/f@1", b"2026-01-31T12:00:00.000000Z", b"\xe2\x80\xaeexe\x1b[2J\xff")),
    Target("page-request", _page, (MalformedMessage,), _visits()),
    Target("api-request", _api, (MalformedMessage,), _requests()),
)  # fmt: skip
