"""Network namespaces joined by a bridge: a LAN of real kernels' stacks on one machine, multicast included.

Invariant: leaving the `Lan` context has ended every process started in it and removed every namespace and device,
also those of an earlier run that was killed, because names carry this process's id.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

COMMAND_TIMEOUT_S = 120.0
END_TIMEOUT_S = 10.0


def missing() -> str:
    """Return why namespaces cannot be used here, or nothing."""
    if os.geteuid() != 0:
        return "needs root"
    if shutil.which("ip") is None:
        return "needs iproute2"
    probe = subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False)
    return "" if probe.returncode == 0 else "the kernel gives no network namespaces"


@dataclass(frozen=True)
class Host:
    """One namespace with one address."""

    name: str
    namespace: str
    address: str

    def words(self, command: Sequence[str]) -> list[str]:
        """Return the command line that runs `command` on this host."""
        return ["ip", "netns", "exec", self.namespace, *command]

    def run(self, *command: str, timeout_s: float = COMMAND_TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """Run a command on this host to its end and return what it printed; its exit code is not checked."""
        return subprocess.run(
            self.words(command), capture_output=True, text=True, timeout=timeout_s, check=False, env=clean_environment()
        )

    def json(self, *command: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Any:
        """Run a command that must succeed and print JSON; return the parsed value."""
        done = self.run(*command, timeout_s=timeout_s)
        assert done.returncode == 0, (command, done.returncode, done.stdout, done.stderr)
        return json.loads(done.stdout)


class Lan:
    """Hosts `names` on one bridge, 10.77.0.1 and up. Use as a context manager; needs root and iproute2."""

    def __init__(self, names: Sequence[str]) -> None:
        self._mark = f"ms{os.getpid() % 100_000}"
        self._bridge_space = f"{self._mark}-lan"
        self.hosts = {
            name: Host(name, f"{self._mark}-{name}", f"10.77.0.{number}") for number, name in enumerate(names, 1)
        }
        self._processes: list[subprocess.Popen[str]] = []

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def __enter__(self) -> Lan:
        try:
            self._build()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._remove()

    def start(self, host: str, *command: str, log: Path, environment: Mapping[str, str] | None = None) -> IO[str]:
        """Start a process on `host` that lives as long as this LAN; return its stdout. stderr goes to `log`."""
        with log.open("wb") as errors:
            process = subprocess.Popen(
                self[host].words(command),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**clean_environment(), **(environment or {})},
            )
        self._processes.append(process)
        assert process.stdout is not None
        return process.stdout

    def unplug(self, host: str) -> None:
        """Take the host's cable out."""
        _ip("-n", self._bridge_space, "link", "set", f"p-{host}"[:15], "down")

    def plug(self, host: str) -> None:
        """Put the host's cable back."""
        _ip("-n", self._bridge_space, "link", "set", f"p-{host}"[:15], "up")

    def _build(self) -> None:
        # The bridge lives in a namespace of its own, so the machine's own network sees nothing of this.
        space = self._bridge_space
        _ip("netns", "add", space)
        _ip("-n", space, "link", "add", "lan", "type", "bridge", "mcast_snooping", "0")
        _ip("-n", space, "link", "set", "lan", "up")
        for host in self.hosts.values():
            port = f"p-{host.name}"[:15]
            _ip("netns", "add", host.namespace)
            _ip("-n", space, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
            _ip("-n", space, "link", "set", port, "master", "lan", "up")
            _ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "broadcast", "10.77.0.255", "dev", "eth0")
            _ip("-n", host.namespace, "link", "set", "lo", "up")
            _ip("-n", host.namespace, "link", "set", "eth0", "up")
            _ip("-n", host.namespace, "route", "add", "224.0.0.0/4", "dev", "eth0")

    def _remove(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        for space in (*(host.namespace for host in self.hosts.values()), self._bridge_space):
            listed = subprocess.run(["ip", "netns", "pids", space], capture_output=True, text=True, check=False)
            for pid in listed.stdout.split():  # daemons that left their parent
                os.kill(int(pid), signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)


def clean_environment() -> dict[str, str]:
    """Return this process's environment without options for the product."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MESHSYNC_")}


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stderr)
