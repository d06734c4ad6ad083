"""Slots: where two devices that share a short code meet, and talk through the relay, which understands none of it.

Invariant: a slot joins two streams once, for a bounded number of bounded messages and a bounded time; it is the opening
device's alone while open. Nothing of it is stored, and nobody is told who is at the other end.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from meshsync.errors import LinkClosed, MalformedMessage, PeerOverran
from meshsync.ids import DeviceId
from meshsync.limits import (
    SLOT_ENTERS_PER_SOURCE_MAX,
    SLOT_ENTERS_WINDOW_S,
    SLOT_KEEP_S,
    SLOT_LIFE_S,
    SLOT_MESSAGES_MAX,
    SLOT_SOURCES_MAX,
    SLOT_TALK_S,
    SLOTS_MAX,
    SLOTS_PER_DEVICE_MAX,
    SLOTS_PER_SOURCE_MAX,
    SLOTS_PURGE_S,
)
from meshsync.runtime import Runtime
from meshsync.wire.relay_messages import (
    Code,
    EnterSlot,
    Message,
    OpenSlot,
    Refused,
    SlotData,
    SlotEntered,
    SlotOpened,
    refused,
)
from relay.messages import MessageStream

K = TypeVar("K")


@dataclass(eq=False, slots=True)
class Slot:
    """One number. `stream` is the opening device's once it was told, `guest` the other's; `over` ends both sides."""

    device: DeviceId
    source: str
    ends_s: float
    stream: MessageStream | None = None
    guest: MessageStream | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Slots:
    """The slots of one relay. Belongs to one loop."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._slots: dict[int, Slot] = {}
        self._devices: Counter[DeviceId] = Counter()
        self._sources: Counter[str] = Counter()
        self._purged_s = 0.0
        self._entered: OrderedDict[str, deque[float]] = OrderedDict()  # times of entries, by source

    def __len__(self) -> int:
        return len(self._slots)

    def open(self, number: int, device: DeviceId, source: str) -> Slot | Refused:
        """Return slot `number`, now of `device`, whose link comes from the host `source`; again, if it was its own."""
        held = self._live(number)
        if held is not None and held.device != device:
            return refused(Code.CONFLICT, "this slot is in use")
        if held is None and self._is_full(device, source):
            self._purge()
            if self._is_full(device, source):
                return refused(Code.BUSY, "too many slots are open")
        if held is not None:
            held.over.set()  # of a link that the device has lost
            self._drop(number)
        slot = self._slots[number] = Slot(device, source, self.runtime.monotonic() + SLOT_LIFE_S)
        self._devices[device] += 1
        self._sources[source] += 1
        return slot

    def enter(self, number: int, source: str, stream: MessageStream) -> Slot | Refused:
        """Take the place at the other end of slot `number`."""
        if not self._may_enter(source):
            return refused(Code.BUSY, "too many slots were entered from this address")
        slot = self._live(number)
        if slot is None or slot.stream is None or slot.guest is not None:
            return refused(Code.UNKNOWN, "nobody waits in this slot")
        slot.guest = stream
        return slot

    def leave(self, number: int, slot: Slot) -> None:
        """The opening device's stream has ended: a slot that was entered is kept for it for a moment."""
        slot.over.set()
        if self._slots.get(number) is not slot:
            return
        if slot.guest is None:
            self._drop(number)
        else:
            slot.stream, slot.ends_s = None, self.runtime.monotonic() + SLOT_KEEP_S

    def _live(self, number: int) -> Slot | None:
        slot = self._slots.get(number)
        if slot is not None and slot.ends_s <= self.runtime.monotonic():
            self._drop(number)
            return None
        return slot

    def _is_full(self, device: DeviceId, source: str) -> bool:
        return (
            len(self._slots) >= SLOTS_MAX
            or self._devices[device] >= SLOTS_PER_DEVICE_MAX
            or self._sources[source] >= SLOTS_PER_SOURCE_MAX
        )

    def _purge(self) -> None:
        """Drop what has ended by itself; all slots are looked at, so not often."""
        now = self.runtime.monotonic()
        if now - self._purged_s >= SLOTS_PURGE_S:
            self._purged_s = now
            for number in [number for number, slot in self._slots.items() if slot.ends_s <= now]:
                self._drop(number)

    def _drop(self, number: int) -> None:
        slot = self._slots.pop(number)
        _forget(self._devices, slot.device)
        _forget(self._sources, slot.source)

    def _may_enter(self, source: str) -> bool:
        now = self.runtime.monotonic()
        times = self._entered.setdefault(source, deque())
        self._entered.move_to_end(source)
        while times and times[0] <= now - SLOT_ENTERS_WINDOW_S:
            times.popleft()
        if len(times) >= SLOT_ENTERS_PER_SOURCE_MAX:
            return False
        times.append(now)
        while len(self._entered) > SLOT_SOURCES_MAX:
            self._entered.popitem(last=False)
        return True


def _forget(counter: Counter[K], key: K) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


def source_of(address: str) -> str:
    """Return what counts as one place among addresses "host:port": an IPv4 address, or an IPv6 network of 64 bits."""
    host = address.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        return host
    return parsed.packed[:8].hex() if parsed.version == 6 else host


async def serve_slot(
    slots: Slots, device: DeviceId, source: str, stream: MessageStream, request: OpenSlot | EnterSlot
) -> None:
    """Serve a stream that began with `request` to its end. Raises PeerError, LinkClosed, PeerTimeout."""
    if isinstance(request, OpenSlot):
        await _keep(slots, device, source, stream, request.number)
    else:
        await _visit(slots, source, stream, request.number)


async def _keep(slots: Slots, device: DeviceId, source: str, stream: MessageStream, number: int) -> None:
    opened = slots.open(number, device, source)
    if isinstance(opened, Refused):
        await stream.send(opened)
        return
    try:
        await stream.send(SlotOpened())
        opened.stream = stream
        async with asyncio.timeout(SLOT_LIFE_S):
            await _pass_on(slots.runtime, stream, lambda: opened.guest, opened.over)
    except TimeoutError:
        pass
    finally:
        slots.leave(number, opened)


async def _visit(slots: Slots, source: str, stream: MessageStream, number: int) -> None:
    entered = slots.enter(number, source, stream)
    if isinstance(entered, Refused):
        await stream.send(entered)
        return
    host = entered.stream
    assert host is not None
    try:
        async with asyncio.timeout(SLOT_TALK_S):
            await stream.send(SlotEntered())
            await host.send(SlotEntered())
            await _pass_on(slots.runtime, stream, lambda: host, entered.over)
    except TimeoutError:
        pass
    finally:
        entered.over.set()


async def _pass_on(
    runtime: Runtime, own: MessageStream, other: Callable[[], MessageStream | None], over: asyncio.Event
) -> None:
    """Pass what arrives on `own` to the other device until either side ends.

    Raises MalformedMessage for anything but data, and for data that nobody is there to get, PeerOverran.
    """
    passed = 0
    while (message := await _next(runtime, own, over)) is not None:
        target = other()
        if not isinstance(message, SlotData) or target is None:
            raise MalformedMessage(f"a {type(message).__name__} in a slot")
        passed += 1
        if passed > SLOT_MESSAGES_MAX:
            raise PeerOverran(f"more than {SLOT_MESSAGES_MAX} messages through one slot")
        if over.is_set():
            return  # the other stream is finished already
        try:
            await target.send(message)
        except LinkClosed:
            return  # the other device is gone, which is no fault of this one


async def _next(runtime: Runtime, stream: MessageStream, over: asyncio.Event) -> Message | None:
    """Return the next message, None at the end of the stream or once `over` is set. Raises as `next_request`."""
    reading = runtime.spawn(stream.next_request(), "slot reads")
    ending = runtime.spawn(over.wait(), "slot ends")
    try:
        await asyncio.wait({reading, ending}, return_when=asyncio.FIRST_COMPLETED)
        return reading.result() if reading.done() else None
    finally:
        for task in (reading, ending):
            task.cancel()
        await asyncio.gather(reading, ending, return_exceptions=True)
