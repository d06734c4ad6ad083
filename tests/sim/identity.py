"""The keys, membership and empty homes with which every simulated mesh begins. Made once for each process.

Invariant: nothing here depends on a seed; chunks are small, so that small files have several.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from meshsync.agent.folder import ADDRESSES_KEY, JOINING_KEY
from meshsync.agent.founding import NAME_KEY, ROOT_KEY
from meshsync.agent.home import Home
from meshsync.agent.kept_keys import write_kept
from meshsync.crypto.envelope import box
from meshsync.crypto.folder_keys import FolderKeys, commitment, pack_bundle, secret_commitment
from meshsync.crypto.identity import DeviceKeys
from meshsync.ids import FolderId
from meshsync.index.database import Database
from meshsync.index.log_rows import LogRows
from meshsync.index.meta import Meta
from meshsync.limits import COUNTER_MAX, SUITE
from meshsync.metalog.membership import replay
from meshsync.metalog.membership_entry import (
    Admit,
    Change,
    Genesis,
    Invite,
    OpenedMembership,
    SetRelay,
    sign_change,
    sign_genesis,
)
from meshsync.roles import Role
from meshsync.wire.relay_address import RelayAddress
from tests.sim.index import template
from tests.sim.network import address_of, port_of
from tests.sim.syscalls import ROOT_PATH

SECRET = b"sixteen byte key"
RELAY = DeviceKeys(b"relay keys......" * 4)


@dataclass(frozen=True, slots=True)
class Beginning:
    """A folder of some devices. `homes` and `indexes` are by device, `joiners` are indexes of those that still join."""

    folder: FolderId
    devices: tuple[DeviceKeys, ...]
    homes: tuple[Home, ...]
    indexes: tuple[bytes, ...]
    joiners: tuple[bytes, ...]
    relay: RelayAddress


@functools.cache
def begin(devices: int, relayed: bool) -> Beginning:
    """Return the beginning of a mesh."""
    keys = tuple(DeviceKeys(bytes([number]) * 64) for number in range(1, devices + 1))
    secret, epoch_key = b"folder secret..." * 2, b"first epoch key." * 2
    epoch = commitment(epoch_key)
    bundle = pack_bundle(FolderKeys(FolderId(bytes(32)), secret, {epoch: epoch_key}, epoch))
    genesis = sign_genesis(
        keys[0],
        Genesis(
            suite=SUITE,
            chunk_min=64,
            chunk_mean=256,
            chunk_max=1024,
            nonce=bytes(32),
            box_public=keys[0].box_public,
            epoch=epoch,
            secret=secret_commitment(secret),
            box=box(keys[0].box_public, b"ephemeral secret" * 2, bundle),
        ),
    )
    folder_keys = FolderKeys(genesis.folder, secret, {epoch: epoch_key}, epoch)
    chain = [genesis]

    def add(author: DeviceKeys, change: Change, ticket: DeviceKeys | None = None) -> None:
        now = replay(chain, genesis.folder)
        chain.append(sign_change(author, genesis.folder, now.head, now.seq + 1, change, ticket=ticket))

    for number, device in enumerate(keys[1:], 2):
        ticket = DeviceKeys(bytes([100 + number]) * 64)
        sealed = box(ticket.box_public, bytes([number]) * 32, pack_bundle(folder_keys))
        add(keys[0], Invite(ticket.device, Role.WRITER, COUNTER_MAX // 10**9, epoch, sealed))
        add(device, Admit(ticket.device, Role.WRITER, device.box_public), ticket)
    relay = RelayAddress(address_of(0).partition(":")[0], port_of(0), RELAY.device, SECRET)
    if relayed:
        add(keys[0], SetRelay(RELAY.device, (relay.without_secret().text,)))
    place = Path(tempfile.mkdtemp(prefix="meshsync-sim-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    homes = tuple(_home(place / str(number), device, folder_keys) for number, device in enumerate(keys, 1))
    settled = tuple(_index(chain, number, device_joins=False) for number in range(1, devices + 1))
    joining = tuple(_index(chain, number, device_joins=True) for number in range(1, devices + 1))
    return Beginning(genesis.folder, keys, homes, settled, joining, relay)


def _home(place: Path, device: DeviceKeys, keys: FolderKeys) -> Home:
    home = Home(place)
    state = place / "folders" / keys.folder.hex()
    for directory in (place, state.parent, state):
        directory.mkdir(mode=0o700)
    home.device_key.write_bytes(device.seed)
    home.device_key.chmod(0o600)
    write_kept(state / "keys", device, keys)
    (state / "ready").write_bytes(b"1\n")
    return home


def _index(chain: list[OpenedMembership], number: int, device_joins: bool) -> bytes:
    def fill(database: Database) -> None:
        meta = Meta(database)
        meta.set(ROOT_KEY, ROOT_PATH)
        meta.set(NAME_KEY, b"Docs")
        if number > 1:
            meta.set(ADDRESSES_KEY, address_of(1).encode())
        if device_joins and number > 1:
            meta.set(JOINING_KEY, chain[0].author)
        rows = LogRows(database)
        for position, entry in enumerate(chain):
            rows.append_membership(position, entry.id, entry.data)

    return template(fill)
