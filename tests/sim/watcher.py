"""The real watcher's bookkeeping on events of a simulated disk, some of which are lost.

Invariant: what it tells is a hint; a lost event is found by the next scan of the whole folder at the latest.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from meshsync.folder.names import CONTROL_NAME
from meshsync.folder.watch import Dirty, Watcher
from tests.sim.disk import Disk
from tests.sim.process import Process
from tests.sim.syscalls import ROOT_PATH


class SimWatcher(Watcher):
    """Loses a share `lost` of the events; a share `overflows` of them makes the queue overflow instead."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tell: Callable[[Dirty], None],
        disk: Disk,
        process: Process,
        chance: random.Random,
        lost: float,
        overflows: float,
    ) -> None:
        super().__init__(ROOT_PATH, loop, tell)
        self._disk, self._process = disk, process
        self._chance, self._lost, self._overflows = chance, lost, overflows

    def start(self) -> None:
        self._process.step("watch")
        self._disk.tell = self._heard

    def stop(self) -> None:
        self._stopped = True

    def _heard(self, path: tuple[bytes, ...]) -> None:
        if path[0] == CONTROL_NAME or not self._process.alive:
            return
        fate = self._chance.random()
        if fate < self._overflows:
            self._overflowed()
        elif fate >= self._overflows + self._lost:
            self._mark(path)

    def _deliver(self) -> None:
        if self._process.alive:
            super()._deliver()
