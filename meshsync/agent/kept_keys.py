"""A folder's keys in a file of this device, sealed with a key that its seed derives.

Invariant: what seals the seed seals these too, without a change of theirs: a passphrase is set or removed in one file.
"""

from __future__ import annotations

from pathlib import Path

from meshsync.agent.key_ring import pack_keys, unpack_keys
from meshsync.crypto.folder_keys import FolderKeys
from meshsync.crypto.hashing import derive
from meshsync.crypto.identity import DeviceKeys
from meshsync.crypto.sealing import OVERHEAD_BYTES, seal, unseal
from meshsync.errors import AuthenticationFailed, ConfigError
from meshsync.limits import FOLDER_KEYS_BYTES_MAX
from meshsync.store.files import SystemFiles, write_atomic

MAGIC = b"meshsync folder keys\n"
_DOMAIN = b"meshsync/1/folder keys\0"


def write_kept(path: Path, device: DeviceKeys, keys: FolderKeys) -> None:
    """Make `keys` what the file holds: after a crash it has the old or the new ones. Blocking. Raises ResourceError."""
    seal_key, nonce_key = derive(device.seed, b"ms1 kept seal"), derive(device.seed, b"ms1 kept nonce")
    write_atomic(SystemFiles(), path, seal(seal_key, nonce_key, _DOMAIN + keys.folder, pack_keys(keys), MAGIC))


def read_kept(path: Path, device: DeviceKeys, folder: bytes) -> FolderKeys:
    """Return the keys of `folder` in the file; one of an earlier build, which is plain, is sealed now. Blocking.

    Raises ConfigError if the file cannot be read or is another device's, MalformedMessage, CommitmentMismatch.
    """
    try:
        with path.open("rb") as file:
            data = file.read(FOLDER_KEYS_BYTES_MAX + len(MAGIC) + OVERHEAD_BYTES)
    except OSError as error:
        raise ConfigError(f"the folder's keys cannot be read: {error.strerror}", path=str(path)) from error
    if not data.startswith(MAGIC):
        keys = unpack_keys(data)
        write_kept(path, device, keys)
        return keys
    try:
        return unpack_keys(unseal(derive(device.seed, b"ms1 kept seal"), _DOMAIN + folder, data, len(MAGIC)))
    except AuthenticationFailed as error:
        raise ConfigError(
            "the folder's keys were altered, or are those of another device or folder",
            path=str(path),
            next_step="Bring this home back from a backup as a whole, or join the folder again.",
        ) from error
