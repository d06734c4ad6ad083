"""At most one link to each device: both ends keep the same one, in whatever order they see them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import permutations

import pytest

from meshsync.agent.conversation import Conversation
from meshsync.agent.link_table import LinkTable, route
from meshsync.agent.member_link import MemberLink
from meshsync.errors import LinkClosed
from meshsync.ids import DeviceId
from meshsync.limits import LINK_RACE_S
from meshsync.transport.base import Link, Priority, Stream
from meshsync.wire.peer_messages import PairRequest
from tests.support.virtual_runtime import VirtualRuntime

LOW, HIGH = DeviceId(b"a" * 32), DeviceId(b"b" * 32)


class Cable:
    """What two ends of a link share."""

    def __init__(self, dialer: DeviceId, listener: DeviceId) -> None:
        self.closed = asyncio.Event()
        self.ends = {dialer: CableEnd(self, listener), listener: CableEnd(self, dialer)}
        self.dialer = dialer

    @property
    def is_open(self) -> bool:
        return not self.closed.is_set()


class CableEnd:
    """The twin of a link on which nobody opens a stream."""

    def __init__(self, cable: Cable, peer: DeviceId) -> None:
        self.cable, self.peer = cable, peer
        self.binding = b"b" * 32
        self.address, self.rtt_s, self.bytes_sent, self.bytes_received = "192.0.2.7:1", None, 0, 0

    async def open_stream(self, priority: Priority) -> Stream:
        raise LinkClosed("no streams here")

    async def accept_stream(self) -> Stream:
        await self.cable.closed.wait()
        raise LinkClosed("closed")

    def close(self, reason: str) -> None:
        self.cable.closed.set()

    async def wait_closed(self) -> None:
        await self.cable.closed.wait()


class Device:
    def __init__(self, runtime: VirtualRuntime, own: DeviceId) -> None:
        self.own, self.changes = own, 0
        self._runtime = runtime
        self.table = LinkTable(runtime, own, self._make, self._changed)

    def see(self, cable: Cable) -> bool:
        """Take this end of `cable`, as dialler or listener; it may be closed without this device knowing."""
        return self.table.add(cable.ends[self.own], cable.dialer == self.own)

    def _make(self, link: Link) -> MemberLink:
        return MemberLink(self._runtime, link, folders=lambda: (), pair=_pair)

    def _changed(self) -> None:
        self.changes += 1


async def _pair(conversation: Conversation, request: PairRequest, device: DeviceId) -> None:
    raise AssertionError("nobody pairs here")


@asynccontextmanager
async def two_devices() -> AsyncIterator[tuple[VirtualRuntime, Device, Device]]:
    runtime = VirtualRuntime()
    low, high = Device(runtime, LOW), Device(runtime, HIGH)
    try:
        yield runtime, low, high
    finally:
        await low.table.close()
        await high.table.close()


@pytest.mark.parametrize("order", list(permutations([(0, 0), (0, 1), (1, 0), (1, 1)])))
@pytest.mark.parametrize("prompt", [False, True], ids=["at once", "one by one"])
async def test_when_both_dial_at_once_both_keep_the_one_of_the_lower_device(
    order: list[tuple[int, int]], prompt: bool
) -> None:
    async with two_devices() as (runtime, low, high):
        cables = [Cable(LOW, HIGH), Cable(HIGH, LOW)]
        for device, cable in order:
            if cables[cable].is_open or not prompt:
                (low, high)[device].see(cables[cable])
            if prompt:
                await runtime.settle()
        await runtime.settle()
        assert cables[0].is_open and not cables[1].is_open
        assert low.table.get(HIGH) is cables[0].ends[LOW] and high.table.get(LOW) is cables[0].ends[HIGH]
        assert len(low.table.all()) == len(high.table.all()) == 1


@pytest.mark.parametrize("dialer", [LOW, HIGH])
async def test_a_device_that_dials_again_has_lost_its_older_link(dialer: DeviceId) -> None:
    async with two_devices() as (runtime, low, high):
        listener = high if dialer == LOW else low
        old, new = Cable(dialer, listener.own), Cable(dialer, listener.own)
        assert listener.see(old) and listener.see(new)
        await runtime.settle()
        assert listener.table.get(dialer) is new.ends[listener.own] and not old.is_open and new.is_open


@pytest.mark.parametrize("dialer", [LOW, HIGH])
async def test_a_device_that_restarted_and_dials_is_believed_though_this_one_had_dialled_before(
    dialer: DeviceId,
) -> None:
    async with two_devices() as (runtime, low, high):
        listener = high if dialer == LOW else low
        old, new = Cable(listener.own, dialer), Cable(dialer, listener.own)
        assert listener.see(old)
        await runtime.advance(LINK_RACE_S)
        assert listener.see(new), "who has a link does not dial: the old one is dead"
        await runtime.settle()
        assert listener.table.get(dialer) is new.ends[listener.own]


async def test_a_link_that_ends_is_forgotten_and_the_time_is_kept() -> None:
    async with two_devices() as (runtime, low, _):
        cable = Cable(HIGH, LOW)
        low.see(cable)
        await runtime.advance(5)
        assert low.table.seen_ns == {} and low.changes == 1
        cable.closed.set()
        await runtime.settle()
        assert low.table.get(HIGH) is None and low.table.seen_ns == {HIGH: 5_000_000_000} and low.changes == 2


async def test_closing_closes_every_link() -> None:
    async with two_devices() as (runtime, low, _):
        cables = [Cable(LOW, DeviceId(bytes([number]) * 32)) for number in range(100, 105)]
        for cable in cables:
            low.see(cable)
        await runtime.settle()
        await low.table.close()
        assert not any(cable.is_open for cable in cables) and low.table.all() == []


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("192.168.1.2:5", "lan"), ("127.0.0.1:5", "lan"), ("[fe80::1%eth0]:5", "lan"), ("[fd00::1]:5", "lan"),
        ("8.8.8.8:5", "direct"), ("[2a00::1]:5", "direct"), ("host.example:5", "direct"),
    ],
)  # fmt: skip
def test_where_a_device_is(address: str, kind: str) -> None:
    assert route(address) == kind
