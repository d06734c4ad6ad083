"""The hooks of the in-process network: damage, delay, partition; and that a run depends on its seed alone."""

from __future__ import annotations

import asyncio
import random

import pytest
from attackers import ManualRuntime

from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import ConfigError, LinkClosed, PeerTimeout
from meshsync.limits import LINK_IDLE_TIMEOUT_S
from meshsync.transport.base import Link, Policy, Priority
from meshsync.transport.memory import MemoryEndpoint, MemoryNetwork

SERVER, CLIENT = DeviceKeys(b"s" * 64), DeviceKeys(b"c" * 64)
DOOR = Policy(speaks_first=lambda: True, authorize=lambda device: None)


class SeededRuntime(ManualRuntime):
    """Virtual time, and randomness from one seed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)

    def random_bytes(self, size: int) -> bytes:
        return self._random.randbytes(size)


async def connect(runtime: ManualRuntime, network: MemoryNetwork) -> tuple[Link, Link, MemoryEndpoint, MemoryEndpoint]:
    far = await MemoryEndpoint.open(runtime, SERVER, network, DOOR)
    near = await MemoryEndpoint.open(runtime, CLIENT, network)
    dial = near.dial(f"memory:{far.port}", expect=SERVER.device, discovery_key=None, timeout_s=5)
    both = asyncio.gather(dial, far.accept())
    while not both.done():
        await runtime.advance(0.01)
    return *(await both), near, far


async def test_damage_reaches_stream_bytes_and_never_the_proofs() -> None:
    runtime = SeededRuntime(1)
    network = MemoryNetwork(runtime)
    network.damage = lambda data: bytes([data[0] ^ 1]) + data[1:]
    link, accepted, near, far = await connect(runtime, network)
    await (await link.open_stream(Priority.BULK)).send(b"abc")
    await runtime.advance(0.01)
    assert await (await accepted.accept_stream()).receive() == b"`bc"
    await near.close()
    await far.close()


async def test_delay_is_virtual_and_is_what_the_round_trip_shows() -> None:
    runtime = SeededRuntime(1)
    network = MemoryNetwork(runtime)
    network.delay_s = lambda: 0.1
    link, _, near, far = await connect(runtime, network)
    while link.rtt_s is None:
        await runtime.advance(0.01)
    assert 0.19 < link.rtt_s < 0.25
    await near.close()
    await far.close()


async def test_a_partition_ends_links_after_the_idle_timeout_and_dials_at_theirs() -> None:
    runtime = SeededRuntime(1)
    network = MemoryNetwork(runtime)
    link, accepted, near, far = await connect(runtime, network)
    network.reaches = lambda source, target: False
    for _ in range(4):
        await runtime.advance(LINK_IDLE_TIMEOUT_S / 3)
    for lost in (link, accepted):
        with pytest.raises(LinkClosed):
            await lost.accept_stream()
    dial = asyncio.ensure_future(near.dial(f"memory:{far.port}", expect=None, discovery_key=None, timeout_s=2))
    await runtime.advance(0)
    await runtime.advance(2)
    with pytest.raises(PeerTimeout):
        await dial
    await near.close()
    await far.close()


async def test_a_lost_packet_ends_the_link_rather_than_leaving_a_hole() -> None:
    runtime = SeededRuntime(1)
    network = MemoryNetwork(runtime)
    link, accepted, near, far = await connect(runtime, network)
    stream = await link.open_stream(Priority.BULK)
    network.reaches = lambda source, target: False
    await stream.send(b"lost")
    await runtime.advance(0)
    network.reaches = lambda source, target: True
    await stream.send(b"found")
    await runtime.advance(0)
    with pytest.raises(LinkClosed):
        await accepted.accept_stream()
    await near.close()
    await far.close()


async def test_equal_seeds_give_equal_packets() -> None:
    traces = []
    for seed in (7, 7, 8):
        runtime = SeededRuntime(seed)
        network = MemoryNetwork(runtime)
        trace: list[bytes] = []
        network.damage = lambda data, trace=trace: trace.append(data) or data  # type: ignore[misc]
        link, accepted, near, far = await connect(runtime, network)
        trace.append(near.certificate_hash + far.certificate_hash)
        await (await link.open_stream(Priority.BULK)).send(bytes(100_000))
        await runtime.advance(0)
        traces.append((trace, link.bytes_sent, accepted.bytes_sent))
        await near.close()
        await far.close()
    assert traces[0] == traces[1] != traces[2]


async def test_a_port_serves_one_endpoint() -> None:
    runtime = SeededRuntime(1)
    network = MemoryNetwork(runtime)
    first = await MemoryEndpoint.open(runtime, SERVER, network, port=5)
    with pytest.raises(ConfigError):
        await MemoryEndpoint.open(runtime, SERVER, network, port=5)
    await first.close()
    assert (await MemoryEndpoint.open(runtime, SERVER, network, port=5)).port == 5
