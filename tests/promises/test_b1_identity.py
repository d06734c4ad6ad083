"""B1 and B2 at the device: who is dialled, who is let in, and what a stranger learns."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from meshsync.agent.dialer import Dialer
from meshsync.crypto.identity import DeviceKeys
from meshsync.discovery.base import Found
from meshsync.discovery.tags import make_tags
from meshsync.errors import NotAMember, PeerIdentityMismatch
from meshsync.ids import DeviceId, short
from meshsync.transport.base import Link, Policy, Recognise
from meshsync.transport.memory import MemoryEndpoint, MemoryNetwork
from tests.support.virtual_runtime import VirtualRuntime

KEY, NONCE = b"k" * 32, b"n" * 8
ANNA, BEN, MALLORY = (DeviceKeys(bytes([letter]) * 64) for letter in b"abm")


@dataclass
class Lan:
    """Anna, who dials what is announced, and whoever announces. `shown` are the devices that proved themselves."""

    runtime: VirtualRuntime
    network: MemoryNetwork
    dialer: Dialer
    links: list[Link]
    endpoints: list[MemoryEndpoint]
    shown: list[DeviceId] = field(default_factory=list)

    async def announce(self, keys: DeviceKeys) -> None:
        """Let `keys` answer at a place announced with the folder's tags, which anybody can copy."""

        def authorize(device: DeviceId) -> None:
            self.shown.append(device)

        policy = Policy(speaks_first=lambda: True, authorize=authorize)
        endpoint = await MemoryEndpoint.open(self.runtime, keys, self.network, policy)
        self.endpoints.append(endpoint)
        address = f"10.0.0.2:{endpoint.port}"
        self.dialer.report(Found((address,), endpoint.port, make_tags([KEY], NONCE, endpoint.port), NONCE))
        await self.runtime.advance(2.0)

    async def dial(self, to: MemoryEndpoint, expect: DeviceId | None, recognise: Recognise | None = None) -> Link:
        """Let Anna dial `to`."""
        place = f"10.0.0.2:{to.port}"
        dial = self.endpoints[0].dial(place, expect=expect, discovery_key=KEY, timeout_s=5.0, recognise=recognise)
        task = self.runtime.spawn(dial, "dial")
        await self.runtime.advance(1.0)
        return await task


@asynccontextmanager
async def open_lan(*known: DeviceKeys) -> AsyncIterator[Lan]:
    runtime = VirtualRuntime()
    network = MemoryNetwork(runtime)
    endpoint = await MemoryEndpoint.open(runtime, ANNA, network)
    links: list[Link] = []
    members = {keys.device for keys in known}
    dialer = Dialer(
        runtime,
        endpoint,
        lambda: {KEY: KEY},
        lambda address: False,
        lambda device: False,
        lambda link, key: links.append(link),
        lambda key, device: device in members,
    )
    lan = Lan(runtime, network, dialer, links, [endpoint])
    try:
        yield lan
    finally:
        await dialer.close()
        for each in lan.endpoints:
            await each.close()


async def test_b1_a_member_that_is_announced_is_linked() -> None:
    async with open_lan(BEN) as lan:
        await lan.announce(BEN)
        assert [link.peer for link in lan.links] == [BEN.device] and lan.shown == [ANNA.device]


async def test_b1_a_stranger_that_copies_an_announcement_gets_no_link_and_no_identity() -> None:
    async with open_lan(BEN) as lan:
        await lan.announce(MALLORY)
        assert lan.links == [] and lan.shown == []


async def test_b1_the_error_names_the_device_that_answered() -> None:
    async with open_lan() as lan:
        await lan.announce(MALLORY)
        with pytest.raises(PeerIdentityMismatch) as caught:
            await lan.dial(lan.endpoints[1], None, lambda device: False)
        assert caught.value.device == short(MALLORY.device) and lan.shown == []


async def test_b2_a_device_that_nobody_knows_is_told_so() -> None:
    async with open_lan(BEN) as lan:
        policy = Policy(discovery_keys=lambda: [KEY], authorize=lambda device: "unknown")
        door = await MemoryEndpoint.open(lan.runtime, BEN, lan.network, policy)
        lan.endpoints.append(door)
        with pytest.raises(NotAMember, match="this peer does not know this device"):
            await lan.dial(door, BEN.device)
