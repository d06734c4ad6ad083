"""Whether the secrets of a home are this user's alone.

Invariant: nothing is changed here. What others could read until now may have been read: the user is told, once, by a
refusal with the command that ends it.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from meshsync.agent.home import HOME_MODE, Home
from meshsync.errors import ConfigError
from meshsync.limits import MODES_NAMED_MAX

SECRET_MODE = 0o600


def check_modes(home: Home) -> None:
    """Raise ConfigError if a directory or file of `home` that holds secrets is open to, or owned by, others. Blocking.

    What is not there is nobody's.
    """
    foreign: list[Path] = []
    open_to_others: list[tuple[Path, int]] = []
    for path, mode in _secrets(home):
        try:
            found = path.lstat()
        except OSError:
            continue
        if found.st_uid != os.getuid():
            foreign.append(path)
        elif stat.S_IMODE(found.st_mode) & ~mode & 0o077:
            open_to_others.append((path, mode))
    if foreign:
        raise ConfigError(
            "secrets of this device belong to another user",
            path=str(foreign[0]),
            next_step=f"sudo chown {os.getuid()} {shlex.quote(str(foreign[0]))}",
        )
    if open_to_others:
        shown = open_to_others[:MODES_NAMED_MAX]
        commands = (f"chmod {mode:o} {shlex.quote(str(path))}" for path, mode in shown)
        raise ConfigError(
            "other users of this machine can read secrets of this device, and may have",
            path=str(open_to_others[0][0]),
            next_step=" && ".join(commands),
        )


def _secrets(home: Home) -> Iterator[tuple[Path, int]]:
    yield home.path, HOME_MODE
    yield home.device_key, SECRET_MODE
    yield home.config, SECRET_MODE  # a relay's address holds its invitation
    yield home.recovery_sheet, SECRET_MODE
    folders = home.path / "folders"
    yield folders, HOME_MODE
    for folder in sorted(folders.iterdir()) if folders.is_dir() else ():
        yield folder, HOME_MODE
        yield folder / "keys", SECRET_MODE
