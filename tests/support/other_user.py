"""Another user of this machine: processes that have given up root for a user id that owns nothing here.

Invariant: the user id is given up before anything is tried, in the process itself, so it does not matter who may run
the interpreter. Needs root.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

USER = 65534
TIMEOUT_S = 30.0
_BECOME = "import os, socket, sys; os.setgroups([]); os.setgid({user}); os.setuid({user}); path = sys.argv[1]\n"
_ASK = r"""
with socket.socket(socket.AF_UNIX) as s:
    s.settimeout(20)
    try:
        s.connect(path)
        s.sendall(b"GET /api/v1/status HTTP/1.0\r\n\r\n")
        print("answered" if s.recv(100) else "cut off")
    except PermissionError:
        print("refused")
    except (BrokenPipeError, ConnectionResetError):
        print("cut off")
"""
_STAND_IN = r"""
os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
body = b'{"schema":1,"idle":true,"health":[],"relays":[],"devices":[],"folders":[],"device":{"id":"00","name":"mine"}}'
with socket.socket(socket.AF_UNIX) as s:
    s.bind(path)
    os.chmod(path, 0o777)
    s.listen()
    print("listening", flush=True)
    while True:
        c, _ = s.accept()
        c.settimeout(20)
        got = c.recv(100_000)
        sys.stderr.buffer.write(got)
        sys.stderr.flush()
        if got:
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        c.close()
"""


def require_root() -> None:
    """Skip the test that calls it without root, or fail it if nothing may be skipped."""
    if os.geteuid() == 0:
        return
    if os.environ.get("MESHSYNC_REQUIRE") == "1":
        pytest.fail("MESHSYNC_REQUIRE=1, but this needs root")
    pytest.skip("needs root")


def asks(path: Path) -> str:
    """Ask the agent at a socket as another user: `refused` by the file system, `cut off` unread, or `answered`."""
    done = subprocess.run(_words(_ASK, path), capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    return done.stdout.strip()


class StandIn:
    """Another user's process that listens at a path and answers everything as an agent would. A context manager."""

    def __init__(self, path: Path, log: Path) -> None:
        self._log = log
        with log.open("wb") as heard:
            self._process = subprocess.Popen(_words(_STAND_IN, path), stdout=subprocess.PIPE, stderr=heard)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"listening\n", log.read_text()

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def heard(self) -> bytes:
        """Return what anybody has told it so far."""
        return self._log.read_bytes()


def _words(program: str, path: Path) -> list[str]:
    return [sys.executable, "-I", "-c", _BECOME.format(user=USER) + program, str(path)]
