"""What happens to devices and the relay while users work: stopped, killed, out of reach, started again."""

from __future__ import annotations

import random

from tests.real.random_users_ledger import Ledger
from tests.support.real_mesh import Device, Mesh


class Weather:
    """Belongs to one mesh whose relay and agents are all running. `kills` counts every SIGKILL.

    `relay_killed` is the share of the relay's failures that are silent: devices notice these only when their links time
    out, and little happens meanwhile.
    """

    def __init__(self, mesh: Mesh, ledger: Ledger, generator: random.Random, relay_killed: float) -> None:
        self.kills = 0
        self._relay_killed = relay_killed
        self._mesh, self._ledger, self._random = mesh, ledger, generator
        self._relay_runs = True
        self._off: set[str] = set()
        self._paused: set[str] = set()

    def change(self) -> None:
        """Something breaks, or works again."""
        if self._random.random() < 0.3:
            self._change_relay()
            return
        device = self._random.choice(self._mesh.devices)
        if device.name in self._off | self._paused:
            self._bring_back(device)
            return
        how = self._random.choice(("kill -9", "kill -9 and start", "down", "pause"))
        self._ledger.note(device.name, how)
        if how == "pause":
            device.cli("pause")
            self._paused.add(device.name)
            return
        if how == "down":
            device.down()
        else:
            device.kill9()
            self.kills += 1
        if how == "kill -9 and start":
            device.up()
        else:
            self._off.add(device.name)

    def clear(self) -> None:
        """Everything runs again."""
        if not self._relay_runs:
            self._change_relay()
        for device in self._mesh.devices:
            self._bring_back(device)

    def _change_relay(self) -> None:
        if not self._relay_runs:
            self._ledger.note("relay", "up")
            self._mesh.relay.up()
        elif self._random.random() < self._relay_killed:
            self._ledger.note("relay", "kill -9")
            self._mesh.relay.kill9()
            self.kills += 1
        else:
            self._ledger.note("relay", "down")
            self._mesh.relay.down()
        self._relay_runs = not self._relay_runs

    def _bring_back(self, device: Device) -> None:
        if device.name in self._off:
            self._ledger.note(device.name, "up")
            device.up()
            self._off.remove(device.name)
        if device.name in self._paused:
            self._ledger.note(device.name, "resume")
            device.cli("resume")
            self._paused.remove(device.name)
