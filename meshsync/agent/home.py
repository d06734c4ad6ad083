"""Where an agent keeps its state, and how its socket is found.

Invariant: the layout is a pure function of the home directory, so a command and the agent agree on it without asking.

| path | what |
|---|---|
| `agent.sock` | the local API; elsewhere (see `Home.socket`) when this path is too long for a socket address |
| `agent.pid`, `agent.log` | the running process and what it wrote to stderr |
| `config.toml` | the options of `meshsync up` |
| `open.html` | leads a browser to the local page, once |
| `device.key` | the device's secret seeds, mode 0600 |
| `recovery-sheet` | the public part of this device's recovery sheet |
| `index.sqlite3`, `store/` | metadata, and sealed chunks of replaced and deleted versions |
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from meshsync.errors import ConfigError
from meshsync.limits import SOCKET_PATH_BYTES_MAX

HOME_MODE = 0o700


@dataclass(frozen=True, slots=True)
class Home:
    """The state directory of one agent. `path` is absolute; nothing is created until `create` is called."""

    path: Path

    @property
    def socket(self) -> Path:
        """The socket's path: in the home, or, if that exceeds a socket address, under the user's runtime directory."""
        inside = self.path / "agent.sock"
        if len(os.fsencode(inside)) <= SOCKET_PATH_BYTES_MAX:
            return inside
        name = hashlib.blake2b(os.fsencode(self.path), digest_size=12).hexdigest()
        return short_socket_directory() / f"{name}.sock"

    @property
    def pid(self) -> Path:
        return self.path / "agent.pid"

    @property
    def log(self) -> Path:
        return self.path / "agent.log"

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    @property
    def device_key(self) -> Path:
        return self.path / "device.key"

    @property
    def recovery_sheet(self) -> Path:
        return self.path / "recovery-sheet"

    @property
    def index(self) -> Path:
        return self.path / "index.sqlite3"

    @property
    def store(self) -> Path:
        return self.path / "store"

    def create(self) -> None:
        """Make the home and the socket's directory, mode 0700. ConfigError if that fails or they are not ours."""
        for directory in (self.path, self.socket.parent):
            _create_private(directory)


def find_home(given: str = "") -> Home:
    """Return the home named by `given`, else by MESHSYNC_HOME, else the platform's state directory of this user."""
    named = given or os.environ.get("MESHSYNC_HOME", "")
    if named:
        return Home(Path(named).expanduser().absolute())
    import platformdirs  # only now: it costs a third of a short command's time

    return Home(Path(platformdirs.user_state_dir("meshsync", appauthor=False)))


def short_socket_directory() -> Path:
    """Return the directory for sockets whose home has too long a path."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and len(os.fsencode(runtime)) < SOCKET_PATH_BYTES_MAX // 2:
        return Path(runtime) / "meshsync"
    return Path(tempfile.gettempdir()) / f"meshsync-{os.getuid()}"


def _create_private(directory: Path) -> None:
    try:
        directory.mkdir(mode=HOME_MODE, parents=True, exist_ok=True)
        found = directory.lstat()
    except OSError as error:
        raise ConfigError(
            f"cannot make the state directory: {error.strerror}",
            path=str(directory),
            next_step="meshsync --home DIR up",
        ) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        # A directory of another user could hand out a socket that is not the agent's.
        raise ConfigError(
            "the state directory is not a directory of this user",
            path=str(directory),
            next_step="meshsync --home DIR up",
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        directory.chmod(HOME_MODE)
