"""Real processes on loopback: a relay and agents, driven by typing commands, killed and started again.

Invariant: leaving a `Mesh` has ended every process that it started, by process id. Ports are the system's choice; a
program that is started again asks for the port that it had, so that others find it where it was.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from meshsync.agent.home import Home
from meshsync.cli.client import Client
from meshsync.errors import AgentNotRunning, MeshsyncError
from tests.real.trees import compare_trees

BIN = Path(sys.executable).parent
START_TIMEOUT_S = 30.0
COMMAND_TIMEOUT_S = 120.0
SETTLE_TIMEOUT_S = 90.0
LOOK_S = 0.1  # between two looks at the trees while nothing is reported


class Relay:
    """One `meshsync-relay` with its data directory. `url` is what agents are given."""

    def __init__(self, directory: Path) -> None:
        self.program: Sequence[str] = (str(BIN / "meshsync-relay"),)
        self.options: Sequence[str] = ()
        self.data = directory / "relay"
        self.url = ""
        self._log = directory / "relay.log"
        self._listen = "127.0.0.1:0"
        self._process: subprocess.Popen[bytes] | None = None

    def up(self) -> None:
        """Start it; return when it is ready."""
        line = [*self.program, "up", "--data", str(self.data), "--listen", self._listen, "--json", *self.options]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=log, env=clean_environment())
        assert self._process.stdout is not None
        with self._process.stdout as pipe:
            readable, _, _ = select.select([pipe], [], [], START_TIMEOUT_S)
            assert readable, self._log.read_text()
            ready = json.loads(pipe.readline())
        self.url = self.url or str(ready["invitation"])
        self._listen = str(ready["address"]).removeprefix("quic://").partition("#")[0]

    @property
    def port(self) -> int:
        return int(self._listen.rpartition(":")[2])

    def down(self, number: int = signal.SIGTERM) -> None:
        """End it with a signal; nothing if it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(START_TIMEOUT_S)

    def kill9(self) -> None:
        self.down(signal.SIGKILL)

    def ask(self, *words: str) -> dict[str, Any]:
        """Type a `meshsync-relay` command about the data directory; return its JSON."""
        line = [str(BIN / "meshsync-relay"), *words, "--data", str(self.data), "--json"]
        done = subprocess.run(
            line, capture_output=True, timeout=COMMAND_TIMEOUT_S, env=clean_environment(), check=False
        )
        answer = json.loads(done.stdout)
        assert isinstance(answer, dict)
        return answer


class Device:
    """One agent: its home and its copy of the shared folder."""

    def __init__(self, name: str, directory: Path, options: Sequence[str]) -> None:
        self.name = name
        self.home = Home(directory / name)
        self.tree = directory / "trees" / name
        self._options = ("--name", name, "--no-discovery", *options)
        self._port = 0

    @property
    def client(self) -> Client:
        return Client(self.home)

    def cli(self, *words: str, environment: dict[str, str] | None = None, code: int = 0) -> dict[str, Any]:
        """Type a command that must end with `code`; return its JSON, {} if it printed none."""
        line = [str(BIN / "meshsync"), *words, "--home", str(self.home.path), "--json"]
        done = subprocess.run(
            line,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_S,
            env={**clean_environment(), **(environment or {})},
            check=False,
        )
        assert done.returncode == code, (self.name, words, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        answer = json.loads(done.stdout) if done.stdout.strip() else {}
        assert isinstance(answer, dict)
        return answer

    def up(self, *, environment: dict[str, str] | None = None, same_port: bool = True) -> None:
        """Start the agent. Without `same_port` nobody finds it at the address that it told before."""
        port = self._port if same_port else 0
        self.cli("up", *self._options, "--listen", f"127.0.0.1:{port}", environment=environment)
        self._port = udp_port(self.pid)

    def down(self) -> None:
        self.cli("down")

    def kill9(self) -> None:
        """End the agent at once, in the middle of whatever it does."""
        descriptor = os.pidfd_open(self.pid)
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            assert select.select([descriptor], [], [], START_TIMEOUT_S)[0]
        finally:
            os.close(descriptor)

    @property
    def pid(self) -> int:
        return int(self.home.pid.read_text())

    @property
    def port(self) -> int:
        return self._port

    def status(self) -> dict[str, Any]:
        return self.client.get("/status")

    def folder(self) -> dict[str, Any]:
        """Return the state of the one folder."""
        state = self.status()["folders"][0]
        assert isinstance(state, dict)
        return state

    def stats(self) -> dict[str, Any]:
        return self.client.get("/stats")

    def fetched(self) -> int:
        """Return the bytes of content fetched since the agent started."""
        return int(self.stats()["content_bytes_fetched"])

    def wire(self) -> int:
        """Return the bytes sent and received since the agent started, over all links."""
        return sum(link["sent"] + link["received"] for link in self.stats()["links"].values())

    def received(self, *kinds: str) -> int:
        return sum(link["received"] for kind, link in self.stats()["links"].items() if kind in kinds)

    def rescan(self) -> None:
        self.cli("rescan")

    def wait(self, *, durable: bool = False, timeout_s: float = SETTLE_TIMEOUT_S) -> None:
        self.cli("wait", "--timeout", str(timeout_s), *(["--durable"] if durable else []))

    def share(self) -> str:
        """Share the tree; return the ticket."""
        return str(self.cli("share", str(self.tree))["ticket"])

    def join(self, ticket: str) -> None:
        self.cli("join", ticket, str(self.tree))

    def versions(self, *words: str) -> list[dict[str, Any]]:
        """Return what `versions` lists."""
        listed = self.cli("versions", *words)["versions"]
        assert isinstance(listed, list)
        return listed

    def strays(self) -> list[Path]:
        """Return what an operation that ended must not leave: staged files, parked names."""
        staged = [path for path in (self.tree / ".meshsync/staging").glob("*") if path.is_file()]
        return [*staged, *(self.tree / ".meshsync").glob("parked-*")]

    def end(self) -> None:
        """End the agent whatever state it is in."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
            os.kill(self.pid, signal.SIGTERM)
            descriptor = os.pidfd_open(self.pid)
            try:
                if not select.select([descriptor], [], [], 10.0)[0]:
                    os.kill(self.pid, signal.SIGKILL)
            finally:
                os.close(descriptor)


class Mesh:
    """A relay, unless it is not wanted, and devices below `directory`. Use as a context manager."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.relay = Relay(directory)
        self.devices: list[Device] = []

    def __enter__(self) -> Mesh:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for device in self.devices:
            device.end()
        self.relay.down()

    def add(self, name: str, *options: str) -> Device:
        """Start an agent, with the relay if it was started."""
        relay = ("--relay", self.relay.url) if self.relay.url else ()
        device = Device(name, self.directory, (*relay, *options))
        self.devices.append(device)
        device.tree.mkdir(parents=True)
        device.up()
        return device

    def pair(self, names: Sequence[str], *, relay: bool) -> list[Device]:
        """Start devices; the first shares its tree with the others. Without a relay they know only the first."""
        if relay:
            self.relay.up()
        devices = [self.add(name) for name in names]
        for newcomer in devices[1:]:
            newcomer.join(devices[0].share())
        return devices


def until(reached: Callable[[], bool], what: Callable[[], object], timeout_s: float = SETTLE_TIMEOUT_S) -> None:
    """Return when `reached` holds; fail with `what()` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline, what()
        select.select([], [], [], LOOK_S)


def settle(devices: Sequence[Device], *, durable: bool = False, timeout_s: float = SETTLE_TIMEOUT_S) -> None:
    """Return when all devices have looked at their trees, are in sync and equal; fail with what differs."""
    for device in devices:
        device.rescan()

    def reached() -> bool:
        done = all(in_sync(device.status(), durable) for device in devices)
        return done and not differences(devices)

    until(
        reached,
        lambda: (differences(devices), [(d.name, d.folder(), d.status()["health"]) for d in devices]),
        timeout_s,
    )


def in_sync(status: dict[str, Any], durable: bool) -> bool:
    """Return whether a status says that nothing is left to do."""
    folders = status["folders"]
    return all(f["state"] == "in sync" and not (durable and f["not_durable"]) for f in folders)


def differences(devices: Sequence[Device]) -> list[str]:
    """Return how the trees differ from the first one's."""
    found = []
    for other in devices[1:]:
        try:
            found += compare_trees(devices[0].tree, other.tree)
        except FileNotFoundError as error:  # a name went away between listing and looking
            found.append(str(error))
    return found


def udp_port(pid: int) -> int:
    """Return the UDP port that a process has bound on 127.0.0.1."""
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            target = os.readlink(descriptor)
            if target.startswith("socket:["):
                sockets.add(target[8:-1])
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        words = line.split()
        if words[9] in sockets and words[1].startswith("0100007F:"):
            return int(words[1].partition(":")[2], 16)
    raise AssertionError(f"process {pid} has no UDP socket")


def running(device: Device) -> bool:
    """Return whether the agent answers."""
    try:
        device.status()
    except (AgentNotRunning, MeshsyncError):
        return False
    return True


def clean_environment() -> dict[str, str]:
    """Return this process's environment without options for the product."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MESHSYNC_")}
