"""Puts a relay together: keys, stores, endpoint, service. The only place of the relay where shells meet.

Invariant: started means reachable and everything acknowledged before is served; closed means everything is released.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass

from meshsync.codec.address import parse_address
from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import ConfigError, MalformedMessage
from meshsync.runtime import Runtime
from meshsync.store.files import Files, SystemFiles
from meshsync.store.packs import PackStore
from meshsync.transport.base import Endpoint, Policy
from meshsync.transport.quic import QuicEndpoint, split_address
from meshsync.wire.relay_address import RelayAddress
from relay.config import RelayConfig, load_invitations, load_keys, make_invitation
from relay.core import RelayCore
from relay.drivers.base import ChunkStore, MetadataLog
from relay.drivers.hints import LocalHints
from relay.drivers.packs import ThreadedChunkStore
from relay.drivers.sqlite_log import SqliteLog
from relay.service import RelayService
from relay.upkeep import Upkeep

POLICY = Policy(speaks_first=lambda: True, authorize=lambda device: None)
"""A relay proves itself to anyone and links with anyone; what a device may do is decided per folder."""


@dataclass(slots=True)
class RelayServer:
    """A running relay. `address` carries the newest invitation."""

    address: RelayAddress
    core: RelayCore
    service: RelayService
    upkeep: Upkeep
    endpoint: Endpoint
    _upkeep_task: asyncio.Task[None]

    async def close(self) -> None:
        """Stop accepting, end the links, finish writes under way, release the stores."""
        self._upkeep_task.cancel()
        await self.service.close()
        await self.endpoint.close()
        with contextlib.suppress(asyncio.CancelledError):
            await self._upkeep_task
        await self.core.log.close()
        await self.core.chunks.close()


async def start(config: RelayConfig, runtime: Runtime, files: Files | None = None) -> RelayServer:
    """Start a relay on this machine.

    Raises ConfigError (address, key, or a second relay on the same data), StorageFull, ResourceError, IntegrityError.
    """
    files = files or SystemFiles()
    keys = load_keys(config, files, runtime)
    secrets = load_invitations(config)
    secret = secrets[-1] if secrets else make_invitation(config, files, runtime)
    async with contextlib.AsyncExitStack() as undo:
        packs = await runtime.in_thread(lambda: PackStore(config.chunks_path, files))
        chunks = ThreadedChunkStore(packs, runtime)
        undo.push_async_callback(chunks.close)
        log = SqliteLog(config.log_path, runtime)
        undo.push_async_callback(log.close)
        endpoint = await QuicEndpoint.open(runtime, keys, config.listen, config.engine, POLICY)
        undo.pop_all()
    core = make_core(config, keys, runtime, log, chunks)
    service, upkeep = RelayService(core, endpoint), Upkeep(core)
    service.start()
    task = runtime.spawn(upkeep.run(), "relay upkeep")
    return RelayServer(public_address(config, endpoint.port, keys, secret), core, service, upkeep, endpoint, task)


def make_core(
    config: RelayConfig, keys: DeviceKeys, runtime: Runtime, log: MetadataLog, chunks: ChunkStore
) -> RelayCore:
    """Return the inside of a relay over its stores."""
    return RelayCore(
        keys,
        runtime,
        log,
        chunks,
        LocalHints(),
        lambda: load_invitations(config),
        config.folder_bytes_max,
        config.grace_s,
    )


def public_address(config: RelayConfig, port: int, keys: DeviceKeys, secret: bytes | None) -> RelayAddress:
    """Return what devices are told: `advertise`, else the host listened at, else this machine's address.

    Raises ConfigError if `advertise` or `listen` is no address.
    """
    if not config.advertise:
        host, _ = split_address(config.listen)
        return RelayAddress(_own_host() if host in ("0.0.0.0", "::") else host, port, keys.device, secret)
    has_port = ":" in config.advertise.rpartition("]")[2]
    try:
        host, port = parse_address(config.advertise if has_port else f"{config.advertise}:{port}")
    except MalformedMessage as error:
        raise ConfigError(f"not an address: {error.what}", next_step="Write host:port or [v6]:port") from error
    return RelayAddress(host, port, keys.device, secret)


def _own_host() -> str:
    """Return the address that this machine would send from; nothing is sent to find out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        host: str = probe.getsockname()[0]
        return host
