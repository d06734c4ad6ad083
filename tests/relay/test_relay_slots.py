"""Slots at a relay (`docs/spec/relay.md` 6): two devices talk through it, and nobody can hold or fill it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest

import relay.slots
from meshsync.errors import LinkClosed, MeshsyncError
from meshsync.ids import DeviceId
from meshsync.limits import (
    CODE_NUMBER_MAX,
    SLOT_ENTERS_PER_SOURCE_MAX,
    SLOT_ENTERS_WINDOW_S,
    SLOT_KEEP_S,
    SLOT_LIFE_S,
    SLOT_MESSAGE_BYTES_MAX,
    SLOT_MESSAGES_MAX,
    SLOTS_MAX,
    SLOTS_PER_DEVICE_MAX,
    SLOTS_PER_SOURCE_MAX,
)
from meshsync.transport.base import Priority
from meshsync.transport.framed import FramedStream
from meshsync.wire.peer_messages import CodeTicket
from meshsync.wire.peer_messages import pack as pack_peer
from meshsync.wire.relay_messages import (
    Attach,
    Code,
    EnterSlot,
    OpenSlot,
    Refused,
    SlotData,
    SlotEntered,
    SlotOpened,
)
from relay.slots import Slot, Slots, source_of
from tests.metalog.log_scene import ANNA, BEN, FOLDER
from tests.relay.relay_world import RelayWorld, Talk, open_relay
from tests.support.virtual_runtime import VirtualRuntime


@pytest.fixture
async def world() -> AsyncIterator[RelayWorld]:
    async with open_relay(None) as opened:
        yield opened


async def met(world: RelayWorld) -> tuple[Talk, Talk]:
    """Return Anna's stream of slot 7 and Ben's, who has entered it."""
    host, guest = await world.talk(ANNA), await world.talk(BEN)
    await host.expect(SlotOpened, OpenSlot(7))
    await guest.expect(SlotEntered, EnterSlot(7))
    assert isinstance(await host.receive(), SlotEntered)
    return host, guest


async def ended(talk: Talk) -> None:
    """Assert that the relay ends the stream."""
    with contextlib.suppress(LinkClosed):
        assert await talk.framed.receive_frame() is None


class TestTalk:
    async def test_bytes_pass_as_they_are_in_both_directions(self, world: RelayWorld) -> None:
        host, guest = await met(world)
        await guest.send(SlotData(b"who is there"))
        assert await host.receive() == SlotData(b"who is there")
        await host.send(SlotData(b"\0" * SLOT_MESSAGE_BYTES_MAX))
        assert await guest.receive() == SlotData(b"\0" * SLOT_MESSAGE_BYTES_MAX)
        assert await world.core.log.folders() == []

    async def test_the_longest_message_of_a_code_exchange_fits(self, world: RelayWorld) -> None:
        kind, body = pack_peer(CodeTicket(bytes(64), bytes(16 * 1024)))
        host, guest = await met(world)
        await host.send(SlotData(bytes([kind]) + body))
        assert await guest.receive() == SlotData(bytes([kind]) + body)

    async def test_what_was_sent_before_the_end_arrives(self, world: RelayWorld) -> None:
        host, guest = await met(world)
        await host.send(SlotData(b"last"))
        await host.framed.finish()
        assert await guest.receive() == SlotData(b"last")
        await ended(guest)

    async def test_the_end_of_one_side_is_the_end_of_the_other(self, world: RelayWorld) -> None:
        host, guest = await met(world)
        await guest.framed.finish()
        await ended(host)

    async def test_a_link_that_breaks_ends_the_other_side(self, world: RelayWorld) -> None:
        _, guest = await met(world)
        await world.devices[0].close()
        await ended(guest)

    async def test_a_talk_ends_after_its_time(self, world: RelayWorld, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(relay.slots, "SLOT_TALK_S", 0.05)
        host, guest = await met(world)
        await ended(guest)
        await ended(host)

    @pytest.mark.parametrize("count", [SLOT_MESSAGES_MAX, SLOT_MESSAGES_MAX + 1])
    async def test_messages_are_few(self, world: RelayWorld, count: int) -> None:
        host, guest = await met(world)
        for number in range(count):
            await guest.send(SlotData(bytes([number + 1])))
        for number in range(SLOT_MESSAGES_MAX):
            assert await host.receive() == SlotData(bytes([number + 1]))
        if count > SLOT_MESSAGES_MAX:
            await ended(host)
            with pytest.raises(MeshsyncError):
                await guest.framed.receive_frame()

    @pytest.mark.parametrize("message", [SlotData(b"nobody is there"), OpenSlot(8), Attach(FOLDER)])
    async def test_what_is_out_of_place_ends_the_link(self, world: RelayWorld, message: SlotData | OpenSlot) -> None:
        host = await world.talk(ANNA)
        await host.expect(SlotOpened, OpenSlot(7))
        await host.send(message)
        with pytest.raises(MeshsyncError):
            await host.framed.receive_frame()


class TestPlaces:
    async def test_a_slot_is_one_devices(self, world: RelayWorld) -> None:
        host, other = await world.talk(ANNA), await world.talk(BEN)
        await host.expect(SlotOpened, OpenSlot(7))
        answer = await other.expect(Refused, OpenSlot(7))
        assert answer.code is Code.CONFLICT

    async def test_a_device_that_lost_its_link_opens_its_slot_again(self, world: RelayWorld) -> None:
        lost, again = await world.talk(ANNA), await world.talk(ANNA)
        await lost.expect(SlotOpened, OpenSlot(7))
        await again.expect(SlotOpened, OpenSlot(7))
        await ended(lost)
        guest = await world.talk(BEN)
        await guest.expect(SlotEntered, EnterSlot(7))
        assert isinstance(await again.receive(), SlotEntered)

    async def test_an_empty_a_taken_and_an_ended_slot_look_alike(self, world: RelayWorld) -> None:
        late = await world.talk(BEN)
        empty = await late.expect(Refused, EnterSlot(7))
        host, guest = await met(world)
        taken = await (await world.talk(BEN)).expect(Refused, EnterSlot(7))
        await host.framed.finish()
        await ended(guest)
        over = await (await world.talk(BEN)).expect(Refused, EnterSlot(7))
        assert empty == taken == over and empty.code is Code.UNKNOWN

    async def test_a_slot_that_nobody_entered_is_free_at_its_end(self, world: RelayWorld) -> None:
        host, other = await world.talk(ANNA), await world.talk(BEN)
        await host.expect(SlotOpened, OpenSlot(7))
        await host.framed.finish()
        await ended(host)
        await other.expect(SlotOpened, OpenSlot(7))

    async def test_trying_all_numbers_is_slow(self, world: RelayWorld) -> None:
        link = await world.link(BEN)
        codes = []
        for number in range(1, SLOT_ENTERS_PER_SOURCE_MAX + 2):
            talk = Talk(FramedStream(await link.open_stream(Priority.INTERACTIVE)))
            codes.append((await talk.expect(Refused, EnterSlot(number))).code)
        assert codes == [Code.UNKNOWN] * SLOT_ENTERS_PER_SOURCE_MAX + [Code.BUSY]


def device(number: int) -> DeviceId:
    return DeviceId(number.to_bytes(32, "big"))


class TestBounds:
    def test_one_device_has_few(self) -> None:
        slots = Slots(VirtualRuntime())
        opened = [slots.open(number, device(1), str(number)) for number in range(1, SLOTS_PER_DEVICE_MAX + 2)]
        assert [isinstance(slot, Slot) for slot in opened] == [True] * SLOTS_PER_DEVICE_MAX + [False]

    def test_one_address_has_few_however_many_keys_it_makes(self) -> None:
        slots = Slots(VirtualRuntime())
        opened = [slots.open(number, device(number), "here") for number in range(1, SLOTS_PER_SOURCE_MAX + 2)]
        assert [isinstance(slot, Slot) for slot in opened] == [True] * SLOTS_PER_SOURCE_MAX + [False]

    def test_all_together_are_bounded_and_fewer_than_numbers(self) -> None:
        slots = Slots(VirtualRuntime())
        for number in range(1, CODE_NUMBER_MAX):
            slots.open(number, device(number), str(number))
        assert len(slots) == SLOTS_MAX < CODE_NUMBER_MAX

    async def test_a_slot_ends_with_its_time_and_is_free_then(self) -> None:
        runtime = VirtualRuntime()
        slots = Slots(runtime)
        slots.open(7, device(1), "a")
        await runtime.advance(SLOT_LIFE_S - 1)
        assert isinstance(slots.open(7, device(2), "b"), Refused)
        await runtime.advance(1)
        assert isinstance(slots.open(7, device(2), "b"), Slot) and len(slots) == 1

    async def test_a_slot_that_was_entered_is_kept_for_its_device_for_a_moment(self) -> None:
        runtime = VirtualRuntime()
        slots = Slots(runtime)
        slot = slots.open(7, device(1), "a")
        assert isinstance(slot, Slot)
        slot.stream = slot.guest = object()  # type: ignore[assignment]
        slots.leave(7, slot)
        assert isinstance(slots.open(7, device(2), "b"), Refused)
        assert isinstance(slots.open(7, device(1), "a"), Slot)
        slots.leave(7, slot)  # an old one changes nothing
        await runtime.advance(SLOT_KEEP_S)
        assert isinstance(slots.open(7, device(2), "b"), Refused)

    async def test_entries_are_counted_over_a_window(self) -> None:
        runtime = VirtualRuntime()
        slots = Slots(runtime)
        stream = object()
        for _ in range(SLOT_ENTERS_PER_SOURCE_MAX):
            slots.enter(1, "a", stream)  # type: ignore[arg-type]
        answers = [slots.enter(1, source, stream) for source in ("a", "b")]  # type: ignore[arg-type]
        assert [answer.code for answer in answers if isinstance(answer, Refused)] == [Code.BUSY, Code.UNKNOWN]
        await runtime.advance(SLOT_ENTERS_WINDOW_S)
        answer = slots.enter(1, "a", stream)  # type: ignore[arg-type]
        assert isinstance(answer, Refused) and answer.code is Code.UNKNOWN


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.7:4433", "192.0.2.7"),
        ("[2001:db8::1]:4433", "20010db800000000"),
        ("[2001:db8::2%eth0]:1", "20010db800000000"),
        ("[2001:db8:0:1::2]:1", "20010db800000001"),
        ("name:1", "name"),
    ],
)
def test_an_address_is_counted_by_what_one_owner_has(address: str, source: str) -> None:
    assert source_of(address) == source
