"""The worlds in which the contract of links is tested: memory, and every pairing of the QUIC engines, retry on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from meshsync.crypto.identity import DeviceKeys
from meshsync.runtime import SystemRuntime
from meshsync.transport.base import Endpoint, Link, Policy
from meshsync.transport.memory import MemoryEndpoint, MemoryNetwork
from meshsync.transport.quic import QuicEndpoint

CLIENT, SERVER = DeviceKeys(b"c" * 64), DeviceKeys(b"s" * 64)
FOLDER = b"k" * 32
OPEN_DOOR = Policy(discovery_keys=lambda: [FOLDER], authorize=lambda device: None)
WORLDS = ("memory", "qh3 qh3", "qh3 aioquic", "aioquic qh3", "aioquic aioquic")


@dataclass
class World:
    """Two endpoints that can reach each other."""

    runtime: SystemRuntime
    client: Endpoint
    server: Endpoint
    place: str

    async def dial(self, timeout_s: float = 5.0) -> Link:
        """Dial as a member would."""
        return await self.client.dial(self.place, expect=SERVER.device, discovery_key=FOLDER, timeout_s=timeout_s)

    async def connect(self) -> tuple[Link, Link]:
        """Return both ends of one link."""
        near = await self.dial()
        return near, await self.server.accept()


@asynccontextmanager
async def open_world(kind: str, policy: Policy = OPEN_DOOR, host: str = "127.0.0.1") -> AsyncIterator[World]:
    """Two endpoints of `kind`, closed at the end."""
    runtime = SystemRuntime()
    near, far = await _endpoints(kind, runtime, policy, host)
    try:
        yield World(runtime, near, far, f"{host}:{far.port}")
    finally:
        await near.close()
        await far.close()
        runtime.close()


async def _endpoints(kind: str, runtime: SystemRuntime, policy: Policy, host: str) -> tuple[Endpoint, Endpoint]:
    if kind == "memory":
        network = MemoryNetwork(runtime)
        return (
            await MemoryEndpoint.open(runtime, CLIENT, network),
            await MemoryEndpoint.open(runtime, SERVER, network, policy),
        )
    client, server = kind.split()
    return (
        await QuicEndpoint.open(runtime, CLIENT, f"{host}:0", client),
        await QuicEndpoint.open(runtime, SERVER, f"{host}:0", server, policy),
    )
