"""A device that is known at several places is linked once, and the link that lives is left alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from meshsync.agent.conversation import Conversation
from meshsync.agent.dialer import Dialer
from meshsync.agent.link_table import LinkTable
from meshsync.agent.member_link import MemberLink
from meshsync.crypto.identity import DeviceKeys
from meshsync.discovery.base import Found
from meshsync.discovery.tags import make_tags
from meshsync.errors import LinkClosed
from meshsync.ids import DeviceId
from meshsync.limits import DIAL_JITTER_S, LINK_RACE_S
from meshsync.transport.base import Link, Policy
from meshsync.transport.memory import MemoryEndpoint, MemoryNetwork
from meshsync.wire.peer_messages import PairRequest
from tests.support.virtual_runtime import VirtualRuntime

KEY, NONCE = b"k" * 32, b"n" * 8
ANNA, BEN = (DeviceKeys(bytes([letter]) * 64) for letter in b"ab")
PLACES = ["192.0.2.7", "198.51.100.7", "ben.example", "[2001:db8::7]"]


async def _pair(conversation: Conversation, request: PairRequest, device: DeviceId) -> None:
    raise AssertionError("nobody pairs here")


@dataclass
class Device:
    """What dials and keeps links of one device, together as in an agent. `made` counts its links."""

    runtime: VirtualRuntime
    endpoint: MemoryEndpoint
    keys: DeviceKeys
    made: int = 0
    dialer: Dialer = field(init=False)
    table: LinkTable = field(init=False)

    def __post_init__(self) -> None:
        self.table = LinkTable(self.runtime, self.keys.device, self._make, self._changed)
        self.dialer = Dialer(
            self.runtime,
            self.endpoint,
            lambda: {KEY: KEY},
            lambda address: any(member.link.address == address for member in self.table.all()),
            lambda device: self.table.get(device) is not None,
            lambda link, key: self._add(link, dialed=True),
            lambda key, device: True,
        )
        self.accepting = self.runtime.spawn(self._accept(), "accept")

    def _changed(self) -> None:
        self.dialer.refresh()

    def _make(self, link: Link) -> MemberLink:
        return MemberLink(self.runtime, link, folders=lambda: (), pair=_pair)

    def _add(self, link: Link, dialed: bool) -> None:
        self.made += 1
        self.table.add(link, dialed)

    async def _accept(self) -> None:
        while True:
            try:
                self._add(await self.endpoint.accept(), dialed=False)
            except LinkClosed:
                return

    def finds(self, *addresses: str) -> None:
        """Hear an announcement."""
        port = int(addresses[0].rsplit(":", 1)[1])
        self.dialer.report(Found(addresses, port, make_tags([KEY], NONCE, port), NONCE))

    async def close(self) -> None:
        await self.dialer.close()
        await self.endpoint.close()
        await self.table.close()


@asynccontextmanager
async def two_devices() -> AsyncIterator[tuple[VirtualRuntime, Device, Device]]:
    runtime = VirtualRuntime()
    network = MemoryNetwork(runtime)
    policy = Policy(discovery_keys=lambda: (KEY,), authorize=lambda device: None)
    anna, ben = [
        Device(runtime, await MemoryEndpoint.open(runtime, keys, network, policy), keys) for keys in (ANNA, BEN)
    ]
    try:
        yield runtime, anna, ben
    finally:
        await anna.close()
        await ben.close()


async def passed(runtime: VirtualRuntime, seconds: float) -> None:
    for _ in range(round(seconds / DIAL_JITTER_S)):
        await runtime.advance(DIAL_JITTER_S)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("later_s", [0.0, 2 * DIAL_JITTER_S, 2 * LINK_RACE_S])
async def test_a_device_found_at_one_address_and_told_under_another_is_dialled_once_at_each(
    place: str, later_s: float
) -> None:
    async with two_devices() as (runtime, anna, ben):
        port = ben.endpoint.port
        anna.finds(f"10.0.0.2:{port}")
        await runtime.advance(later_s)
        anna.dialer.add((f"{place}:{port}",), KEY)
        await passed(runtime, 15)
        assert anna.made <= 2 and anna.table.get(BEN.device) is not None
        kept, made = anna.table.get(BEN.device), anna.made
        for _ in range(3):
            anna.dialer.refresh()
            await passed(runtime, 3)
        assert anna.table.get(BEN.device) is kept and anna.made == made


async def test_two_devices_that_find_each_other_at_several_addresses_end_with_one_link() -> None:
    async with two_devices() as (runtime, anna, ben):
        for place in PLACES:
            anna.finds(f"{place}:{ben.endpoint.port}")
            ben.finds(f"{place}:{anna.endpoint.port}")
        await passed(runtime, 15)
        assert anna.made <= 2 * len(PLACES)
        kept, made = anna.table.get(BEN.device), anna.made
        await passed(runtime, 15)
        assert kept is not None and anna.table.get(BEN.device) is kept and anna.made == made


@pytest.mark.parametrize("place", PLACES)
async def test_a_link_that_ended_is_made_again_from_any_place(place: str) -> None:
    async with two_devices() as (runtime, anna, ben):
        anna.dialer.add((f"{place}:{ben.endpoint.port}",), KEY)
        await passed(runtime, 3)
        first = anna.table.get(BEN.device)
        assert first is not None
        first.close("the network went away")
        await passed(runtime, 3)
        again = anna.table.get(BEN.device)
        assert again is not None and again is not first


async def test_the_links_that_end_while_an_agent_stops_are_not_dialled_again() -> None:
    async with two_devices() as (runtime, anna, ben):
        anna.dialer.add((f"10.0.0.2:{ben.endpoint.port}",), KEY)
        await passed(runtime, 3)
        link = anna.table.get(BEN.device)
        assert link is not None
        await anna.dialer.close()
        made = anna.made
        link.close("the agent stops")
        await passed(runtime, 3)
        assert anna.table.get(BEN.device) is None and anna.made == made
