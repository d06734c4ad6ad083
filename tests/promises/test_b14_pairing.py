"""B14: wrong, replayed and reflected codes, tickets used twice, expired, revoked, with a raised role; lying relays.

Real agents over links in memory; whoever attacks is played by the test with keys of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from meshsync.agent import api_schema as api
from meshsync.agent import code_joining, codes, pairing, status_report
from meshsync.agent.code_talk import DirectTalk
from meshsync.agent.codes import ToldCode
from meshsync.agent.conversation import Conversation
from meshsync.agent.pairing import PAIR_KIND, make_admission, pair_message, pair_over_link
from meshsync.content.code import Code, discovery_key, parse_code
from meshsync.content.ticket import Ticket, parse_ticket
from meshsync.crypto.identity import DeviceKeys
from meshsync.discovery.base import Found
from meshsync.discovery.tags import make_tags
from meshsync.errors import (
    AccessError,
    CodeInvalid,
    LinkClosed,
    MeshsyncError,
    PeerOverran,
    SourceUnavailable,
    TicketInvalid,
)
from meshsync.ids import DeviceId
from meshsync.limits import CODE_TRIES_MAX, NEWCOMER_LINKS_MAX
from meshsync.metalog.membership import replay
from meshsync.metalog.membership_entry import Admit, open_membership, sign_change
from meshsync.roles import Role
from meshsync.transport.base import Link, Policy, Priority
from meshsync.transport.memory import MemoryEndpoint
from meshsync.wire.code_exchange import InviterRun, NewcomerRun, relayed_channel
from meshsync.wire.peer_messages import (
    CodeAnswer,
    CodeAsk,
    CodeOffer,
    CodeRefused,
    CodeTicket,
    MembershipPage,
    Message,
    PairAdmit,
    PairRefused,
    PairRequest,
)
from tests.support.lying_relay import LIAR, Side, open_liar
from tests.support.pairing_mesh import Device, Mesh, open_mesh

MALLORY, TRUDY = DeviceKeys(b"m" * 64), DeviceKeys(b"t" * 64)
NONE = "the code is wrong, was used already, or has expired"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for other candidates only costs time here."""
    monkeypatch.setattr(code_joining, "CODE_MORE_S", 0.05)


@asynccontextmanager
async def two(tmp_path: Path, *, on_lan: bool = True) -> AsyncIterator[tuple[Mesh, Device, Device]]:
    """A laptop with a file in its tree, and a desk."""
    async with open_mesh(tmp_path) as mesh:
        laptop, desk = await mesh.start("laptop", on_lan=on_lan), await mesh.start("desk", on_lan=on_lan)
        (laptop.tree / "note").write_bytes(b"hello")
        yield mesh, laptop, desk


def wrong(text: str) -> str:
    """Return the code with another last word."""
    code = parse_code(text)
    return Code(code.number, (*code.words[:-1], "zoo" if code.words[-1] != "zoo" else "zone")).text


def told(device: Device, text: str) -> ToldCode:
    return next(each for each in device.agent.codes._told if each.code.text == text)


def members(device: Device) -> int:
    (folder,) = device.agent.folders.values()
    return len(folder.replica.membership.members)


def health(device: Device) -> list[str]:
    return [item.what for item in status_report.health(device.agent)]


class Stranger:
    """A device of the test's, linked to a device as whoever knows the number of its code can be."""

    def __init__(self, mesh: Mesh, keys: DeviceKeys, endpoint: MemoryEndpoint, link: Link) -> None:
        self.mesh, self.keys, self.endpoint, self.link = mesh, keys, endpoint, link

    @classmethod
    async def at(cls, mesh: Mesh, device: Device, key: bytes, keys: DeviceKeys = MALLORY) -> Stranger:
        endpoint = await MemoryEndpoint.open(mesh.runtime, keys, mesh.network)
        link = await endpoint.dial(device.address, expect=None, discovery_key=key, timeout_s=5.0)
        return cls(mesh, keys, endpoint, link)

    async def talk(self) -> DirectTalk:
        return DirectTalk(self.link, Conversation(await self.link.open_stream(Priority.INTERACTIVE)))

    def run(self, talk: DirectTalk, code: Code) -> NewcomerRun:
        random = self.mesh.runtime.random_bytes
        return NewcomerRun(self.keys, code.number, code.password, talk.channel, random(32), random(32))

    async def guess(self, text: str) -> Message | None:
        """Try a code to the end; return what the inviting device says last."""
        talk = await self.talk()
        run = self.run(talk, parse_code(text))
        await talk.send(run.ask())
        offer = await talk.receive()
        if not isinstance(offer, CodeOffer):
            return offer
        await talk.send(run.answer(offer))
        return await talk.receive()


@pytest.mark.usefixtures("impatient")
class TestWrongWords:
    async def test_they_end_the_code_and_both_users_are_told(self, tmp_path: Path) -> None:
        async with two(tmp_path) as (_, laptop, desk):
            shared = await laptop.share()
            with pytest.raises(CodeInvalid, match=NONE) as caught:
                await desk.join(wrong(shared.code))
            assert caught.value.next_step == "Ask for a new code: meshsync share PATH"
            number = parse_code(shared.code).number
            assert health(laptop) == [f"laptop: code {number} was tried with wrong words and admits nobody any more"]
            assert desk.agent.folders == {} and members(laptop) == 1

    async def test_the_right_words_come_too_late_then(self, tmp_path: Path) -> None:
        async with two(tmp_path) as (mesh, laptop, desk):
            code = (await laptop.share()).code
            stranger = await Stranger.at(mesh, laptop, discovery_key(parse_code(code).number))
            assert await stranger.guess(wrong(code)) == CodeRefused()
            assert await stranger.guess(code) == CodeRefused()
            with pytest.raises(CodeInvalid, match=NONE):
                await desk.join(code, address=laptop.address)

    async def test_of_many_newcomers_at_once_the_first_has_the_only_try(self, tmp_path: Path) -> None:
        """The fourth try is right, and answered after three wrong ones: it is the fourth."""
        async with two(tmp_path) as (mesh, laptop, _):
            code = (await laptop.share()).code
            stranger = await Stranger.at(mesh, laptop, discovery_key(parse_code(code).number))
            answers = []
            for text in (wrong(code), wrong(code), wrong(code), code):
                talk = await stranger.talk()
                run = stranger.run(talk, parse_code(text))
                await talk.send(run.ask())
                offer = await talk.receive()
                assert isinstance(offer, CodeOffer)
                answers.append((talk, run.answer(offer)))
            for talk, answer in answers:
                await talk.send(answer)
                assert await talk.receive() == CodeRefused()
            assert members(laptop) == 1

    async def test_whoever_only_asks_ends_nothing(self, tmp_path: Path) -> None:
        async with two(tmp_path) as (mesh, laptop, desk):
            code = (await laptop.share()).code
            stranger = await Stranger.at(mesh, laptop, discovery_key(parse_code(code).number))
            for _ in range(40):
                talk = await stranger.talk()
                await talk.send(stranger.run(talk, parse_code(wrong(code))).ask())
                assert isinstance(await talk.receive(), CodeOffer)
                talk._conversation.reset()
            await desk.join(code)
            assert desk.files() == {"note": b"hello"}

    async def test_endless_questions_are_not_answered(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(codes, "CODE_ASKS_MAX", 5)
        async with two(tmp_path) as (mesh, laptop, _):
            code = parse_code((await laptop.share()).code)
            stranger = await Stranger.at(mesh, laptop, discovery_key(code.number))
            answers = []
            for _ in range(6):
                talk = await stranger.talk()
                await talk.send(stranger.run(talk, code).ask())
                answers.append(type(await talk.receive()))
            assert answers == [CodeOffer] * 5 + [CodeRefused]

    async def test_a_code_nobody_told_and_one_that_ended_look_alike(self, tmp_path: Path) -> None:
        async with two(tmp_path) as (mesh, laptop, _):
            code = parse_code((await laptop.share()).code)
            stranger = await Stranger.at(mesh, laptop, discovery_key(code.number))
            other = Code(code.number % 99 + 1, code.words)
            assert await stranger.guess(other.text) == await stranger.guess(wrong(code.text)) == CodeRefused()


class TestReplayAndReflection:
    async def test_a_recorded_exchange_is_refused_and_gives_nothing(self, tmp_path: Path) -> None:
        async with two(tmp_path) as (mesh, laptop, _):
            code = parse_code((await laptop.share()).code)
            key = discovery_key(code.number)
            honest = await Stranger.at(mesh, laptop, key, TRUDY)
            talk = await honest.talk()
            run = honest.run(talk, code)
            ask = run.ask()
            await talk.send(ask)
            offer = await talk.receive()
            assert isinstance(offer, CodeOffer)
            answer = run.answer(offer)  # recorded, never sent
            again = await honest.talk()
            await again.send(ask)
            assert isinstance(await again.receive(), CodeOffer)
            await again.send(answer)
            assert await again.receive() == CodeRefused()
            assert members(laptop) == 1

    async def test_a_recorded_newcomer_on_anothers_link_costs_the_link(self, tmp_path: Path) -> None:
        async with two(tmp_path) as (mesh, laptop, _):
            code = parse_code((await laptop.share()).code)
            mallory = await Stranger.at(mesh, laptop, discovery_key(code.number))
            talk = await mallory.talk()
            await talk.send(CodeAsk(code.number, TRUDY.device, b"n" * 32))
            with pytest.raises(MeshsyncError):
                await talk.receive()
            await mallory.link.wait_closed()
            assert laptop.agent.codes.is_open(told(laptop, code.text))

    async def test_what_the_inviter_said_is_no_proof_to_it(self, tmp_path: Path) -> None:
        async with two(tmp_path) as (mesh, laptop, _):
            code = parse_code((await laptop.share()).code)
            mallory = await Stranger.at(mesh, laptop, discovery_key(code.number))
            talk = await mallory.talk()
            await talk.send(CodeAsk(code.number, MALLORY.device, b"n" * 32))
            offer = await talk.receive()
            assert isinstance(offer, CodeOffer)
            await talk.send(CodeAnswer(offer.share, offer.signature, offer.signature))
            assert await talk.receive() == CodeRefused()
            assert members(laptop) == 1


class TestOneUse:
    async def test_a_code_serves_one_newcomer(self, tmp_path: Path) -> None:
        async with two(tmp_path) as (mesh, laptop, desk):
            phone = await mesh.start("phone")
            code = (await laptop.share()).code
            await desk.join(code)
            with pytest.raises(CodeInvalid, match=NONE):
                await phone.join(code, address=laptop.address)
            assert members(laptop) == 2

    async def test_the_right_words_are_taken_once_though_the_ticket_is_not_used_yet(self, tmp_path: Path) -> None:
        async with two(tmp_path) as (mesh, laptop, _):
            code = (await laptop.share()).code
            stranger = await Stranger.at(mesh, laptop, discovery_key(parse_code(code).number))
            assert isinstance(await stranger.guess(code), CodeTicket)
            assert await stranger.guess(code) == CodeRefused() and members(laptop) == 1

    async def test_a_code_ends_with_its_ticket_and_a_ticket_with_its_code(self, tmp_path: Path) -> None:
        async with two(tmp_path) as (mesh, laptop, desk):
            phone = await mesh.start("phone")
            first, second = await laptop.share(), await laptop.share()
            await desk.join(first.ticket)
            with pytest.raises(CodeInvalid, match=NONE):
                await phone.join(first.code, address=laptop.address)
            await phone.join(second.code)
            tablet = await mesh.start("tablet")
            for ticket in (first.ticket, second.ticket):
                with pytest.raises((TicketInvalid, SourceUnavailable)):
                    await pair_with(mesh, laptop, parse_ticket(ticket))
            assert members(laptop) == 3 and tablet.agent.folders == {}

    async def test_an_expired_code_is_found_by_nobody(self, tmp_path: Path) -> None:
        async with two(tmp_path) as (_, laptop, desk):
            code = (await laptop.share()).code
            told(laptop, code).closes_s = laptop.agent.runtime.monotonic()
            with pytest.raises(CodeInvalid, match=NONE):
                await desk.join(code, address=laptop.address)
            assert health(laptop) == []

    async def test_a_revoked_invitation_admits_nobody_by_code_or_ticket(self, tmp_path: Path) -> None:
        async with two(tmp_path) as (mesh, laptop, desk):
            shared = await laptop.share()
            listed = (await laptop.service.invitations("")).invitations
            assert [(each.id, each.role, each.code) for each in listed] == [(shared.id, "writer", "open")]
            done = await laptop.service.revoke(api.RevokeRequest(folder="laptop", id=shared.id[:6]))
            assert done.revoked == [shared.id] and (await laptop.service.invitations("")).invitations == []
            with pytest.raises(CodeInvalid, match=NONE):
                await desk.join(shared.code, address=laptop.address)
            with pytest.raises(AccessError):
                await pair_with(mesh, laptop, parse_ticket(shared.ticket))
            assert members(laptop) == 1


async def pair_with(mesh: Mesh, device: Device, ticket: Ticket, keys: DeviceKeys = TRUDY) -> list[bytes]:
    """Let a device with `keys` use a ticket at `device`, which knows that it was open once."""
    stranger = await knock(mesh, device, keys)
    return await pair_over_link(stranger.link, ticket, keys, "trudy", mesh.runtime.wall_time_ns() // 10**9)


async def knock(mesh: Mesh, device: Device, keys: DeviceKeys) -> Stranger:
    """Link `keys` with `device` by the code of another invitation, which is open as well."""
    other = parse_code((await device.share()).code)
    return await Stranger.at(mesh, device, discovery_key(other.number), keys)


class TestTickets:
    async def test_a_newcomer_that_did_not_hear_of_its_admission_is_not_shut_out(self, tmp_path: Path) -> None:
        async with two(tmp_path) as (mesh, laptop, _):
            ticket = parse_ticket((await laptop.share()).ticket)
            stranger = await knock(mesh, laptop, TRUDY)
            now_s = mesh.runtime.wall_time_ns() // 10**9
            once = await pair_over_link(stranger.link, ticket, TRUDY, "trudy", now_s)
            again = await pair_over_link(stranger.link, ticket, TRUDY, "trudy", now_s)
            assert again[: len(once)] == once and members(laptop) == 2
            other = await knock(mesh, laptop, MALLORY)
            with pytest.raises(TicketInvalid):
                await pair_over_link(other.link, ticket, MALLORY, "mallory", now_s)

    async def test_a_raised_role_is_refused(self, tmp_path: Path) -> None:
        async with two(tmp_path) as (mesh, laptop, _):
            ticket = parse_ticket((await laptop.share("reader")).ticket)
            stranger = await knock(mesh, laptop, TRUDY)
            conversation = Conversation(await stranger.link.open_stream(Priority.INTERACTIVE))
            statement = pair_message(ticket.folder, TRUDY.device, laptop.agent.keys.device)
            signature = ticket.keys.sign(PAIR_KIND, statement)
            await conversation.send(PairRequest(ticket.folder, ticket.keys.device, signature))
            chain: list[bytes] = []
            while isinstance(page := await conversation.receive(), MembershipPage) and page.entries:
                chain += page.entries
            membership = replay(map(open_membership, chain), ticket.folder)
            with pytest.raises(TicketInvalid):
                raised = Admit(ticket.keys.device, Role.OWNER, TRUDY.box_public)
                membership.with_change(TRUDY.device, raised)
            entry = sign_change(TRUDY, ticket.folder, membership.head, membership.seq + 1, raised, ticket=ticket.keys)
            await conversation.send(PairAdmit(entry.data))
            answer = await conversation.receive()
            assert answer == PairRefused("this ticket admits as reader only") and members(laptop) == 1

    @pytest.mark.slow
    async def test_an_expired_ticket_is_refused_and_nothing_of_the_folder_is_told(self, tmp_path: Path) -> None:
        async with two(tmp_path) as (mesh, laptop, _):
            ticket = parse_ticket((await laptop.share(expires_s=1.0)).ticket)
            await mesh.until(lambda: mesh.runtime.wall_time_ns() // 10**9 > ticket.expires_s)
            stranger = await knock(mesh, laptop, TRUDY)
            answers = []
            for folder in (ticket.folder, bytes(32)):
                conversation = Conversation(await stranger.link.open_stream(Priority.INTERACTIVE))
                statement = pair_message(folder, TRUDY.device, laptop.agent.keys.device)  # type: ignore[arg-type]
                signature = ticket.keys.sign(PAIR_KIND, statement)
                await conversation.send(PairRequest(folder, ticket.keys.device, signature))
                answers.append(await conversation.receive())
            assert answers[0] == answers[1] and isinstance(answers[0], PairRefused)

    async def test_another_member_lets_the_bearer_in_while_the_inviter_is_off(self, tmp_path: Path) -> None:
        async with two(tmp_path) as (mesh, laptop, desk):
            await desk.join((await laptop.share()).code)
            shared = await laptop.share()
            (folder,) = desk.agent.folders.values()
            await mesh.until(lambda: desk.agent.invitations.admits(folder.id, DeviceId(bytes.fromhex(shared.id))))
            await mesh.stop(laptop)
            phone = await mesh.start("phone")
            joined = await phone.join(shared.ticket)
            assert joined.files == 1 and phone.files() == {"note": b"hello"}
            assert members(desk) == 3

    async def test_a_membership_chain_without_end_is_cut_off(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with two(tmp_path) as (_, laptop, _):
            ticket = parse_ticket((await laptop.share()).ticket)
            (folder,) = laptop.agent.folders.values()
            chain = folder.replica.membership_page(0, 1 << 20)
            monkeypatch.setattr(pairing, "JOIN_CHAIN_BYTES_MAX", sum(map(len, chain)))
            received = pairing.ReceivedChain(ticket.folder)
            received.add(chain)
            with pytest.raises(PeerOverran):
                received.add([b"x"])
            with pytest.raises(MeshsyncError):
                pairing.ReceivedChain(ticket.folder).add([b"x"])

    async def test_a_device_that_is_no_member_lets_nobody_in(self, tmp_path: Path) -> None:
        """It has a copy of the membership chain, as a relay or a removed member does."""
        async with two(tmp_path) as (mesh, laptop, _):
            ticket = parse_ticket((await laptop.share()).ticket)
            (folder,) = laptop.agent.folders.values()
            chain = folder.replica.membership_page(0, 1 << 20)
            door = await MemoryEndpoint.open(
                mesh.runtime, MALLORY, mesh.network, Policy(speaks_first=lambda: True, authorize=lambda device: None)
            )
            near = await MemoryEndpoint.open(mesh.runtime, TRUDY, mesh.network)
            link = await near.dial(
                f"10.0.0.7:{door.port}", expect=None, discovery_key=ticket.discovery_key, timeout_s=5.0
            )
            far = await door.accept()

            async def serve() -> None:
                while True:
                    conversation = Conversation(await far.accept_stream())
                    await conversation.receive()
                    await conversation.send(MembershipPage(0, tuple(chain)))
                    await conversation.send(MembershipPage(len(chain), ()))
                    if await conversation.receive() is not None:
                        await conversation.send(PairRefused("again"))

            serving = asyncio.ensure_future(serve())
            with pytest.raises(TicketInvalid, match="no member"):
                await pair_over_link(link, ticket, TRUDY, "trudy", mesh.runtime.wall_time_ns() // 10**9)
            serving.cancel()
            assert make_admission(chain, ticket, TRUDY, "trudy", 0)  # it would have been a good one


class TestOnTheLan:
    async def test_who_announces_the_number_without_the_words_gets_nothing_but_a_guess(self, tmp_path: Path) -> None:
        async with two(tmp_path) as (mesh, laptop, desk):
            code = parse_code((await laptop.share()).code)
            fake = await MemoryEndpoint.open(
                mesh.runtime, MALLORY, mesh.network, Policy(speaks_first=lambda: True, authorize=lambda device: None)
            )
            tags = make_tags([discovery_key(code.number)], b"n" * 8, fake.port)
            mesh.air.say(66, Found((f"10.0.0.66:{fake.port}",), fake.port, tags, b"n" * 8))
            heard: list[Message | None] = []

            async def pose() -> None:
                link = await fake.accept()
                talk = DirectTalk(link, Conversation(await link.accept_stream()))
                ask = await talk.receive()
                assert isinstance(ask, CodeAsk)
                run = InviterRun(MALLORY, code.number, b"a wrong guess", talk.channel, b"n" * 32, b"s" * 32)
                await talk.send(run.offer(ask))
                heard.append(await talk.receive())
                await talk.send(CodeTicket(b"c" * 64, b"s" * 1024))

            posing = asyncio.ensure_future(pose())
            await desk.join(code.text)
            assert desk.files() == {"note": b"hello"}
            await asyncio.wait([posing], timeout=0.1)
            posing.cancel()
            assert len(heard) <= 1  # one proof, which tests one guess

    @pytest.mark.usefixtures("impatient")
    async def test_a_newcomer_shows_a_proof_to_few(self, tmp_path: Path) -> None:
        async with open_mesh(tmp_path) as mesh:
            desk = await mesh.start("desk")
            proofs: list[int] = []
            posing = []
            for number in range(CODE_TRIES_MAX + 3):
                keys = DeviceKeys(bytes([100 + number]) * 64)
                fake = await MemoryEndpoint.open(
                    mesh.runtime, keys, mesh.network, Policy(speaks_first=lambda: True, authorize=lambda device: None)
                )
                tags = make_tags([discovery_key(7)], b"n" * 8, fake.port)
                mesh.air.say(60 + number, Found((f"10.0.0.{60 + number}:{fake.port}",), fake.port, tags, b"n" * 8))

                async def pose(number: int = number, fake: MemoryEndpoint = fake, keys: DeviceKeys = keys) -> None:
                    link = await fake.accept()
                    talk = DirectTalk(link, Conversation(await link.accept_stream()))
                    ask = await talk.receive()
                    assert isinstance(ask, CodeAsk)
                    run = InviterRun(keys, 7, b"a wrong guess", talk.channel, b"n" * 32, b"s" * 32)
                    await talk.send(run.offer(ask))
                    if isinstance(await talk.receive(), CodeAnswer):
                        proofs.append(number)

                posing.append(asyncio.ensure_future(pose()))
            with pytest.raises(MeshsyncError):
                async with asyncio.timeout(5):
                    await desk.join("7-canyon-ribbon-orbit")
            for each in posing:
                each.cancel()
            assert 1 <= len(proofs) <= CODE_TRIES_MAX

    async def test_strangers_links_are_few(self, tmp_path: Path) -> None:
        async with two(tmp_path) as (mesh, laptop, _):
            key = discovery_key(parse_code((await laptop.share()).code).number)
            for number in range(NEWCOMER_LINKS_MAX):
                await Stranger.at(mesh, laptop, key, DeviceKeys(bytes([number + 1]) * 64))
            await mesh.until(lambda: len(laptop.agent.links.all()) == NEWCOMER_LINKS_MAX)
            with pytest.raises(LinkClosed, match="no room"):
                await Stranger.at(mesh, laptop, key)

    async def test_invitations_made_at_once_take_different_numbers(self, tmp_path: Path) -> None:
        async with two(tmp_path) as (_, laptop, _):
            await laptop.share()
            shared = await asyncio.gather(*(laptop.share() for _ in range(8)))
            assert len({parse_code(each.code).number for each in shared}) == 8

    async def test_two_inviters_take_different_numbers(self, tmp_path: Path) -> None:
        async with two(tmp_path) as (_, laptop, desk):
            (desk.tree / "other").write_bytes(b"of the desk")
            numbers = {parse_code((await each.share()).code).number for each in (laptop, desk) for _ in range(5)}
            assert len(numbers) == 10

    async def test_nobody_there_is_said_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(code_joining, "CODE_FIND_S", 0.05)
        async with open_mesh(tmp_path) as mesh:
            desk = await mesh.start("desk")
            with pytest.raises(SourceUnavailable, match="no device that waits for code 7 was found"):
                await desk.join("7-canyon-ribbon-orbit")


@pytest.mark.usefixtures("impatient")
class TestLyingRelay:
    async def test_a_relay_that_only_passes_on_is_enough(self, tmp_path: Path) -> None:
        async def honest(host: Side, guest: Side) -> None:
            await host.send(await guest.receive())
            await guest.send(await host.receive())
            await host.send(await guest.receive())
            await guest.send(await host.receive())

        async with open_mesh(tmp_path) as mesh, open_liar(mesh, honest):
            laptop, desk = await mesh.start("laptop", on_lan=False), await mesh.start("desk", on_lan=False)
            await mesh.until(lambda: all(c.link for d in mesh.devices for c in d.agent.relays.values()))
            (laptop.tree / "note").write_bytes(b"hello")
            await desk.join((await laptop.share()).code)
            assert desk.files() == {"note": b"hello"}

    @pytest.mark.parametrize("step", [0, 1, 2, 3])
    async def test_one_altered_byte_gives_the_newcomer_nothing(
        self, tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(code_joining, "CODE_FIND_S", 0.4)

        async def alter(host: Side, guest: Side) -> None:
            for number, (source, target) in enumerate([(guest, host), (host, guest)] * 2):
                message = await source.receive()
                if number == step and not isinstance(message, CodeRefused):
                    field = {0: "nonce", 1: "share", 2: "confirmation", 3: "sealed"}[step]
                    value = bytearray(getattr(message, field))
                    value[5] ^= 1
                    message = msgspec.structs.replace(message, **{field: bytes(value)})
                await target.send(message)

        await self.refused(tmp_path, alter)

    async def test_a_relay_that_speaks_for_both_gets_neither_words_nor_ticket(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It runs an exchange of its own with each side, with its own keys and a guess."""
        monkeypatch.setattr(code_joining, "CODE_FIND_S", 2.0)
        seen: list[Message] = []

        async def two_runs(host: Side, guest: Side) -> None:
            channel = relayed_channel(LIAR.device)
            ask = await guest.receive()
            assert isinstance(ask, CodeAsk)
            as_inviter = InviterRun(MALLORY, ask.number, b"a guess", channel, b"n" * 32, b"s" * 32)
            await guest.send(as_inviter.offer(ask))
            as_newcomer = NewcomerRun(MALLORY, ask.number, b"a guess", channel, b"m" * 32, b"t" * 32)
            await host.send(as_newcomer.ask())
            offer = await host.receive()
            assert isinstance(offer, CodeOffer)
            await host.send(as_newcomer.answer(offer))
            seen.append(await host.receive())
            seen.append(await guest.receive())
            await guest.send(CodeTicket(b"c" * 64, b"s" * 1024))

        await self.refused(tmp_path, two_runs)
        assert seen[0] == CodeRefused() and isinstance(seen[1], CodeAnswer)

    async def test_a_relay_that_hands_out_a_ticket_of_another_device_is_not_believed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It knows the words, by treason: the ticket must still be of the device that proved them."""
        monkeypatch.setattr(code_joining, "CODE_FIND_S", 2.0)
        words: list[Code] = []
        tickets: list[str] = []

        async def treason(host: Side, guest: Side) -> None:
            ask = await guest.receive()
            assert isinstance(ask, CodeAsk)
            channel = relayed_channel(LIAR.device)
            run = InviterRun(MALLORY, ask.number, words[0].password, channel, b"n" * 32, b"s" * 32)
            await guest.send(run.offer(ask))
            answer = await guest.receive()
            assert isinstance(answer, CodeAnswer)
            run.judge(answer)
            await guest.send(run.ticket(tickets[0]))

        async with open_mesh(tmp_path) as mesh, open_liar(mesh, treason):
            laptop, desk = await mesh.start("laptop", on_lan=False), await mesh.start("desk", on_lan=False)
            await mesh.until(lambda: all(c.link for d in mesh.devices for c in d.agent.relays.values()))
            shared = await laptop.share()
            words.append(parse_code(shared.code))
            tickets.append(shared.ticket)
            with pytest.raises(CodeInvalid, match="another device's"):
                await desk.join(shared.code)

    async def refused(self, tmp_path: Path, lie: object) -> None:
        """Assert that a newcomer that meets the laptop at a lying relay gets nothing, and nobody else does."""
        async with open_mesh(tmp_path) as mesh, open_liar(mesh, lie):  # type: ignore[arg-type]
            laptop, desk = await mesh.start("laptop", on_lan=False), await mesh.start("desk", on_lan=False)
            await mesh.until(lambda: all(c.link for d in mesh.devices for c in d.agent.relays.values()))
            (laptop.tree / "note").write_bytes(b"hello")
            code = (await laptop.share()).code
            with pytest.raises((CodeInvalid, SourceUnavailable)):
                await desk.join(code)
            assert members(laptop) == 1 and desk.agent.folders == {} and desk.files() == {}
