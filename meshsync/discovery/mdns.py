"""Finding devices on the LAN by multicast DNS (RFC 6762, 6763) with zeroconf.

Invariant: an announcement carries a random instance name, addresses, a nonce and tags, and nothing that outlives this
start of the agent. Records of others are bounded, never trusted, and never raise.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence

import ifaddr
from zeroconf import Error, InterfaceChoice, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from meshsync.discovery.announcement import dialable, parse_txt, write_txt
from meshsync.discovery.base import Event, Found, Ignored, Reason, Report, Unavailable
from meshsync.discovery.tags import NONCE_SIZE_BYTES, TAG_SIZE_BYTES, make_tags
from meshsync.limits import (
    DISCOVERY_ADDRESSES_MAX,
    DISCOVERY_RESOLVE_TIMEOUT_S,
    DISCOVERY_RESOLVES_MAX,
    DISCOVERY_TAGS_MAX,
    DISCOVERY_TAGS_STEP,
)
from meshsync.runtime import Runtime

SERVICE = "_meshsync._udp.local."
_SOURCE_LENGTH_MAX = 64


class MdnsDiscovery:
    """A Discovery on the local network. `interfaces` restricts it to these IPv4 addresses of this machine."""

    def __init__(self, runtime: Runtime, interfaces: Sequence[str] | None = None) -> None:
        self._runtime = runtime
        self._interfaces = None if interfaces is None else list(interfaces)
        name = runtime.random_bytes(8).hex()
        self._instance = f"{name}.{SERVICE}"
        self._host = f"{name}.local."
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._announced = False
        self._report: Report | None = None
        self._resolving: dict[str, asyncio.Task[None]] = {}

    async def start(self, report: Report) -> None:
        self._report = report
        interfaces = self._interfaces
        # Asked for an address that is not this machine's, zeroconf fails and leaves its socket open.
        if interfaces is not None and not set(interfaces) <= set(machine_addresses()):
            await self._give_up(f"the local network cannot be searched: no interface has {', '.join(interfaces)}")
            return
        try:
            self._zeroconf = AsyncZeroconf(interfaces=InterfaceChoice.All if interfaces is None else interfaces)
            await self._zeroconf.zeroconf.async_wait_for_start()
        except (OSError, RuntimeError, ValueError, Error) as error:  # no interface, no multicast, or no such address
            await self._give_up(f"the local network cannot be searched: {error}")
            return
        if not self._zeroconf.zeroconf.engine.senders:
            await self._give_up("the local network cannot be searched: no interface can send multicast")
            return
        self._browser = AsyncServiceBrowser(self._zeroconf.zeroconf, SERVICE, handlers=[self._on_change])

    async def announce(self, port: int, keys: Sequence[bytes]) -> None:
        if self._zeroconf is None:
            return
        info = AsyncServiceInfo(
            SERVICE,
            self._instance,
            port=port,
            server=self._host,
            properties=self._properties(port, keys[:DISCOVERY_TAGS_MAX]),
            parsed_addresses=own_addresses(self._interfaces),
        )
        try:
            if self._announced:
                sent = await self._zeroconf.async_update_service(info)
            else:
                sent = await self._zeroconf.async_register_service(info)
            self._announced = True
            await sent
        except (OSError, Error) as error:
            self._emit(Unavailable(f"this device cannot be announced on the local network: {error!r}"))

    async def close(self) -> None:
        self._report = None
        resolving = list(self._resolving.values())
        for task in resolving:
            task.cancel()
        await asyncio.gather(*resolving, return_exceptions=True)
        if self._browser is not None:
            await self._browser.async_cancel()
            self._browser = None
        if self._zeroconf is not None:
            zeroconf, self._zeroconf = self._zeroconf, None
            await zeroconf.async_close()

    def _properties(self, port: int, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        nonce = self._runtime.random_bytes(NONCE_SIZE_BYTES)
        filling = min(-len(keys) % DISCOVERY_TAGS_STEP, DISCOVERY_TAGS_MAX - len(keys))
        noise = tuple(self._runtime.random_bytes(TAG_SIZE_BYTES) for _ in range(filling))
        return write_txt(nonce, sorted(make_tags(keys, nonce, port) + noise))

    def _on_change(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is ServiceStateChange.Removed or name.lower() == self._instance.lower():
            return
        if name in self._resolving:
            return
        if len(self._resolving) >= DISCOVERY_RESOLVES_MAX:
            self._ignore(name, Reason.TOO_MANY)
            return
        task = self._runtime.spawn(self._resolve(zeroconf, name), "mdns-resolve")
        self._resolving[name] = task
        task.add_done_callback(lambda _: self._resolving.pop(name, None))

    async def _resolve(self, zeroconf: Zeroconf, name: str) -> None:
        try:
            info = AsyncServiceInfo(SERVICE, name)
            answered = await info.async_request(zeroconf, DISCOVERY_RESOLVE_TIMEOUT_S * 1000)
        except (OSError, Error):
            answered = False
        if not answered:
            self._ignore(name, Reason.NO_ANSWER)
            return
        said = parse_txt(info.properties)
        addresses = dialable(info.parsed_scoped_addresses(), info.port)
        if isinstance(said, Reason):
            self._ignore(name, said)
        elif not addresses or info.port is None:
            self._ignore(name, Reason.NO_ADDRESS)
        else:
            self._emit(Found(addresses, info.port, said.tags, said.nonce))

    def _ignore(self, name: str, reason: Reason) -> None:
        source = "".join(char if char.isprintable() else "?" for char in name[:_SOURCE_LENGTH_MAX])
        self._emit(Ignored(source, reason))

    def _emit(self, event: Event) -> None:
        if self._report is not None:
            self._report(event)

    async def _give_up(self, why: str) -> None:
        self._emit(Unavailable(why))
        if self._zeroconf is not None:
            zeroconf, self._zeroconf = self._zeroconf, None
            await zeroconf.async_close()


def own_addresses(interfaces: Sequence[str] | None) -> list[str]:
    """Return the addresses to announce: `interfaces`, else this machine's, without loopback and link-local ones."""
    if interfaces is not None:
        return list(interfaces)[:DISCOVERY_ADDRESSES_MAX]
    parsed = map(ipaddress.ip_address, machine_addresses())
    usable = [address for address in parsed if not address.is_loopback and not address.is_link_local]
    return [str(address) for address in sorted(usable, key=lambda address: address.version)][:DISCOVERY_ADDRESSES_MAX]


def machine_addresses() -> list[str]:
    """Return every address of this machine's interfaces, without scopes."""
    ips = [ip.ip for adapter in ifaddr.get_adapters() for ip in adapter.ips]
    return [ip if isinstance(ip, str) else ip[0] for ip in ips]
