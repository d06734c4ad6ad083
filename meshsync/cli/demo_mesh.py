"""The mesh of the demonstration: a relay and agents as separate processes, on loopback, under one directory.

Invariant: leaving the `Mesh` context has ended every process that it started, whatever happened inside.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from meshsync.agent.home import Home
from meshsync.cli.client import Client
from meshsync.errors import MeshsyncError
from meshsync.limits import (
    DEMO_COMMAND_TIMEOUT_S,
    DEMO_SETTLE_TIMEOUT_S,
    LOG_TAIL_BYTES_MAX,
    READY_LINE_BYTES_MAX,
    UP_TIMEOUT_S,
)
from meshsync.runtime import SystemRuntime

POLL_S = 0.2  # between two looks at the trees while nothing is reported


class DemoFailed(MeshsyncError):
    """A step of the demonstration did not do what it must."""


@dataclass(frozen=True, slots=True)
class Device:
    """One agent: its home, and its copy of the shared folder."""

    name: str
    home: Home
    tree: Path

    @property
    def client(self) -> Client:
        return Client(self.home)

    def cli(self, *words: str, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Type a command at this device and return its JSON. Raises DemoFailed with what it said instead."""
        line = [sys.executable, "-m", "meshsync.cli.main", *words, "--home", str(self.home.path), "--json"]
        try:
            done = subprocess.run(
                line,
                capture_output=True,
                timeout=DEMO_COMMAND_TIMEOUT_S,
                env={**os.environ, **(environment or {})},
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DemoFailed(f"meshsync {words[0]} did not return", device=self.name) from error
        try:
            answer = json.loads(done.stdout)
        except ValueError as error:
            said = f"meshsync {words[0]} ended with {done.returncode}: {_detail(done.stderr)}"
            raise DemoFailed(said, device=self.name) from error
        assert isinstance(answer, dict)
        return answer

    def stats(self) -> dict[str, Any]:
        """Return the counters of this device's agent."""
        return self.client.get("/stats")

    def sent(self) -> int:
        """Return the bytes this agent has put on the wire since it started."""
        return sum(link["sent"] for link in self.stats()["links"].values())

    def received(self, *kinds: str) -> int:
        """Return the bytes this agent has had from links of `kinds`, or of any, since it started."""
        links = self.stats()["links"].items()
        return sum(link["received"] for kind, link in links if not kinds or kind in kinds)


class Mesh:
    """A relay and named devices under `directory`. Use as a context manager."""

    def __init__(self, directory: Path, runtime: SystemRuntime) -> None:
        self.directory = directory
        self.runtime = runtime
        self.relay_url = ""
        self._relay: subprocess.Popen[bytes] | None = None
        self._devices: list[Device] = []

    def __enter__(self) -> Mesh:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for device in self._devices:
            self._end(device)
        if self._relay is not None:
            self._relay.terminate()
            try:
                self._relay.wait(UP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._relay.kill()
                self._relay.wait()

    def start_relay(self) -> None:
        """Start a relay on a free port. Raises DemoFailed if it is not ready in time."""
        words = ["up", "--data", str(self.directory / "relay"), "--listen", "127.0.0.1:0", "--json"]
        log = (self.directory / "relay.log").open("wb")
        with log:
            self._relay = subprocess.Popen([*_relay_program(), *words], stdout=subprocess.PIPE, stderr=log)
        pipe = self._relay.stdout
        assert pipe is not None
        readable, _, _ = select.select([pipe], [], [], UP_TIMEOUT_S)
        line = pipe.readline(READY_LINE_BYTES_MAX) if readable else b""
        pipe.close()
        try:
            ready = json.loads(line)
            address, invitation = str(ready["address"]), str(ready["invitation"])
        except (ValueError, KeyError, TypeError) as error:
            raise DemoFailed("the relay did not start", path=log.name) from error
        self.relay_url = invitation if "://" in invitation else f"{address}#{invitation}"

    def add(self, name: str) -> Device:
        """Start an agent called `name` on a free loopback port."""
        device = Device(name, Home(self.directory / name), self.directory / "trees" / name)
        self._devices.append(device)
        options = ("--name", name, "--listen", "127.0.0.1:0", "--no-discovery", "--relay", self.relay_url)
        device.cli("up", *options)
        return device

    def settle(self, devices: Sequence[Device], reached: Callable[[], bool], what: str) -> None:
        """Return when every device is in sync and `reached` holds. Raises DemoFailed after DEMO_SETTLE_TIMEOUT_S."""
        deadline = self.runtime.monotonic() + DEMO_SETTLE_TIMEOUT_S
        for device in devices:
            device.client.job("/rescan", None, folder="")
        with contextlib.closing(devices[-1].client.events(POLL_S)) as news:
            while not (all(device.client.get("/status")["idle"] for device in devices) and reached()):
                left = deadline - self.runtime.monotonic()
                if left <= 0:
                    raise DemoFailed(
                        f"not so after {DEMO_SETTLE_TIMEOUT_S:g} s: {what}", next_step="meshsync demo --keep"
                    )
                next(news, None)

    def await_durable(self, device: Device) -> None:
        """Return when a relay has acknowledged every version of `device`. Raises DemoFailed."""
        try:
            device.client.job("/waits", None, folder="", durable=True, timeout_s=DEMO_SETTLE_TIMEOUT_S)
        except MeshsyncError as error:
            raise DemoFailed(f"not every version is durable: {error.what}", device=device.name) from error

    def _end(self, device: Device) -> None:
        try:
            device.cli("down")
        except MeshsyncError:
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(device.home.pid.read_text()), signal.SIGKILL)


def _detail(error: bytes) -> str:
    """Return what a failed command said, from its JSON error if it is one."""
    try:
        return str(json.loads(error)["detail"])
    except (ValueError, KeyError, TypeError):
        return error.decode("utf-8", "replace").strip()[-LOG_TAIL_BYTES_MAX:]


def contents(tree: Path) -> dict[str, bytes]:
    """Return every file below `tree` by its relative name, the control directory left out."""
    return {str(path.relative_to(tree)): path.read_bytes() for path in _files(tree)}


def _files(tree: Path) -> Iterator[Path]:
    return (path for path in tree.rglob("*") if path.is_file() and ".meshsync" not in path.relative_to(tree).parts)


def _relay_program() -> list[str]:
    beside = Path(sys.executable).parent / "meshsync-relay"
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "relay.cli"]
