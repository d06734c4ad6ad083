"""The device's own keys on disk. Invariant: made once, never overwritten; a damaged file is an error, not a new key."""

from __future__ import annotations

import stat

from meshsync.agent.home import Home
from meshsync.crypto.identity import SEED_SIZE_BYTES, DeviceKeys
from meshsync.errors import ConfigError
from meshsync.runtime import Runtime
from meshsync.store.files import SystemFiles, write_atomic


def load_or_create(home: Home, runtime: Runtime) -> DeviceKeys:
    """Return the keys in `home`, made at the first start. Blocking.

    Raises ConfigError if the file is damaged or readable by others: another key would make this another device.
    """
    path = home.device_key
    if not path.exists():
        write_atomic(SystemFiles(), path, runtime.random_bytes(SEED_SIZE_BYTES))
    try:
        data = path.read_bytes()
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise ConfigError(f"the device key cannot be read: {error.strerror}", path=str(path)) from error
    if mode & 0o077:
        raise ConfigError("the device key can be read by others", path=str(path), next_step=f"chmod 600 {path}")
    if len(data) != SEED_SIZE_BYTES:
        raise ConfigError(
            "the device key is damaged",
            path=str(path),
            next_step="Restore it from a backup, or move it away to become a new device.",
        )
    return DeviceKeys(data)
