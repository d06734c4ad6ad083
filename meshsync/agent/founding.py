"""Beginning a folder on this device: founding a new one, or entering one whose membership chain admitted this device.

Invariant: the state directory is complete before its `ready` mark is written, so a crash leaves all of it or none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from meshsync import limits
from meshsync.agent.folder_home import FolderHome, create
from meshsync.agent.kept_keys import write_kept
from meshsync.agent.key_ring import seal_name
from meshsync.crypto.envelope import box
from meshsync.crypto.folder_keys import KEY_SIZE_BYTES, FolderKeys, commitment, pack_bundle, secret_commitment
from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import ConfigError
from meshsync.folder import control
from meshsync.folder.syscalls import Syscalls
from meshsync.ids import FolderId
from meshsync.index.database import Database
from meshsync.index.log_rows import LogRows
from meshsync.index.meta import Meta
from meshsync.metalog.membership_entry import Genesis, OpenedMembership, sign_genesis
from meshsync.runtime import Runtime
from meshsync.store.files import SystemFiles, make_directory

ROOT_KEY = "root"
NAME_KEY = "name"
INNER_ROOT_NAME = "root"


def check_root(path: Path, roots: Sequence[Path]) -> Path:
    """Return the canonical path of a directory that may become a folder. Blocking.

    Raises ConfigError if it is no directory, or lies in, above or at one of the other folders' `roots`.
    """
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise ConfigError("there is no such directory", path=str(path), next_step=f"mkdir -p {path}") from error
    if not real.is_dir():
        raise ConfigError("this is not a directory", path=str(path), next_step="Share the directory that holds it.")
    for other in roots:
        if real == other or real in other.parents or other in real.parents:
            raise ConfigError(f"the directory and the folder at {other} are one inside the other", path=str(path))
    return real


def found_folder(
    runtime: Runtime,
    home: Path,
    device: DeviceKeys,
    root: Path | None,
    name: str,
    device_name: str,
    noted: Mapping[str, bytes] = MappingProxyType({}),
) -> FolderHome:
    """Found a folder of which this device is the owner, with `root` as its place on disk. Blocking.

    `root` and `noted` are as in `enter_folder`.

    Raises ConfigError if `root` belongs to another folder, ResourceError if the disk refuses.
    """
    secret, epoch_key = runtime.random_bytes(KEY_SIZE_BYTES), runtime.random_bytes(KEY_SIZE_BYTES)
    epoch = commitment(epoch_key)
    bundle = pack_bundle(FolderKeys(FolderId(bytes(32)), secret, {epoch: epoch_key}, epoch))
    genesis = Genesis(
        suite=limits.SUITE,
        chunk_min=limits.CHUNK_SIZE_BYTES_MIN,
        chunk_mean=limits.CHUNK_SIZE_BYTES_MEAN,
        chunk_max=limits.CHUNK_SIZE_BYTES_MAX,
        nonce=runtime.random_bytes(32),
        box_public=device.box_public,
        epoch=epoch,
        secret=secret_commitment(secret),
        box=box(device.box_public, runtime.random_bytes(32), bundle),
        folder_name=seal_name(secret, name),
        device_name=seal_name(secret, device_name),
    )
    entry = sign_genesis(device, genesis)
    keys = FolderKeys(entry.folder, secret, {epoch: epoch_key}, epoch)
    return enter_folder(home, device, keys, [entry], root, name, noted)


def enter_folder(
    home: Path,
    device: DeviceKeys,
    keys: FolderKeys,
    membership: Sequence[OpenedMembership],
    root: Path | None,
    name: str,
    noted: Mapping[str, bytes] = MappingProxyType({}),
) -> FolderHome:
    """Keep a folder whose keys and membership chain this device has, with `root` as its place. Blocking.

    None: its place is inside its state, where no user works, and goes with it. `noted` goes into its index at once.
    """
    if root is not None:
        control.create(os.fsencode(root), keys.folder, Syscalls())
    state = create(home, keys.folder)
    if root is None:
        root = state.path / INNER_ROOT_NAME
        make_directory(SystemFiles(), root)
        control.create(os.fsencode(root), keys.folder, Syscalls())
    write_kept(state.keys, device, keys)
    database = Database(state.index)
    with database.transaction():
        meta = Meta(database)
        meta.set(ROOT_KEY, os.fsencode(root))
        meta.set(NAME_KEY, name.encode())
        for key, value in noted.items():
            meta.set(key, value)
        rows = LogRows(database)
        for position, entry in enumerate(membership):
            rows.append_membership(position, entry.id, entry.data)
    database.close()
    state.finish()
    return state
