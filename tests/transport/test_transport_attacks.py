"""promises.md B.3: what strangers and hostile peers try against a listening endpoint, on both engines."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aioquic.quic.connection import QuicConnection
from attackers import MIB, Attacker, HugeHello, ManualRuntime, StalledHello, configuration, memory_bytes, send_far

from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import PeerOverran
from meshsync.limits import (
    HANDSHAKE_TIMEOUT_S,
    LINK_CLOSE_TIMEOUT_S,
    LINKS_UNAUTHENTICATED_PER_SOURCE_MAX,
    STREAM_WINDOW_BYTES,
)
from meshsync.transport.base import Policy
from meshsync.transport.link import QuicLink
from meshsync.transport.quic import QuicEndpoint

pytestmark = pytest.mark.parametrize("engine", ["qh3", "aioquic"])

SERVER, CLIENT = DeviceKeys(b"s" * 64), DeviceKeys(b"c" * 64)
DOOR = Policy(speaks_first=lambda: True, authorize=lambda device: None)


@asynccontextmanager
async def listening(engine: str) -> AsyncIterator[tuple[QuicEndpoint, ManualRuntime]]:
    runtime = ManualRuntime()
    endpoint = await QuicEndpoint.open(runtime, SERVER, "127.0.0.1:0", engine, DOOR)
    try:
        yield endpoint, runtime
    finally:
        await endpoint.close()


async def connect(
    endpoint: QuicEndpoint, runtime: ManualRuntime, engine: str = "qh3"
) -> tuple[QuicEndpoint, QuicLink, QuicLink]:
    """Return an honest device's endpoint and both ends of its link."""
    client = await QuicEndpoint.open(runtime, CLIENT, "127.0.0.1:0", engine)
    dial = client.dial(f"127.0.0.1:{endpoint.port}", expect=SERVER.device, discovery_key=None, timeout_s=5)
    both = asyncio.gather(dial, endpoint.accept())
    while not both.done():
        await runtime.advance(0.001)
    near, far = await both
    return client, near, far


async def is_served(endpoint: QuicEndpoint, runtime: ManualRuntime) -> bool:
    """Whether an honest device still gets a link."""
    client, near, far = await connect(endpoint, runtime)
    await client.close()
    return near.peer == SERVER.device and far.peer == CLIENT.device


class TestStrangers:
    async def test_a_client_hello_of_16_mib_is_cut_off_early(self, engine: str) -> None:
        async with listening(engine) as (endpoint, runtime):
            attacker = Attacker(HugeHello(configuration=configuration()), endpoint.port)
            before = memory_bytes()
            attacker.start()
            turns = 0
            while attacker.terminated is None and turns < 200:
                await attacker.turn()
                turns += 1
            attacker.close()
            assert attacker.terminated is not None
            assert attacker.datagrams_sent < 150
            assert memory_bytes() - before < 64 * MIB  # the attacker itself holds 16 MiB, twice while it retries
            assert len(endpoint._admission) == 0
            assert await is_served(endpoint, runtime)

    async def test_ten_thousand_spoofed_first_packets_leave_no_state(self, engine: str) -> None:
        async with listening(engine) as (endpoint, runtime):
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            for turn in range(10_000):
                token = b"" if turn % 2 else b"\x40\xff" + os.urandom(255)
                head = b"\xc0\0\0\0\x01\x08" + os.urandom(8) + b"\x08" + os.urandom(8) + (token or b"\0")
                sender.sendto(head.ljust(1200, b"\0"), ("127.0.0.1", endpoint.port))
                if turn % 100 == 0:
                    await asyncio.sleep(0)
            await asyncio.sleep(0)
            sender.setblocking(False)
            assert sender.recv(2000)[0] & 0xF0 == 0xF0  # retries, which are no longer than what asked for them
            sender.close()
            assert not endpoint._links and not endpoint._routes and len(endpoint._admission) == 0
            assert await is_served(endpoint, runtime)

    async def test_slow_handshakes_are_few_and_end(self, engine: str) -> None:
        async with listening(engine) as (endpoint, runtime):
            crowd = [Attacker(StalledHello(configuration=configuration()), endpoint.port) for _ in range(40)]
            for attacker in crowd:
                attacker.start()
            for _ in range(3):
                for attacker in crowd:
                    await attacker.turn()
            assert len(endpoint._admission) == len(endpoint._links) == LINKS_UNAUTHENTICATED_PER_SOURCE_MAX
            await runtime.advance(HANDSHAKE_TIMEOUT_S)
            assert len(endpoint._admission) == 0
            await runtime.advance(LINK_CLOSE_TIMEOUT_S)
            assert not endpoint._links and not endpoint._routes
            for attacker in crowd:
                attacker.close()
            assert await is_served(endpoint, runtime)

    async def test_a_stranger_who_talks_but_does_not_prove_is_cut_off(self, engine: str) -> None:
        async with listening(engine) as (endpoint, _):
            attacker = Attacker(QuicConnection(configuration=configuration()), endpoint.port)
            attacker.start()
            while not attacker.connected:
                await attacker.turn()
            attacker.quic.send_stream_data(4, bytes(MIB))
            turns = 0
            while attacker.terminated is None and turns < 300:
                await attacker.turn()
                turns += 1
            attacker.close()
            assert attacker.terminated is not None and len(endpoint._admission) == 0

    async def test_a_stream_before_the_proof_ends_the_link(self, engine: str) -> None:
        async with listening(engine) as (endpoint, runtime):
            attacker = Attacker(QuicConnection(configuration=configuration()), endpoint.port)
            attacker.start()
            while not attacker.connected:
                await attacker.turn()
            link = next(iter(endpoint._links))
            attacker.quic.send_stream_data(4, b"hello")
            attacker.flush()
            for _ in range(5):
                await attacker.turn()
            assert isinstance(link.error, PeerOverran)
            attacker.close()
            assert await is_served(endpoint, runtime)

    async def test_damaged_and_random_datagrams_change_nothing(self, engine: str) -> None:
        async with listening(engine) as (endpoint, runtime):
            dice = random.Random(5)
            attacker = Attacker(QuicConnection(configuration=configuration()), endpoint.port)
            attacker.start()
            for _ in range(3):
                await attacker.turn()
            link_id = next(iter(endpoint._routes))
            honest = attacker.quic
            honest.send_stream_data(0, b"x" * 3000)
            samples = [data for data, _ in honest.datagrams_to_send(0.5)] + [bytes([0x40]) + link_id + bytes(1300)]
            for _ in range(500):
                data = bytearray(dice.choice(samples))
                for _ in range(dice.randrange(1, 4)):
                    data[dice.randrange(len(data))] = dice.randrange(256)
                attacker.send_raw(bytes(data[: dice.randrange(1, len(data))]))
                await asyncio.sleep(0)
            attacker.close()
            assert await is_served(endpoint, runtime)

    async def test_a_byte_far_beyond_what_was_delivered_costs_a_stranger_the_link_or_nothing(self, engine: str) -> None:
        async with listening(engine) as (endpoint, _):
            attacker = Attacker(QuicConnection(configuration=configuration()), endpoint.port)
            attacker.start()
            while not attacker.connected:
                await attacker.turn()
            before = memory_bytes()
            send_far(attacker.quic, 0, 6 * MIB - 1)
            attacker.flush()
            for _ in range(5):
                await attacker.turn()
            assert len(endpoint._links) == 1
            assert isinstance(next(iter(endpoint._links)).error, PeerOverran) == (engine == "aioquic")
            assert memory_bytes() - before < 4 * MIB
            attacker.close()


class TestMembers:
    async def test_a_byte_at_the_top_of_a_doubling_window_costs_no_memory(self, engine: str) -> None:
        async with listening(engine) as (endpoint, runtime):
            client, near, far = await connect(endpoint, runtime, "aioquic")
            before = memory_bytes()
            tops = [await _climb(near, far, stream_id, runtime) for stream_id in (4, 8, 12, 16)]
            assert tops[0] == STREAM_WINDOW_BYTES  # the attack did what it should
            assert max(tops) <= STREAM_WINDOW_BYTES  # and bytes that were not delivered opened no window
            assert memory_bytes() - before < 32 * MIB
            if engine == "aioquic":
                with pytest.raises(PeerOverran):
                    await far.accept_stream()
            await client.close()

    async def test_bytes_out_of_order_are_bounded_by_the_bytes_received(self, engine: str) -> None:
        """The bucket of guard.py, through the shell: datagrams that never become the next bytes of a stream."""
        async with listening(engine) as (endpoint, runtime):
            client, near, far = await connect(endpoint, runtime, "aioquic")
            replayed = bytes([0x40]) + next(iter(far.ids)) + bytes(1400)
            turns = 0
            while far.error is None and turns < 20_000:
                far.receive(replayed * 40, len(replayed), far.remote)
                turns += 1
            assert isinstance(far.error, PeerOverran)
            assert turns * 40 * len(replayed) < 17 * MIB
            near.close("done")
            await client.close()


async def _climb(near: QuicLink, far: QuicLink, stream_id: int, runtime: ManualRuntime) -> int:
    """Send one byte at the top of the stream's window, and again each time the window doubled."""
    quic = near.engine._quic  # type: ignore[attr-defined]
    top = 0
    for _ in range(40):
        if far.error is not None or near.error is not None:
            break
        window = quic._get_or_create_stream_for_send(stream_id).max_stream_data_remote
        limit = min(window, quic._remote_max_data - quic._remote_max_data_used + top)
        if limit > top:
            top = limit
            send_far(quic, stream_id, top - 1)
            near.flush()
        await runtime.advance(0.001)
    return top
