"""Two meshsync agents on loopback, without a relay, for `bench_sync.py`."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from meshsync.agent.home import Home
from meshsync.cli.demo_mesh import Device


class MeshsyncPair:
    """Two paired agents. Use as a context manager."""

    name = "meshsync"

    def __init__(self, directory: Path) -> None:
        self._one, self._other = (self._start(directory, name) for name in ("one", "other"))
        self.source, self.target = self._one.tree, self._other.tree
        self.source.mkdir(parents=True)
        ticket = self._one.cli("share", str(self.source))["ticket"]
        self._other.cli("join", ticket, str(self.target))
        self.pids = [int(device.home.pid.read_text()) for device in (self._one, self._other)]

    def __enter__(self) -> MeshsyncPair:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._one.cli("down")
        self._other.cli("down")

    def changed(self) -> None:
        """Nothing to say: the watcher has no delay worth skipping."""

    def sent_bytes(self) -> int:
        return self._one.sent()

    def _start(self, directory: Path, name: str) -> Device:
        device = Device(name, Home(directory / name), directory / "trees" / name)
        device.cli("up", "--name", name, "--listen", "127.0.0.1:0", "--no-discovery")
        return device
