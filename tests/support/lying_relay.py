"""A relay that stands between two devices that meet in its slots, and lies as a test says.

Invariant: it does what any relay could: it sees, alters, drops and invents what goes through it, and knows no words.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from meshsync.agent.conversation import RelayConversation
from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import LinkClosed, MeshsyncError
from meshsync.transport.base import Link
from meshsync.transport.memory import MemoryEndpoint
from meshsync.wire.peer_messages import Message, pack, unpack
from meshsync.wire.relay_address import RelayAddress
from meshsync.wire.relay_messages import (
    Code,
    EnterSlot,
    OpenSlot,
    SlotData,
    SlotEntered,
    SlotOpened,
    refused,
)
from relay.server import POLICY
from tests.support.pairing_mesh import Mesh

LIAR = DeviceKeys(b"lying relay keys" * 4)


class Side:
    """One device's end of a slot, as the relay has it."""

    def __init__(self, conversation: RelayConversation) -> None:
        self.conversation = conversation
        self.over = asyncio.Event()

    async def send(self, message: Message) -> None:
        kind, body = pack(message)
        await self.conversation.send(SlotData(bytes([kind]) + body))

    async def receive(self) -> Message:
        data = await self.conversation.receive()
        if not isinstance(data, SlotData):
            raise LinkClosed("the device ended its stream")
        return unpack(data.data[0], data.data[1:])


Lie = Callable[[Side, Side], Awaitable[None]]
"""Gets the inviting device's side and the newcomer's, both told that the other is there."""


class LyingRelay:
    """`lie` is what it does with two devices that meet."""

    def __init__(self, lie: Lie) -> None:
        self.lie = lie
        self.address: RelayAddress | None = None
        self.hosts: dict[int, Side] = {}
        self.hosted = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._endpoint: MemoryEndpoint | None = None

    async def start(self, mesh: Mesh) -> None:
        self._endpoint = await MemoryEndpoint.open(mesh.runtime, LIAR, mesh.network, POLICY)
        self.address = RelayAddress("10.0.0.8", self._endpoint.port, LIAR.device, b"sixteen byte key")
        mesh.relay_address = self.address
        self._spawn(self._accept())

    def _spawn(self, work: Awaitable[None]) -> None:
        self._tasks.append(asyncio.ensure_future(work))  # type: ignore[arg-type]

    async def _accept(self) -> None:
        assert self._endpoint is not None
        while True:
            self._spawn(self._serve(await self._endpoint.accept()))

    async def _serve(self, link: Link) -> None:
        while True:
            self._spawn(self._stream(RelayConversation(await link.accept_stream())))

    async def _stream(self, conversation: RelayConversation) -> None:
        request = await conversation.receive()
        side = Side(conversation)
        if isinstance(request, OpenSlot):
            self.hosts[request.number] = side
            await conversation.send(SlotOpened())
            self.hosted.set()
            await side.over.wait()
        elif isinstance(request, EnterSlot) and request.number in self.hosts:
            host = self.hosts.pop(request.number)
            await conversation.send(SlotEntered())
            await host.conversation.send(SlotEntered())
            with contextlib.suppress(MeshsyncError):  # a device has had enough
                await self.lie(host, side)
            host.over.set()
            await host.conversation.finish()
        else:
            await conversation.send(refused(Code.UNKNOWN, "unknown"))
        await conversation.finish()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._endpoint is not None:
            await self._endpoint.close()


@asynccontextmanager
async def open_liar(mesh: Mesh, lie: Lie) -> AsyncIterator[LyingRelay]:
    """A lying relay that the mesh's agents are told of."""
    liar = LyingRelay(lie)
    await liar.start(mesh)
    try:
        yield liar
    finally:
        await liar.close()
