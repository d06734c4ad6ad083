"""Clients that break the rules, over a plain UDP socket and an unguarded aioquic connection."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import ssl
from pathlib import Path
from typing import Any

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.tls import Epoch

MIB = 1 << 20
TURNS = 30  # of the loop, for whatever follows from one event


class ManualRuntime:
    """A runtime whose clock moves only when told; datagrams on loopback need no time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        return self.now

    def wall_time_ns(self) -> int:
        return 0

    def random_bytes(self, size: int) -> bytes:
        return os.urandom(size)

    def random(self) -> float:
        return 0.5

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + seconds, woken))
        await woken

    def spawn(self, coroutine: Any, name: str) -> asyncio.Task[Any]:
        return asyncio.get_running_loop().create_task(coroutine, name=name)

    async def in_thread(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    async def advance(self, seconds: float) -> None:
        """Let time pass and everybody who waited for it run."""
        self.now += seconds
        for at, woken in self._sleepers:
            if at <= self.now and not woken.done():
                woken.set_result(None)
        self._sleepers = [sleeper for sleeper in self._sleepers if not sleeper[1].done()]
        for _ in range(TURNS):
            await asyncio.sleep(0)


def configuration(**changes: Any) -> QuicConfiguration:
    """What an honest client would use, with `changes`."""
    settings: dict[str, Any] = {
        "alpn_protocols": ["meshsync/1"],
        "is_client": True,
        "server_name": "meshsync",
        "supported_versions": [QuicProtocolVersion.VERSION_1],
        "verify_mode": ssl.CERT_NONE,
    }
    return QuicConfiguration(**(settings | changes))


class HugeHello(QuicConnection):
    """Sends, instead of a ClientHello, the first bytes of one that declares 16 MiB."""

    def _push_crypto_data(self) -> None:
        stream = self._crypto_streams[Epoch.INITIAL]
        stream.sender.write(b"\x01\xff\xff\xff" + bytes(16 * MIB))


class StalledHello(QuicConnection):
    """Sends the first 100 bytes of a ClientHello and no more."""

    def _push_crypto_data(self) -> None:
        self._crypto_streams[Epoch.INITIAL].sender.write(b"\x01\x00\x02\x00" + bytes(96))


class Attacker:
    """Drives one aioquic connection over a socket of its own."""

    def __init__(self, quic: QuicConnection, port: int) -> None:
        self.quic = quic
        self.now = 0.0
        self.terminated: ConnectionTerminated | None = None
        self.connected = False
        self.datagrams_sent = 0
        self._server = ("127.0.0.1", port)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(("127.0.0.1", 0))

    def start(self) -> None:
        """Send the first flight."""
        self.quic.connect(self._server, self.now)
        self.flush()

    def flush(self) -> None:
        """Send what the connection has."""
        for data, _ in self.quic.datagrams_to_send(self.now):
            self._socket.sendto(data, self._server)
            self.datagrams_sent += 1

    def send_raw(self, data: bytes) -> None:
        """Send one datagram of any bytes."""
        self._socket.sendto(data, self._server)

    async def turn(self) -> None:
        """Let the server run, then take what it answered."""
        for _ in range(4):
            await asyncio.sleep(0)
        while True:
            try:
                data = self._socket.recv(65_535)
            except BlockingIOError:
                break
            self.quic.receive_datagram(data, self._server, self.now)
        while (event := self.quic.next_event()) is not None:
            self.connected |= isinstance(event, HandshakeCompleted)
            if isinstance(event, ConnectionTerminated):
                self.terminated = event
        self.now += 0.01
        timer = self.quic.get_timer()
        if timer is not None and self.now >= timer:
            self.quic.handle_timer(self.now)
        self.flush()

    def close(self) -> None:
        """Release the port."""
        self._socket.close()


def send_far(quic: QuicConnection, stream_id: int, offset: int) -> None:
    """Queue one byte of `stream_id` at `offset`, with nothing before it."""
    sender = quic._get_or_create_stream_for_send(stream_id).sender
    sender._buffer.clear()
    sender._pending.subtract(0, 1 << 60)
    sender._buffer_start = sender._buffer_stop = offset
    sender.write(b"x")


def memory_bytes() -> int:
    """Return the resident size of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
