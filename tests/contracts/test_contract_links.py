"""The contract of `transport/base.py`, over every implementation and pairing."""

from __future__ import annotations

import asyncio

import pytest
from link_worlds import CLIENT, FOLDER, SERVER, WORLDS, open_world

from meshsync.errors import ConfigError, LinkClosed, NotAMember, PeerIdentityMismatch, PeerOverran, PeerTimeout
from meshsync.limits import STREAM_SEND_BUFFER, STREAMS_MAX
from meshsync.transport import link as link_module
from meshsync.transport import streams as streams_module
from meshsync.transport.base import Link, Policy, Priority, Stream

pytestmark = pytest.mark.parametrize("kind", WORLDS)


async def read_all(stream: Stream) -> bytes:
    data = bytearray()
    while piece := await stream.receive():
        data += piece
    return bytes(data)


async def exchange(near: Link, far: Link, size: int) -> tuple[Stream, Stream]:
    """Return both ends of a new stream on which `size` bytes have gone from `near` to `far`."""
    mine = await near.open_stream(Priority.BULK)
    await mine.send(bytes(size))
    theirs = await far.accept_stream()
    count = 0
    while count < size:
        count += len(await theirs.receive())
    return mine, theirs


class TestLinks:
    async def test_a_link_names_the_proven_peer_at_both_ends(self, kind: str) -> None:
        async with open_world(kind) as world:
            near, far = await world.connect()
            assert (near.peer, far.peer) == (SERVER.device, CLIENT.device)
            assert far.address.endswith(f":{world.client.port}")

    async def test_both_ends_have_one_binding_that_no_other_link_has(self, kind: str) -> None:
        async with open_world(kind) as world:
            pairs = [await world.connect() for _ in range(2)]
            assert all(near.binding == far.binding and len(near.binding) == 32 for near, far in pairs)
            assert len({near.binding for near, _ in pairs}) == 2

    async def test_counters_count_and_the_round_trip_is_measured(self, kind: str) -> None:
        async with open_world(kind) as world:
            near, far = await world.connect()
            await exchange(near, far, 20_000)
            while near.rtt_s is None:
                await asyncio.sleep(0)
            assert 0 <= near.rtt_s < 1
            assert near.bytes_sent >= 20_000 and far.bytes_received >= 20_000
            assert far.bytes_sent > 0 and near.bytes_received > 0

    async def test_close_ends_the_link_and_its_streams_at_both_ends(self, kind: str) -> None:
        async with open_world(kind) as world:
            near, far = await world.connect()
            stream = await near.open_stream(Priority.BULK)
            await stream.send(b"x")
            theirs = await far.accept_stream()
            assert await theirs.receive() == b"x"
            near.close("enough")
            near.close("twice")
            await near.wait_closed()
            await far.wait_closed()
            for lost in (theirs.receive(), theirs.send(b"y"), far.accept_stream(), far.open_stream(Priority.BULK)):
                with pytest.raises(LinkClosed):
                    await lost
            with pytest.raises(LinkClosed):
                await stream.receive()

    async def test_a_closed_endpoint_closes_its_links_and_accepts_no_more(self, kind: str) -> None:
        async with open_world(kind) as world:
            near, _ = await world.connect()
            waiting = asyncio.ensure_future(world.server.accept())
            await asyncio.sleep(0)
            await world.server.close()
            with pytest.raises(LinkClosed):
                await waiting
            await near.wait_closed()


class TestDialling:
    async def test_another_device_than_the_expected_one_is_refused(self, kind: str) -> None:
        async with open_world(kind) as world:
            with pytest.raises(PeerIdentityMismatch):
                await world.client.dial(world.place, expect=CLIENT.device, discovery_key=FOLDER, timeout_s=5)

    @pytest.mark.parametrize("key", [None, b"z" * 32])
    async def test_without_a_folder_in_common_the_server_stays_unknown(self, kind: str, key: bytes | None) -> None:
        async with open_world(kind) as world:
            with pytest.raises(NotAMember):
                await world.client.dial(world.place, expect=None, discovery_key=key, timeout_s=5)

    async def test_an_unknown_device_is_told_so(self, kind: str) -> None:
        policy = Policy(speaks_first=lambda: True, authorize=lambda device: "unknown")
        async with open_world(kind, policy) as world:
            with pytest.raises(NotAMember, match="this peer does not know this device"):
                await world.dial()

    async def test_nobody_there_is_a_timeout(self, kind: str) -> None:
        async with open_world(kind) as world:
            await world.server.close()
            with pytest.raises(PeerTimeout):
                await world.dial(timeout_s=0.05)

    async def test_what_is_no_address_is_the_users_mistake(self, kind: str) -> None:
        async with open_world(kind) as world:
            with pytest.raises(ConfigError):
                await world.client.dial("nonsense", expect=None, discovery_key=None, timeout_s=1)

    async def test_a_cancelled_dial_leaves_nothing_behind(self, kind: str) -> None:
        async with open_world(kind) as world:
            await world.server.close()
            task = asyncio.ensure_future(world.dial())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


class TestStreams:
    async def test_bytes_arrive_in_order_and_the_end_is_seen_each_way(self, kind: str) -> None:
        async with open_world(kind) as world:
            near, far = await world.connect()
            mine = await near.open_stream(Priority.BULK)
            data = bytes(range(256)) * 1200
            await mine.send(data)
            await mine.finish()
            theirs = await far.accept_stream()
            assert await read_all(theirs) == data
            await theirs.send(b"thanks")
            await theirs.finish()
            assert await read_all(mine) == b"thanks"
            assert await mine.receive() == b""

    async def test_either_side_opens_streams(self, kind: str) -> None:
        async with open_world(kind) as world:
            near, far = await world.connect()
            for one, other in ((near, far), (far, near)):
                stream = await one.open_stream(Priority.INTERACTIVE)
                await stream.send(b"hello")
                assert await (await other.accept_stream()).receive() == b"hello"

    async def test_more_streams_than_fit_at_once_follow_one_another(self, kind: str) -> None:
        async with open_world(kind) as world:
            near, far = await world.connect()
            for _ in range(2 * STREAMS_MAX):
                mine = await near.open_stream(Priority.INTERACTIVE)
                await mine.finish()
                theirs = await far.accept_stream()
                assert await theirs.receive() == b""
                await theirs.finish()
                assert await mine.receive() == b""

    async def test_opening_waits_while_all_are_in_use(self, kind: str) -> None:
        async with open_world(kind) as world:
            near, _ = await world.connect()
            streams = [await near.open_stream(Priority.BULK) for _ in range(STREAMS_MAX)]
            waiting = asyncio.ensure_future(near.open_stream(Priority.BULK))
            await asyncio.sleep(0)
            assert not waiting.done()
            streams[0].reset(5)
            await waiting

    async def test_send_waits_while_too_much_is_unsent(self, kind: str) -> None:
        async with open_world(kind) as world:
            near, far = await world.connect()
            mine = await near.open_stream(Priority.BULK)
            await mine.send(bytes(STREAM_SEND_BUFFER))
            waiting = asyncio.ensure_future(mine.send(b"x"))
            await asyncio.sleep(0)
            theirs = await far.accept_stream()
            await asyncio.gather(waiting, mine.finish())
            assert len(await read_all(theirs)) == STREAM_SEND_BUFFER + 1

    async def test_what_is_urgent_overtakes_bulk_that_was_queued_before(self, kind: str) -> None:
        async with open_world(kind) as world:
            near, far = await world.connect()
            bulk = await near.open_stream(Priority.BULK)
            await bulk.send(bytes(STREAM_SEND_BUFFER))
            urgent = await near.open_stream(Priority.INTERACTIVE)
            await urgent.send(b"now")
            first = await far.accept_stream()
            assert await first.receive() == b"now"

    async def test_a_reset_drops_both_directions_at_both_ends(self, kind: str) -> None:
        async with open_world(kind) as world:
            mine, theirs = await exchange(*await world.connect(), 100)
            mine.reset(5)
            mine.reset(5)
            with pytest.raises(LinkClosed):
                await theirs.receive()
            with pytest.raises(LinkClosed):
                await theirs.send(b"x")
            with pytest.raises(LinkClosed):
                await mine.receive()

    async def test_unread_bytes_beyond_the_bound_end_the_link(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(streams_module, "RECEIVE_UNREAD_MAX", 100_000)
        async with open_world(kind) as world:
            near, far = await world.connect()
            mine = await near.open_stream(Priority.BULK)
            await mine.send(bytes(200_000))
            await far.wait_closed()
            await near.wait_closed()
            with pytest.raises(PeerOverran):
                await far.open_stream(Priority.BULK)

    async def test_many_half_read_streams_are_bounded_together(
        self, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(link_module, "RECEIVE_UNREAD_LINK_MAX", 100_000)
        async with open_world(kind) as world:
            near, far = await world.connect()
            for _ in range(4):
                await (await near.open_stream(Priority.BULK)).send(bytes(40_000))
            await far.wait_closed()
            with pytest.raises(PeerOverran):
                await far.open_stream(Priority.BULK)
