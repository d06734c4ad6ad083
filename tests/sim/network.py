"""The network between simulated machines: delay, partitions, and silence where no process runs.

Invariant: what a dead process still sends reaches nobody.
"""

from __future__ import annotations

import random

from meshsync.transport.memory import MemoryNetwork
from tests.sim.process import Process

PORT_FIRST = 50_000


def port_of(machine: int) -> int:
    """Return the port of a device (1, 2, …) or the relay (0)."""
    return PORT_FIRST + machine


def address_of(machine: int) -> str:
    """Return the address of a machine, as the memory network writes it."""
    port = port_of(machine)
    return f"10.0.{port >> 8}.{port & 0xFF}:{port}"


class SimNetwork:
    """`apart` are pairs of machines that do not reach each other."""

    def __init__(self, seed: str) -> None:
        self.apart: set[frozenset[int]] = set()
        self.running: dict[int, Process] = {}
        self.packets = 0
        self._chance = random.Random(f"{seed} network")
        self.delay_max_s = 0.05

    def of(self, machine: int, process: Process, memory: MemoryNetwork) -> None:
        """Make `process` what runs on a machine."""
        self.running[machine] = process

    def hook(self, memory: MemoryNetwork) -> None:
        """Rule over a memory network."""
        memory.reaches = self._reaches
        memory.delay_s = self._delay_s

    def _reaches(self, source: int, target: int) -> bool:
        self.packets += 1
        machines = source - PORT_FIRST, target - PORT_FIRST
        alive = all(machine in self.running and self.running[machine].alive for machine in machines)
        return alive and frozenset(machines) not in self.apart

    def _delay_s(self) -> float:
        return self.delay_max_s * self._chance.random() ** 4
