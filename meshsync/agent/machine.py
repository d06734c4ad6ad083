"""What an agent takes from the machine beside its runtime: file system, watcher, index, network.

Invariant: the agent opens none of these by itself, so that a whole mesh can run in one process on simulated machines.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from meshsync.agent.index_mark import IndexMark, index_mark, note_closed, note_opened
from meshsync.crypto.identity import DeviceKeys
from meshsync.folder.syscalls import Syscalls
from meshsync.folder.watch import Dirty, Watcher
from meshsync.index.database import Database
from meshsync.runtime import Runtime
from meshsync.transport.base import Endpoint, Policy
from meshsync.transport.quic import QuicEndpoint


class Watching(Protocol):
    """What a folder needs of its watcher; `folder.watch.Watcher` is the contract."""

    @property
    def limited(self) -> bool:
        """Whether some directories cannot be watched."""

    def start(self) -> None:
        """Begin to watch. Blocking."""

    def stop(self) -> None:
        """End. Blocking; nothing is told afterwards."""


@dataclass(frozen=True, slots=True)
class Machine:
    """`watch(root, loop, tell)` makes a watcher; `open_endpoint(runtime, keys, listen, engine, policy)` listens."""

    syscalls: Syscalls
    watch: Callable[[bytes, asyncio.AbstractEventLoop, Callable[[Dirty], None]], Watching]
    open_index: Callable[[Path], Database]
    open_endpoint: Callable[[Runtime, DeviceKeys, str, str, Policy], Awaitable[Endpoint]]
    index_mark: Callable[[Path], IndexMark] = index_mark
    index_opened: Callable[[Path], None] = note_opened
    index_closed: Callable[[Path], None] = note_closed


SYSTEM = Machine(Syscalls(), Watcher, Database, QuicEndpoint.open)
"""The real machine."""
