"""Starting and ending the agent's process.

Invariant: when `start` returns, an agent answers on the home's socket; when it raises, it has left none running. The
agent's command line and environment hold no secret: every user of the machine can read the first.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, NoReturn

from meshsync.agent import config as stored
from meshsync.agent.config import Config
from meshsync.agent.home import Home
from meshsync.agent.passphrase import DESCRIPTOR_VARIABLE, FILE_VARIABLE
from meshsync.cli.client import Client
from meshsync.errors import AgentNotRunning, ConfigError, MeshsyncError, PeerTimeout
from meshsync.limits import DOWN_TIMEOUT_S, LOG_TAIL_BYTES_MAX, READY_LINE_BYTES_MAX, UP_TIMEOUT_S
from meshsync.runtime import SystemRuntime


def is_running(home: Home) -> bool:
    """Return whether an agent answers on the home's socket."""
    try:
        Client(home, timeout_s=UP_TIMEOUT_S).get("/status")
    except AgentNotRunning:
        return False
    return True


def ensure_running(home: Home) -> None:
    """Start the agent with its stored options unless one runs. Raises as `start`."""
    if not is_running(home):
        home.create()
        start(home, stored.load(home.config), unlock(home))


AGENT = ("-m", "meshsync.agent")
AGENT_VARIABLES = ("MESHSYNC_HOME", "MESHSYNC_LOG", "MESHSYNC_FAULT", DESCRIPTOR_VARIABLE, FILE_VARIABLE)


def command(home: Home, config: Config) -> list[str]:
    """Return the command line of the agent's process."""
    return [sys.executable, *AGENT, "--home", str(home.path), *config.arguments()]


def unlock(home: Home) -> bytes | None:
    """Return the passphrase that the keys of `home` open with, asked for if need be; None if they are not sealed.

    Changes nothing, so it comes before anything that a wrong one must not do. Raises KeysLocked if the passphrase is
    not given or another one, ConfigError if the key file is damaged.
    """
    from meshsync.agent import device_key  # only now: a command that starts nothing needs no cryptography

    if not device_key.needs_passphrase(home):
        return None
    from meshsync.agent.key_file import open_seed
    from meshsync.cli.passphrase import obtain

    passphrase = obtain(home)
    open_seed(device_key.read(home), passphrase)
    return passphrase


def check_listen(listen: str) -> None:
    """Return if an agent can listen at `listen`. Raises ConfigError: no address, not one of this machine, in use."""
    from meshsync.transport.quic import split_address
    from meshsync.transport.udp import bound_socket

    bound_socket(*split_address(listen)).close()


def start(home: Home, config: Config, passphrase: bytes | None) -> dict[str, Any]:
    """Start the agent detached from this terminal and return its ready line. `passphrase` is what `unlock` returned.

    The agent reads the relays from `home.config`, which must say the same as `config`. Raises ConfigError with the end
    of its log if it ends instead, PeerTimeout if it is not ready in UP_TIMEOUT_S.
    """
    with _handed(passphrase) as (environment, descriptors), home.log.open("ab") as log:
        process = subprocess.Popen(
            command(home, config),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env=environment,
            pass_fds=descriptors,
        )
    assert process.stdout is not None
    home.pid.write_text(f"{process.pid}\n", encoding="ascii")
    try:
        with process.stdout as pipe:
            line = _read_line(pipe, home)
        return _ready(line, home)
    except MeshsyncError:
        process.kill()
        process.wait()
        home.pid.unlink(missing_ok=True)
        raise
    finally:
        process.returncode = process.returncode if process.returncode is not None else 0  # it outlives us on purpose


def replace(home: Home, config: Config, passphrase: bytes | None) -> NoReturn:
    """Become the agent's process, with the same arguments as `start`."""
    words = command(home, config)
    with _handed(passphrase) as (environment, descriptors):
        for descriptor in descriptors:
            os.set_inheritable(descriptor, True)
        os.execve(words[0], words, environment)


@contextmanager
def _handed(passphrase: bytes | None) -> Iterator[tuple[dict[str, str], tuple[int, ...]]]:
    """Give an agent's environment, and the descriptors by which it learns its passphrase, if there is one.

    Options of commands stay out of the environment: a relay's invitation may be one of them.
    """
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("MESHSYNC_") or name in AGENT_VARIABLES
    }
    if passphrase is None:
        yield environment, ()
        return
    reading, writing = os.pipe()
    try:
        os.write(writing, passphrase)  # a pipe holds more than the longest one
        os.close(writing)
        yield {**environment, DESCRIPTOR_VARIABLE: str(reading)}, (reading,)
    finally:
        os.close(reading)


def stop(home: Home) -> None:
    """End the agent and return when its process is gone. Raises AgentNotRunning, PeerTimeout."""
    pid = int(Client(home).post("/stop")["pid"])
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        gone, _, _ = select.select([descriptor], [], [], DOWN_TIMEOUT_S)
    finally:
        os.close(descriptor)
    if not gone:
        raise PeerTimeout(f"the agent (process {pid}) is still at work", next_step=f"tail {home.log}")
    home.pid.unlink(missing_ok=True)


def _read_line(pipe: IO[bytes], home: Home) -> bytes:
    """Return the first line, or what came before the end. Raises PeerTimeout at the deadline."""
    runtime_now = SystemRuntime(threads=1).monotonic
    deadline = runtime_now() + UP_TIMEOUT_S
    line = b""
    while not line.endswith(b"\n") and len(line) < READY_LINE_BYTES_MAX:
        ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - runtime_now()))
        if not ready:
            raise PeerTimeout(f"the agent was not ready in {UP_TIMEOUT_S:g} s", next_step=f"tail {home.log}")
        piece = os.read(pipe.fileno(), READY_LINE_BYTES_MAX - len(line))
        if not piece:
            break
        line += piece
    return line


def _ready(line: bytes, home: Home) -> dict[str, Any]:
    try:
        answer = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"the agent did not start: {_last_words(home)}", next_step=f"tail {home.log}") from error
    if not isinstance(answer, dict) or answer.get("ready") is not True:
        raise ConfigError("the agent's ready line is not understood", next_step=f"tail {home.log}")
    return answer


def _last_words(home: Home) -> str:
    """Return the last line of the agent's log."""
    with home.log.open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES_MAX))
        lines = log.read(LOG_TAIL_BYTES_MAX).decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
