"""Two Syncthing instances on loopback as the rival of `bench_sync.py`.

Invariant: nothing but loopback is used: no discovery, no relays, no NAT traversal, no usage reports; paired over the
REST API. Rescans are left to the watcher with its shortest delay, the fastest set-up that Syncthing offers.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAM = shutil.which("syncthing")
START_TIMEOUT_S = 60.0
FOLDER = "bench"


def free_port() -> int:
    """Return a TCP port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Instance:
    """One Syncthing process with its folder at `tree`."""

    def __init__(self, directory: Path) -> None:
        assert PROGRAM is not None
        self.tree = directory / "tree"
        self.tree.mkdir(parents=True)
        self._home = directory / "home"
        self.port, self._gui = free_port(), free_port()
        generate = [PROGRAM, "generate", f"--home={self._home}", "--no-default-folder", "--skip-port-probing"]
        subprocess.run(generate, check=True, capture_output=True)
        text = (self._home / "config.xml").read_text()
        self._key = text.partition("<apikey>")[2].partition("</apikey>")[0]
        (self._home / "config.xml").write_text(self._loopback_only(text))
        self.log = (directory / "log").open("wb")
        serve = [PROGRAM, "serve", f"--home={self._home}", f"--gui-address=127.0.0.1:{self._gui}"]
        options = ["--no-browser", "--no-restart", "--no-upgrade"]
        self.process = subprocess.Popen([*serve, *options], stdout=self.log, stderr=self.log)
        self.device = str(self._await_answer()["myID"])

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Return the JSON that the REST API answers."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self._gui}/rest/{path}", data, method=method)
        request.add_header("X-API-Key", self._key)
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def meet(self, other: Instance) -> None:
        """Share the folder with `other`, at its loopback address."""
        device = {"deviceID": other.device, "addresses": [f"tcp://127.0.0.1:{other.port}"], "compression": "metadata"}
        self.ask("PUT", f"config/devices/{other.device}", device)
        members = [{"deviceID": self.device}, {"deviceID": other.device}]
        folder = {"id": FOLDER, "path": str(self.tree), "devices": members, "fsWatcherDelayS": 1}
        self.ask("PUT", f"config/folders/{FOLDER}", {**folder, "fsWatcherEnabled": True, "rescanIntervalS": 3600})

    def sent_bytes(self) -> int:
        """Return the bytes this instance has put on its links."""
        return int(self.ask("GET", "system/connections")["total"]["outBytesTotal"])

    def close(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.wait(START_TIMEOUT_S)
        self.log.close()

    def _loopback_only(self, text: str) -> str:
        for name in ("globalAnnounceEnabled", "localAnnounceEnabled", "relaysEnabled", "natEnabled"):
            text = text.replace(f"<{name}>true</{name}>", f"<{name}>false</{name}>")
        text = text.replace("<crashReportingEnabled>true", "<crashReportingEnabled>false")
        text = text.replace("<urAccepted>0", "<urAccepted>-1")
        listen = f"<listenAddress>tcp://127.0.0.1:{self.port}</listenAddress>"
        return text.replace("<listenAddress>default</listenAddress>", listen)

    def _await_answer(self) -> Any:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                return self.ask("GET", "system/status")
            except (urllib.error.URLError, ConnectionError):
                assert time.monotonic() < deadline and self.process.poll() is None, "syncthing did not start"
                time.sleep(0.05)


class SyncthingPair:
    """Two paired instances. Use as a context manager."""

    name = "syncthing"

    def __init__(self, directory: Path) -> None:
        self._one, self._other = Instance(directory / "one"), Instance(directory / "other")
        self._one.meet(self._other)
        self._other.meet(self._one)
        self.source, self.target = self._one.tree, self._other.tree
        self.pids = [self._one.process.pid, self._other.process.pid]

    def __enter__(self) -> SyncthingPair:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._one.close()
        self._other.close()

    def changed(self) -> None:
        """Ask for a scan at once, so that the watcher's delay is not part of bulk figures."""
        self._one.ask("POST", f"db/scan?folder={FOLDER}")

    def sent_bytes(self) -> int:
        return self._one.sent_bytes()
