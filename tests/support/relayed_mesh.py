"""Real agents and real relays on virtual time, at the hand of a test: who is up, who reaches whom, what a user writes.

Invariant: nothing happens by chance; machines do nothing but what their programs and the test do.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterator

from meshsync.agent import status_report
from meshsync.agent.api_schema import FolderState, HealthItem
from meshsync.agent.daemon import Agent
from meshsync.agent.folder import Folder
from meshsync.crypto.envelope import box
from meshsync.crypto.folder_keys import commitment, pack_bundle, wrap_epoch
from meshsync.crypto.identity import DeviceKeys
from meshsync.ids import DeviceId
from meshsync.metalog.fields import ChainHead
from meshsync.metalog.membership_entry import Box, ChangeRole, Rekey, Remove, WrappedKey
from meshsync.roles import Role
from meshsync.transport.memory import MemoryNetwork
from meshsync.wire.relay_address import RelayAddress
from tests.sim.book import Book
from tests.sim.device import SimDevice
from tests.sim.identity import SECRET, begin
from tests.sim.loop import SimLoop
from tests.sim.network import SimNetwork, address_of, port_of
from tests.sim.relay_machine import SimRelay
from tests.sim.users import User
from tests.sim.world import _finish, _NetworkRuntime

RELAY_FIRST = 90
WAIT_S = 120.0
MEET_S = 600.0  # pauses between dials grow to a minute and more
LOOK_S = 0.25
TURN_S = 1e-8


class _Loop(SimLoop):
    """Each turn takes a moment: a deadline that a sleep misses by the rounding of its length passes all the same."""

    def _run_once(self) -> None:
        self.now += TURN_S
        super()._run_once()


class RelayedMesh:
    """Devices from 1, of which the first owns the folder and is told of every relay; relays from 0. None is up yet."""

    def __init__(
        self,
        loop: SimLoop,
        devices: int,
        relays: int,
        joins: frozenset[int],
        relay_kind: type[SimRelay] = SimRelay,
    ) -> None:
        self.loop = loop
        self.mistakes: list[str] = []
        self.network = SimNetwork("mesh")
        self.network.delay_max_s = 0.0
        memory = MemoryNetwork(_NetworkRuntime(loop))  # type: ignore[arg-type]
        self.network.hook(memory)
        self.beginning = begin.__wrapped__(devices, False)  # new homes: a change of the key is written there
        self.devices = {
            number: SimDevice(
                loop,
                number,
                "mesh",
                self.beginning,
                self.network,
                memory,
                self._failed,
                joins=number in joins,
                relayed=False,
            )
            for number in range(1, devices + 1)
        }
        self.users = {number: User(device.disk, Book()) for number, device in self.devices.items()}
        self.relays = []
        for number in range(relays):
            keys = DeviceKeys(bytes([200 + number]) * 64)
            relay = relay_kind(
                loop, "mesh", self.network, memory, self._failed, machine=RELAY_FIRST + number, keys=keys
            )
            self.relays.append(relay)
        self.devices[1].relays = tuple(
            RelayAddress(
                address_of(relay.machine).partition(":")[0], port_of(relay.machine), relay.keys.device, SECRET
            ).text
            for relay in self.relays
        )

    def _failed(self, name: str, error: BaseException) -> None:
        self.mistakes.append(f"{name}: {error!r}")

    # --- machines -------------------------------------------------------------------------------------------------

    def start(self, *numbers: int) -> None:
        """Start agents."""
        for number in numbers:
            self.devices[number].start()

    def kill(self, *numbers: int) -> None:
        """End agents at once."""
        for number in numbers:
            self.devices[number].kill()

    def part(self, one: int, other: int) -> None:
        """Let two devices not reach each other."""
        self.network.apart.add(frozenset((one, other)))

    async def parted(self, one: int, other: int) -> None:
        """Let two devices not reach each other, and wait until both have noticed."""
        self.part(one, other)
        await self.until(lambda: not self.linked(one, other) and not self.linked(other, one))

    def linked(self, one: int, other: int) -> bool:
        """Whether a running device has a link to another one."""
        return self.agent(one).links.get(self.device(other)) is not None

    async def meet(self, one: int, other: int) -> None:
        """Let two devices reach each other again, and wait until they have a link."""
        self.network.apart.discard(frozenset((one, other)))
        await self.until(lambda: self.linked(one, other) and self.linked(other, one), MEET_S)

    def device(self, number: int) -> DeviceId:
        """Return the id of a device."""
        return self.beginning.devices[number - 1].device

    def agent(self, number: int) -> Agent:
        """Return a running agent."""
        agent = self.devices[number].agent
        assert agent is not None
        return agent

    def folder(self, number: int) -> Folder:
        """Return the folder on a running device."""
        folder = self.devices[number].folder
        assert folder is not None
        return folder

    def state(self, number: int) -> FolderState:
        """Return what the agent reports of the folder."""
        return status_report.folder_state(self.agent(number), self.folder(number))

    def health(self, number: int) -> list[HealthItem]:
        """Return what the agent's user should know."""
        return status_report.health(self.agent(number))

    # --- waiting --------------------------------------------------------------------------------------------------

    async def until(self, reached: Callable[[], bool], seconds: float = WAIT_S) -> None:
        """Let time pass until `reached`."""
        end = self.loop.now + seconds
        while not reached():
            assert not self.mistakes, self.mistakes[0]
            assert self.loop.now < end, self._where()
            await asyncio.sleep(LOOK_S)

    async def opened(self, *numbers: int) -> None:
        """Wait until agents work on the folder."""
        await self.until(lambda: all(d.folder is not None and d.folder.loop is not None for d in self._of(numbers)))

    async def settled(self, *numbers: int) -> None:
        """Wait until agents are in sync with whom they reach."""
        await self.opened(*numbers)
        for number in numbers:
            loop = self.folder(number).loop
            assert loop is not None
            loop.look_at(None)
        await asyncio.sleep(1)
        await self.until(lambda: all(status_report.in_sync(self.agent(n), self.folder(n)) for n in numbers))

    async def durable(self, *numbers: int) -> None:
        """Wait until agents are in sync and say that all is durable."""
        await self.settled(*numbers)
        await self.until(lambda: all(not self.state(number).not_durable for number in numbers))

    def _of(self, numbers: tuple[int, ...]) -> Iterator[SimDevice]:
        return (self.devices[number] for number in numbers)

    def _where(self) -> str:
        up = [number for number, device in self.devices.items() if device.folder is not None]
        return "; ".join(f"{n}: {self.state(n)} {self.health(n)}" for n in up)

    # --- users ----------------------------------------------------------------------------------------------------

    def write(self, number: int, name: bytes, content: bytes) -> None:
        """Save a file in the root: beside it, then renamed over it."""
        calls = self.users[number].calls
        fd = self.users[number]._open(())
        new = calls.create(fd, name + b"~")
        calls.write(new, content, 0)
        calls.chmod(new, 0o644)
        calls.rename(fd, name + b"~", fd, name)
        calls.close_all()
        folder = self.devices[number].folder
        if folder is not None and folder.loop is not None:
            folder.loop.look_at(None)

    def files(self, number: int) -> dict[bytes, bytes]:
        """Return the files in the root of a device."""
        return {path[0]: bytes(inode.data) for path, inode in self.users[number].walk() if inode.is_file}

    # --- members --------------------------------------------------------------------------------------------------

    async def remove(self, number: int) -> None:
        """Let the owner remove a device, with pins at what it has of it and a new key."""
        replica = self.folder(1).replica
        gone = self.devices[number].beginning.devices[number - 1].device
        new_key = b"second epoch key" * 2
        fresh = replica.keys.with_epoch(new_key, make_current=True)
        boxes = sorted(
            Box(device, box(member.box_public, device, pack_bundle(fresh)))
            for device, member in replica.membership.members.items()
            if device != gone and member.role.may_read
        )
        wrapped = WrappedKey(
            replica.keys.current, wrap_epoch(new_key, replica.keys.epochs[replica.keys.current], replica.folder)
        )
        rekey = Rekey(commitment(new_key), tuple(boxes), (wrapped,))
        await replica.change_membership(Remove(gone, self._pins(number), rekey))

    async def demote(self, number: int, role: Role) -> None:
        """Let the owner lower a device's role, with pins at what it has of it."""
        device = self.beginning.devices[number - 1].device
        await self.folder(1).replica.change_membership(ChangeRole(device, role, self._pins(number)))

    def _pins(self, number: int) -> tuple[ChainHead, ...]:
        chains = self.folder(1).replica.chains
        device = self.beginning.devices[number - 1].device
        return tuple(head for head in sorted(chains.heads()) if chains.rows(head.chain)[0].device == device)

    def close(self) -> None:
        """End everything."""
        for device in self.devices.values():
            device.kill()
            device.index.close()
        for relay in self.relays:
            relay.kill()


def live(
    scenario: Callable[[RelayedMesh], Awaitable[None]],
    *,
    devices: int = 2,
    relays: int = 1,
    joins: frozenset[int] = frozenset(),
    relay: type[SimRelay] = SimRelay,
) -> None:
    """Live through a scenario on a new mesh."""
    loop = _Loop()
    asyncio.set_event_loop(loop)
    random.seed(0)
    mesh = RelayedMesh(loop, devices, relays, joins, relay)
    noticed: list[str] = []
    loop.set_exception_handler(lambda _, context: noticed.append(str(context)))
    try:
        loop.run_until_complete(scenario(mesh))  # type: ignore[arg-type]
        assert not mesh.mistakes, mesh.mistakes[0]
    finally:
        mesh.close()
        with contextlib.suppress(Exception):
            _finish(loop)
