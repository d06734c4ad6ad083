"""`meshsync-relay up`, for which a day passes in each second, and which is always at its upkeep: what a relay does in
years happens within a test.
"""

from __future__ import annotations

import time

import relay.cli
import relay.upkeep
from meshsync.limits import RELAY_GRACE_S
from meshsync.runtime import SystemRuntime
from relay.core import RelayCore

SPEED = 86400


class HastyRuntime(SystemRuntime):
    """A wall clock that runs ahead."""

    _began_ns = time.time_ns()

    def wall_time_ns(self) -> int:
        now_ns = super().wall_time_ns()
        return now_ns + (now_ns - self._began_ns) * SPEED


async def always(self: relay.upkeep.Upkeep) -> None:
    """Do step after step, each of which finds that a grace period has passed."""
    core: RelayCore = self._core
    while True:
        await core.runtime.sleep(0.01)
        await core.log.wait(RELAY_GRACE_S)
        await self.step()


if __name__ == "__main__":
    relay.cli.SystemRuntime = HastyRuntime  # type: ignore[misc]
    relay.upkeep.Upkeep.run = always  # type: ignore[method-assign]
    relay.cli.main()
