"""How a process is given a passphrase: by a descriptor, which it reads once, or by a file of this user.

Invariant: it is on no command line and in no environment variable, only where to read it is.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from meshsync.agent.key_file import passphrase_bytes
from meshsync.errors import ConfigError
from meshsync.limits import PASSPHRASE_BYTES_MAX

DESCRIPTOR_VARIABLE = "MESHSYNC_PASSPHRASE_FD"
FILE_VARIABLE = "MESHSYNC_PASSPHRASE_FILE"


def given(environment: Mapping[str, str]) -> bytes | None:
    """Return the passphrase that `environment` leads to, None if it names none. Blocking; a descriptor is read up.

    The line end after it is no part of it. Raises ConfigError if what is named cannot be read or is open to others.
    """
    number, file = environment.get(DESCRIPTOR_VARIABLE, ""), environment.get(FILE_VARIABLE, "")
    if number:
        return _from_descriptor(number)
    return _from_file(Path(file)) if file else None


def _from_descriptor(number: str) -> bytes:
    try:
        with os.fdopen(int(number), "rb") as pipe:
            return _line(pipe.read(PASSPHRASE_BYTES_MAX + 3))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{DESCRIPTOR_VARIABLE} is no descriptor that can be read") from error


def _from_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(PASSPHRASE_BYTES_MAX + 3)
    except OSError as error:
        raise ConfigError(f"the passphrase cannot be read: {error.strerror}", path=str(path)) from error
    if stat.S_ISREG(mode) and mode & 0o077:
        raise ConfigError("others can read the passphrase", path=str(path), next_step=f"chmod 600 {path}")
    return _line(data)


def _line(data: bytes) -> bytes:
    text = data.removesuffix(b"\n").removesuffix(b"\r")
    return passphrase_bytes(text.decode("utf-8", "surrogateescape"))
