"""The device's own keys on disk, plain or sealed with a passphrase.

Invariant: made once, never made anew over what is there; a damaged file is an error, not a new key. A change of the
passphrase leaves, after a crash at any point, the old file or the new one, and both hold the same key.
"""

from __future__ import annotations

from collections.abc import Callable

from meshsync.agent.home import Home
from meshsync.agent.key_file import SALT_SIZE_BYTES, Cost, is_sealed, open_seed, seal_seed
from meshsync.crypto.identity import SEED_SIZE_BYTES, DeviceKeys
from meshsync.errors import ConfigError, KeysLocked, NotFound
from meshsync.limits import KEY_FILE_BYTES_MAX
from meshsync.runtime import Runtime
from meshsync.store.files import Files, SystemFiles, write_atomic

Passphrase = Callable[[], bytes | None]
"""Returns the passphrase that this process was given, None if it was given none. Asked only if one is needed."""


def no_passphrase() -> bytes | None:
    """Return None: a process that was given no passphrase."""
    return None


def load_or_create(home: Home, runtime: Runtime, passphrase: Passphrase = no_passphrase) -> DeviceKeys:
    """Return the keys in `home`, made at the first start. Blocking.

    Raises KeysLocked if they are sealed and the passphrase is missing or another one, ConfigError if the file is
    damaged: another key would make this another device.
    """
    path = home.device_key
    if not path.exists():
        write_atomic(SystemFiles(), path, runtime.random_bytes(SEED_SIZE_BYTES))
    return DeviceKeys(_seed(home, read(home), passphrase))


def read(home: Home) -> bytes:
    """Return the key file. Blocking. Raises ConfigError if it cannot be read, NotFound if there is none."""
    path = home.device_key
    try:
        with path.open("rb") as file:
            return file.read(KEY_FILE_BYTES_MAX + 1)
    except FileNotFoundError as error:
        raise NotFound("this device has no key yet", path=str(path), next_step="meshsync up") from error
    except OSError as error:
        raise ConfigError(f"the device key cannot be read: {error.strerror}", path=str(path)) from error


def needs_passphrase(home: Home) -> bool:
    """Whether the keys in `home` are sealed; False if there are none yet. Blocking. Raises ConfigError."""
    try:
        return is_sealed(read(home))
    except NotFound:
        return False


def set_passphrase(
    home: Home,
    runtime: Runtime,
    new: bytes,
    present: Passphrase = no_passphrase,
    files: Files | None = None,
    cost: Cost = Cost(),  # noqa: B008
) -> None:
    """Seal the keys with `new`, in the place of `present` if they are sealed. Blocking.

    Raises KeysLocked, ConfigError, NotFound, ResourceError; then the file is as it was.
    """
    seed = _seed(home, read(home), present)
    sealed = seal_seed(seed, new, runtime.random_bytes(SALT_SIZE_BYTES), cost)
    assert open_seed(sealed, new) == seed  # before the only other copy goes
    write_atomic(files or SystemFiles(), home.device_key, sealed)


def remove_passphrase(home: Home, present: Passphrase, files: Files | None = None) -> bool:
    """Keep the keys plain again; return whether they were sealed. Blocking. Raises as `set_passphrase`."""
    data = read(home)
    if not is_sealed(data):
        return False
    write_atomic(files or SystemFiles(), home.device_key, _seed(home, data, present))
    return True


def _seed(home: Home, data: bytes, passphrase: Passphrase) -> bytes:
    if is_sealed(data):
        given = passphrase()
        if given is None:
            raise KeysLocked(
                "this device's keys are sealed with a passphrase",
                path=str(home.device_key),
                next_step="meshsync up     (on a terminal, or with MESHSYNC_PASSPHRASE_FILE)",
            )
        return open_seed(data, given)
    if len(data) != SEED_SIZE_BYTES:
        raise ConfigError(
            "the device key is damaged",
            path=str(home.device_key),
            next_step="Restore it from a backup, or move it away to become a new device.",
        )
    return data
