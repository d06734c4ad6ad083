"""A simulated machine with the real agent on it: a disk, an index, a clock, and one process at a time.

Invariant: the disk and the index outlive processes; nothing else does.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Sequence
from typing import Any

from meshsync.agent.daemon import Agent, Options
from meshsync.agent.folder import Folder
from meshsync.agent.index_mark import IndexMark
from meshsync.agent.machine import Machine
from meshsync.crypto.identity import DeviceKeys
from meshsync.discovery.base import Found, Report
from meshsync.discovery.tags import make_tags
from meshsync.folder import control
from meshsync.runtime import Runtime
from meshsync.transport.base import Policy
from meshsync.transport.memory import MemoryEndpoint, MemoryNetwork
from tests.sim.disk import Disk
from tests.sim.identity import Beginning
from tests.sim.index import KeptIndex
from tests.sim.loop import SimLoop
from tests.sim.network import SimNetwork, address_of, port_of
from tests.sim.process import Process
from tests.sim.runtime import SimRuntime
from tests.sim.syscalls import ROOT_PATH, SimSyscalls
from tests.sim.watcher import SimWatcher

EPOCH_NS = 1_700_000_000_000_000_000
FOUND_AFTER_S = 0.2


class SimDevice:
    """Device `number`, from 1. `failed` hears of mistakes of ours."""

    def __init__(
        self,
        loop: SimLoop,
        number: int,
        seed: str,
        beginning: Beginning,
        network: SimNetwork,
        memory: MemoryNetwork,
        failed: Callable[[str, BaseException], None],
        *,
        joins: bool,
        relayed: bool,
    ) -> None:
        self.number = number
        self.loop, self.beginning = loop, beginning
        self.relays = (beginning.relay.text,) if relayed and number == 1 else ()  # what the agent is told to use
        self.clock_ns = 0  # how far the machine's clock is from the true time
        self.lost = self.overflows = 0.0
        self.runs = 0
        self.refuses: Callable[[str], None] = lambda call: None  # the disk's faults, by call: raises OSError
        self.process = Process()
        self.process.alive = False
        self.agent: Agent | None = None
        self.chance = random.Random(f"{seed} device {number}")
        self.disk = Disk(lambda: loop.now, self._wall_ns, has_birth=self.chance.random() < 0.8)
        source = beginning.joiners if joins else beginning.indexes
        self.index = KeptIndex(source[number - 1])
        self.mark = IndexMark(b"the first file", b"the first boot")
        self.image: bytes | None = None  # the index as it was backed up
        self._seed = f"{seed} {number}"
        self._network, self._memory = network, memory
        self._failed = failed
        self._runtime: SimRuntime | None = None
        self._syscalls: SimSyscalls | None = None
        control.create(ROOT_PATH, beginning.folder, SimSyscalls(self.disk, lambda call: None))
        self.disk.sync_all()

    def _wall_ns(self) -> int:
        return EPOCH_NS + self.clock_ns + round(self.loop.now * 1e9)

    @property
    def folder(self) -> Folder | None:
        """The folder, while a process runs that has opened it."""
        if self.agent is None:
            return None
        return self.agent.folders.get(self.beginning.folder)

    # --- life ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the agent, unless it runs."""
        if self.process.alive:
            return
        self.runs += 1
        process = self.process = Process()
        process.fault = self.refuses
        runtime = SimRuntime(self.loop, process, self._wall_ns, f"{self._seed} {self.runs}", self._failed)
        syscalls = SimSyscalls(self.disk, process.step)
        self._runtime, self._syscalls = runtime, syscalls
        self._network.running[self.number] = process

        def watch(root: bytes, loop: asyncio.AbstractEventLoop, tell: Any) -> SimWatcher:
            return SimWatcher(loop, tell, self.disk, process, self.chance, self.lost, self.overflows)

        async def open_endpoint(
            runtime: Runtime, keys: DeviceKeys, listen: str, engine: str, policy: Policy
        ) -> MemoryEndpoint:
            return await MemoryEndpoint.open(runtime, keys, self._memory, policy, port_of(self.number))

        ignored = (lambda path: None, lambda path: None)
        machine = Machine(
            syscalls, watch, lambda path: self.index.open(process), open_endpoint, lambda path: self.mark, *ignored
        )
        options = Options(f"device {self.number}", "", self.relays, "")
        self.agent = Agent(runtime, self.beginning.homes[self.number - 1], options, [_Neighbours(self)], machine)
        runtime.spawn(self.agent.start(), f"agent {self.number}")

    def kill(self) -> None:
        """End the process at once, between two steps."""
        if not self.process.alive:
            return
        self.process.alive = False
        assert self._runtime is not None and self._syscalls is not None
        self._memory.detach(port_of(self.number))
        self._runtime.kill()
        self._syscalls.close_all()
        self.index.crash()
        self.disk.tell = lambda path: None
        self.agent = None

    def power_cut(self) -> None:
        """End the process and lose what the disk did not hold yet."""
        self.kill()
        self.disk.power_cut(self.chance)

    def back_up(self) -> None:
        """End the process at once and keep a copy of the index."""
        self.kill()
        self.image = self.index.image()

    def restore(self, mark: IndexMark) -> None:
        """End the process at once and bring back the index that was backed up last, if one was; it is `mark` then."""
        self.kill()
        if self.image is not None:
            self.index.restore(self.image)
            self.mark = mark

    async def stop(self) -> None:
        """End the agent in order."""
        if self.agent is not None and self.process.alive:
            agent, process = self.agent, self.process
            await agent.stop()
            if process is self.process:
                self.kill()


class _Neighbours:
    """A `Discovery` that finds every other device of the mesh."""

    def __init__(self, device: SimDevice) -> None:
        self._device = device
        self._report: Report = lambda event: None

    async def start(self, report: Report) -> None:
        self._report = report
        self._device.loop.call_later(FOUND_AFTER_S, self._tell, self._device.process)

    def _tell(self, process: Process) -> None:
        folder = self._device.folder
        if folder is None or not process.alive:
            return
        keys = [folder.keys().discovery_key(folder.keys().current)]
        for other in range(1, len(self._device.beginning.devices) + 1):
            if other != self._device.number:
                nonce = os.fsencode(f"nonce {other:02}")
                found = Found((address_of(other),), port_of(other), make_tags(keys, nonce, port_of(other)), nonce)
                self._report(found)

    async def announce(self, port: int, keys: Sequence[bytes]) -> None:
        pass

    async def close(self) -> None:
        self._report = lambda event: None
