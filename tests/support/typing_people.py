"""People at machines of their own: each types command lines, and knows what the screens show and nothing else.

Invariant: what one machine learns of another was printed there for a person to read. A machine's environment only says
where it is: its home directory, its name, and that everything stays on loopback, on ports of the system's choice and
without discovery, so devices find each other through the relay alone. Leaving `Desks` has ended every process.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import IO

from meshsync.agent.home import Home
from tests.support.real_mesh import BIN, COMMAND_TIMEOUT_S, START_TIMEOUT_S, clean_environment


class Machine:
    """One machine; `typed` is every command line so far that its user typed."""

    def __init__(self, name: str, home: Path) -> None:
        self.name = name
        self.home = home
        self.typed: list[str] = []
        home.mkdir(parents=True)

    def types(self, line: str) -> str:
        """Type a command that must succeed; return what the screen shows."""
        started = self.begins(line)
        return self.ended(started)

    def begins(self, line: str) -> subprocess.Popen[str]:
        """Type a command and return while it runs; `ended` waits for it."""
        self.typed.append(line)
        return self._run(line)

    def ended(self, started: subprocess.Popen[str]) -> str:
        """Return what the screen shows when a command that must succeed has ended."""
        shown, errors = started.communicate(timeout=COMMAND_TIMEOUT_S)
        assert started.returncode == 0, (self.name, self.typed[-1], started.returncode, shown, errors)
        return shown

    def asks(self, line: str) -> str:
        """Type a command for the test's sake, which is not counted."""
        return self.ended(self._run(line))

    def _run(self, line: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["sh", "-c", line], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self._environment()
        )

    def stays(self, line: str) -> tuple[subprocess.Popen[str], str]:
        """Type a command that goes on running; return it and the first line that it shows."""
        self.typed.append(line)
        errors = (self.home / "errors").open("ab")
        with errors:
            started = subprocess.Popen(
                ["sh", "-c", f"exec {line}"],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=self._environment(),
            )
        return started, _first_line(started.stdout, self.home / "errors")

    def end(self) -> None:
        """End the agent whatever state it is in."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
            pid = int(Home(self.home / ".local/state/meshsync").pid.read_text())
            descriptor = os.pidfd_open(pid)
            try:
                signal.pidfd_send_signal(descriptor, signal.SIGTERM)
                if not select.select([descriptor], [], [], START_TIMEOUT_S)[0]:
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            finally:
                os.close(descriptor)

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in clean_environment().items() if not name.startswith("XDG_")}
        return inherited | {
            "HOME": str(self.home),
            "PATH": f"{BIN}:{inherited.get('PATH', '')}",
            "MESHSYNC_UP_NAME": self.name,
            "MESHSYNC_UP_LISTEN": "127.0.0.1:0",
            "MESHSYNC_UP_NO_DISCOVERY": "1",
            "MESHSYNC_RELAY_UP_LISTEN": "127.0.0.1:0",
        }


class Desks:
    """Anna's laptop and desktop, Ben's notebook, and a relay, all as bought. Use as a context manager."""

    def __init__(self, directory: Path) -> None:
        self.relay = Machine("relay", directory / "relay")
        self.laptop = Machine("laptop", directory / "laptop")
        self.desktop = Machine("desktop", directory / "desktop")
        self.notebook = Machine("notebook", directory / "notebook")
        self._relay: subprocess.Popen[str] | None = None

    @property
    def devices(self) -> list[Machine]:
        return [self.laptop, self.desktop, self.notebook]

    def __enter__(self) -> Desks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for device in self.devices:
            device.end()
        if self._relay is not None:
            self._relay.terminate()
            self._relay.communicate(timeout=START_TIMEOUT_S)

    def relay_up(self) -> str:
        """Start the relay; return the command that its screen tells the devices' users to type."""
        self._relay, shown = self.relay.stays("meshsync-relay up")
        return told(shown, r"meshsync up --relay \S+")


def told(shown: str, command: str) -> str:
    """Return the first command of this form on a screen."""
    found = re.search(command, shown)
    assert found is not None, shown
    return found[0]


def _first_line(pipe: IO[str] | None, errors: Path) -> str:
    assert pipe is not None
    readable, _, _ = select.select([pipe], [], [], START_TIMEOUT_S)
    assert readable, errors.read_text()
    return pipe.readline()
