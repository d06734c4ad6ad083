"""The batched socket gives the same datagrams with and without the kernel's help."""

from __future__ import annotations

import asyncio
import socket

import pytest

from meshsync.errors import ConfigError
from meshsync.limits import SOCKET_UNSENT_BYTES_MAX
from meshsync.transport.udp import Received, UdpSocket

HOSTS = ("127.0.0.1", "::1")


class Inbox:
    """Collects single datagrams."""

    def __init__(self) -> None:
        self.datagrams: list[bytes] = []
        self.reads = 0
        self.changed = asyncio.Event()

    def take(self, batch: list[Received]) -> None:
        for data, size, _ in batch:
            self.reads += 1
            self.datagrams += [data[start : start + size] for start in range(0, len(data), size)]
        self.changed.set()

    async def wait_for(self, count: int) -> list[bytes]:
        while len(self.datagrams) < count:
            self.changed.clear()
            await self.changed.wait()
        return self.datagrams


def nothing(batch: list[Received]) -> None:
    raise AssertionError("nobody sends here")


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("offload", [True, False])
async def test_datagrams_arrive_one_by_one_in_order(host: str, offload: bool) -> None:
    inbox = Inbox()
    receiver = UdpSocket.bind(host, 0, inbox.take, offload=offload)
    sender = UdpSocket.bind(host, 0, nothing, offload=offload)
    sent = [bytes([n]) * size for n, size in enumerate([1452] * 50 + [700] + [1452] * 3 + [1452, 40, 40, 1200])]
    assert sender.send([(data, receiver.address) for data in sent]) == sum(map(len, sent))
    assert await inbox.wait_for(len(sent)) == sent
    assert (sender.gso, receiver.gro) == (offload, offload)
    assert (inbox.reads < len(sent)) == offload
    sender.close()
    receiver.close()


async def test_a_kernel_that_refuses_segmentation_gets_plain_sends() -> None:
    inbox = Inbox()
    receiver = UdpSocket.bind("127.0.0.1", 0, inbox.take)
    sender = UdpSocket.bind("127.0.0.1", 0, nothing)
    sender._socket.setsockopt(socket.SOL_SOCKET, 11, 1)  # SO_NO_CHECK: Linux segments no datagram without a checksum
    sent = [bytes([n]) * 1200 for n in range(20)]
    sender.send([(data, receiver.address) for data in sent])
    assert await inbox.wait_for(20) == sent
    assert not sender.gso
    sender.close()
    receiver.close()


async def test_what_the_kernel_could_not_take_is_sent_later_in_order() -> None:
    inbox = Inbox()
    receiver = UdpSocket.bind("127.0.0.1", 0, inbox.take)
    sender = UdpSocket.bind("127.0.0.1", 0, nothing)
    freed = asyncio.Event()
    sender.on_writable(freed.set)
    sender._keep([b"first", b"second"], receiver.address)  # as after a send that would block
    sender.send([(b"third", receiver.address)])
    assert sender.is_blocked
    assert await inbox.wait_for(3) == [b"first", b"second", b"third"]
    await freed.wait()
    assert not sender.is_blocked
    sender.close()
    receiver.close()


async def test_what_waits_for_the_kernel_is_bounded() -> None:
    sender = UdpSocket.bind("127.0.0.1", 0, nothing)
    sender._keep([bytes(60_000)] * 1000, sender.address)
    assert sender._unsent_bytes <= SOCKET_UNSENT_BYTES_MAX
    sender.close()


async def test_an_unreachable_address_loses_the_datagram_and_nothing_else() -> None:
    inbox = Inbox()
    receiver = UdpSocket.bind("127.0.0.1", 0, inbox.take)
    sender = UdpSocket.bind("127.0.0.1", 0, nothing)
    sender.send([(b"x", ("127.0.0.1", 0)), (b"y" * 60_000, receiver.address), (b"z", receiver.address)])
    assert await inbox.wait_for(2) == [b"y" * 60_000, b"z"]
    sender.close()
    receiver.close()


async def test_a_port_in_use_is_the_users_to_solve() -> None:
    one = UdpSocket.bind("127.0.0.1", 0, nothing)
    with pytest.raises(ConfigError):
        UdpSocket.bind("127.0.0.1", one.address[1], nothing)
    one.close()
