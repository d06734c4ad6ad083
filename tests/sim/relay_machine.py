"""A simulated machine with the real relay service on it. Invariant: what its drivers hold outlives processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from meshsync.crypto.identity import DeviceKeys
from meshsync.ids import BlobId
from meshsync.store.memory import MemoryStore
from meshsync.transport.memory import MemoryEndpoint, MemoryNetwork
from relay.core import RelayCore
from relay.drivers.hints import LocalHints
from relay.drivers.memory import MemoryLog
from relay.drivers.packs import ThreadedChunkStore
from relay.server import POLICY
from relay.service import RelayService
from tests.sim.device import EPOCH_NS
from tests.sim.identity import RELAY, SECRET
from tests.sim.loop import SimLoop
from tests.sim.network import SimNetwork, port_of
from tests.sim.process import Process
from tests.sim.runtime import SimRuntime


class SimRelay:
    """Machine 0 unless told otherwise; `quota` is that of a folder in bytes.

    The module is not named `relay`: pytest puts this directory before the package of that name.
    """

    def __init__(
        self,
        loop: SimLoop,
        seed: str,
        network: SimNetwork,
        memory: MemoryNetwork,
        failed: Callable[[str, BaseException], None],
        machine: int = 0,
        keys: DeviceKeys = RELAY,
        quota: int = 1 << 40,
    ) -> None:
        self.machine, self.keys, self.quota = machine, keys, quota
        self.clock_speed = 1.0  # how fast its wall clock runs: leases end by it
        self.runs = 0
        self.process = Process()
        self.process.alive = False
        self.log: dict[Any, Any] = {}
        self.blobs: dict[BlobId, bytes] = {}
        self._loop, self._seed = loop, f"{seed} relay" if not machine else f"{seed} relay {machine}"
        self._network, self._memory, self._failed = network, memory, failed
        self._runtime: SimRuntime | None = None
        self._started: asyncio.Task[None] | None = None
        self.core: RelayCore | None = None  # of the process that runs, or ran last

    def start(self) -> None:
        """Start the relay, unless it runs."""
        if self.process.alive:
            return
        self.runs += 1
        process = self.process = Process()
        runtime = SimRuntime(
            self._loop,
            process,
            lambda: EPOCH_NS + round(self._loop.now * 1e9 * self.clock_speed),
            f"{self._seed} {self.runs}",
            self._failed,
        )
        self._runtime = runtime
        self._network.running[self.machine] = process
        self._started = runtime.spawn(self._serve(runtime), "relay")

    async def _serve(self, runtime: SimRuntime) -> None:
        chunks = ThreadedChunkStore(MemoryStore(self.blobs), runtime)
        core = RelayCore(self.keys, runtime, MemoryLog(self.log), chunks, LocalHints(), lambda: [SECRET], self.quota)
        self.core = core
        endpoint = await MemoryEndpoint.open(runtime, self.keys, self._memory, POLICY, port_of(self.machine))
        RelayService(core, endpoint).start()

    def kill(self) -> None:
        """End the process at once. The drivers in memory are durable with every call."""
        if self.process.alive and self._runtime is not None:
            self.process.alive = False
            self._memory.detach(port_of(self.machine))
            self._runtime.kill()
