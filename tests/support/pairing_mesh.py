"""Real agents in one process, on real directories, over links and announcements in memory; a real relay if wanted.

Invariant: nothing leaves the process; leaving a `Mesh` has stopped every agent and the relay.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from meshsync.agent import api_schema as api
from meshsync.agent.daemon import Agent, Options
from meshsync.agent.home import Home
from meshsync.agent.machine import Machine
from meshsync.agent.service import Service
from meshsync.crypto.identity import DeviceKeys
from meshsync.discovery.base import Discovery, Found, Report
from meshsync.discovery.tags import make_tags
from meshsync.folder.syscalls import Syscalls
from meshsync.folder.watch import Watcher
from meshsync.index.database import Database
from meshsync.runtime import Runtime, SystemRuntime
from meshsync.store.memory import MemoryStore
from meshsync.transport.base import Policy
from meshsync.transport.memory import MemoryEndpoint, MemoryNetwork
from meshsync.wire.relay_address import RelayAddress
from relay.core import RelayCore
from relay.drivers.hints import LocalHints
from relay.drivers.memory import MemoryLog
from relay.drivers.packs import ThreadedChunkStore
from relay.server import POLICY
from relay.service import RelayService

WAIT_S = 20.0
RELAY = DeviceKeys(b"relay keys......" * 4)
SECRET = b"sixteen byte key"


def address_of(port: int) -> str:
    """Return the address that a memory network gives the endpoint at `port`."""
    return f"10.0.{port >> 8}.{port & 0xFF}:{port}"


class Air:
    """The local network: what one device announces, all others find."""

    def __init__(self) -> None:
        self.ears: dict[int, Report] = {}
        self.said: dict[int, Found] = {}

    def say(self, number: int, found: Found) -> None:
        """Announce `found` as device `number`, or as anybody who copies or invents it."""
        self.said[number] = found
        for other, report in self.ears.items():
            if other != number:
                report(found)


class AirDiscovery:
    """A `Discovery` of one device on an `Air`."""

    def __init__(self, air: Air, number: int) -> None:
        self._air, self._number = air, number
        self._nonce = 0

    async def start(self, report: Report) -> None:
        self._air.ears[self._number] = report
        for other, found in self._air.said.items():
            if other != self._number:
                report(found)

    async def announce(self, port: int, keys: Sequence[bytes]) -> None:
        self._nonce += 1
        nonce = self._nonce.to_bytes(8, "big")
        self._air.say(self._number, Found((address_of(port),), port, make_tags(keys, nonce, port), nonce))

    async def close(self) -> None:
        self._air.ears.pop(self._number, None)
        self._air.said.pop(self._number, None)


def _is_ours(name: str) -> bool:
    """Whether an agent calls its own files so; they come and go while one looks."""
    return name == ".meshsync" or name.startswith(".meshsync-")


@dataclass(eq=False)
class Device:
    """An agent, what its user types, and its tree."""

    agent: Agent
    service: Service
    tree: Path

    async def share(self, role: api.Role = "writer", expires_s: float = 3600.0) -> api.ShareResult:
        """Share the tree."""
        request = api.ShareRequest(path=str(self.tree), role=role, expires_s=expires_s)
        async with asyncio.timeout(WAIT_S):
            return await self.service.share(request, _quiet)

    async def join(self, invitation: str, *, address: str = "") -> api.JoinResult:
        """Join with a code or ticket."""
        request = api.JoinRequest(ticket=invitation, path=str(self.tree), address=address)
        async with asyncio.timeout(2 * WAIT_S):
            return await self.service.join(request, _quiet)

    @property
    def address(self) -> str:
        """Where the agent listens."""
        return address_of(self.agent.endpoint.port)

    def files(self) -> dict[str, bytes]:
        """Return the tree's files by name."""
        found = (path for path in self.tree.rglob("*") if path.is_file())
        return {path.name: path.read_bytes() for path in found if not any(map(_is_ours, path.parts))}


@dataclass
class Mesh:
    """Some devices on one network."""

    directory: Path
    runtime: SystemRuntime = field(default_factory=SystemRuntime)
    air: Air = field(default_factory=Air)
    devices: list[Device] = field(default_factory=list)
    relay: RelayService | None = None
    relay_address: RelayAddress | None = None
    relay_blobs: MemoryStore = field(default_factory=MemoryStore)
    _started: int = 0
    _closing: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    def __post_init__(self) -> None:
        self.network = MemoryNetwork(self.runtime)

    async def start_relay(self) -> RelayService:
        """Start a relay that keeps everything in memory; agents started from now on know it."""
        self.relay_blobs = MemoryStore()
        chunks = ThreadedChunkStore(self.relay_blobs, self.runtime)
        core = RelayCore(RELAY, self.runtime, MemoryLog(), chunks, LocalHints(), lambda: [SECRET], 1 << 40)
        endpoint = await MemoryEndpoint.open(self.runtime, RELAY, self.network, POLICY)
        self.relay = RelayService(core, endpoint)
        self.relay.start()
        self.relay_address = RelayAddress("10.0.0.9", endpoint.port, RELAY.device, SECRET)
        self._closing.push_async_callback(endpoint.close)
        self._closing.push_async_callback(self.relay.close)
        return self.relay

    async def start(
        self, name: str, *, on_lan: bool = True, open_index: Callable[[Path], Database] = Database
    ) -> Device:
        """Start an agent; it announces itself and looks for others only if it is `on_lan`."""
        self._started += 1
        home, tree = Home(self.directory / f"home of {name}"), self.directory / name
        home.create()
        tree.mkdir()
        return await self._run(self._started, name, home, tree, on_lan, open_index)

    async def restart(self, device: Device, *, on_lan: bool = True) -> Device:
        """Stop an agent, if it runs, and start another one with the same home and tree."""
        await self.stop(device)
        self._started += 1
        agent = device.agent
        return await self._run(self._started, agent.options.name, agent.home, device.tree, on_lan)

    async def _run(
        self,
        number: int,
        name: str,
        home: Home,
        tree: Path,
        on_lan: bool,
        open_index: Callable[[Path], Database] = Database,
    ) -> Device:
        async def open_endpoint(
            runtime: Runtime, keys: DeviceKeys, listen: str, engine: str, policy: Policy
        ) -> MemoryEndpoint:
            return await MemoryEndpoint.open(self.runtime, keys, self.network, policy)

        machine = Machine(Syscalls(), Watcher, open_index, open_endpoint)
        relays = (self.relay_address.text,) if self.relay_address else ()
        discoveries: list[Discovery] = [AirDiscovery(self.air, number)] if on_lan else []
        agent = Agent(self.runtime, home, Options(name, "", relays, ""), discoveries, machine)
        device = Device(agent, Service(agent), tree)
        self.devices.append(device)
        await agent.start()
        self._closing.push_async_callback(self.stop, device)
        return device

    async def stop(self, device: Device) -> None:
        """Stop an agent, if it runs."""
        if device in self.devices:
            self.devices.remove(device)
            await device.agent.stop()

    async def until(self, reached: Callable[[], bool]) -> None:
        """Let everything run until `reached`."""
        async with asyncio.timeout(WAIT_S):
            while not reached():
                await asyncio.sleep(0.005)

    async def close(self) -> None:
        """Stop everything."""
        await self._closing.aclose()
        self.runtime.close()


@contextlib.asynccontextmanager
async def open_mesh(directory: Path) -> AsyncIterator[Mesh]:
    """A network without devices."""
    mesh = Mesh(directory)
    try:
        yield mesh
    finally:
        await mesh.close()


def _quiet(done: int, total: int) -> None:
    """Nobody looks at the progress."""
