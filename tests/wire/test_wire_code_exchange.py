"""docs/spec/wire.md 5: a ticket for a code, without a network. Who does not know the words gets nothing and one try."""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.codec.canonical import encode
from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import CodeInvalid, MalformedMessage, MeshsyncError, PeerIdentityMismatch
from meshsync.ids import DeviceId
from meshsync.limits import CODE_SEALED_BYTES_MAX, CODE_TICKET_BYTES_STEP
from meshsync.wire.code_exchange import (
    Channel,
    InviterRun,
    NewcomerRun,
    direct_channel,
    relayed_channel,
)
from meshsync.wire.peer_messages import CodeAnswer, CodeAsk, CodeOffer, CodeTicket

ANNA, BEN, MALLORY = (DeviceKeys(bytes([letter]) * 64) for letter in b"abm")
RELAY = DeviceId(b"r" * 32)
WORDS = b"canyon ribbon orbit"
TICKET = "meshsync1" + "k" * 500
SECRETS = st.tuples(*[st.binary(min_size=32, max_size=32)] * 4)


@dataclass(frozen=True)
class Side:
    """What one side brings to a run."""

    keys: DeviceKeys
    number: int = 7
    password: bytes = WORDS
    channel: Channel = relayed_channel(RELAY)
    nonce: bytes = b"n" * 32
    scalar: bytes = b"s" * 32

    def inviter(self) -> InviterRun:
        return InviterRun(self.keys, self.number, self.password, self.channel, self.nonce, self.scalar)

    def newcomer(self) -> NewcomerRun:
        return NewcomerRun(self.keys, self.number, self.password, self.channel, self.nonce, self.scalar)


INVITER, NEWCOMER = Side(ANNA), Side(BEN, nonce=b"m" * 32, scalar=b"t" * 32)


def run(inviter: InviterRun, newcomer: NewcomerRun) -> tuple[DeviceId, str]:
    """Let both talk to the end; return what the newcomer has. Raises what either side raises."""
    inviter_message = inviter.offer(newcomer.ask())
    inviter.judge(newcomer.answer(inviter_message))
    return newcomer.open(inviter.ticket(TICKET))


@given(SECRETS, st.integers(1, 9999), st.binary(min_size=1, max_size=100))
def test_who_knows_the_words_gets_the_ticket(secrets: tuple[bytes, ...], number: int, words: bytes) -> None:
    inviter = replace(INVITER, number=number, password=words, nonce=secrets[0], scalar=secrets[1])
    newcomer = replace(NEWCOMER, number=number, password=words, nonce=secrets[2], scalar=secrets[3])
    assert run(inviter.inviter(), newcomer.newcomer()) == (ANNA.device, TICKET)


@given(st.binary(max_size=60))
def test_other_words_are_noticed_by_the_inviter_before_anything_is_sealed(words: bytes) -> None:
    if words == WORDS:
        return
    inviter, newcomer = INVITER.inviter(), replace(NEWCOMER, password=words).newcomer()
    answer = newcomer.answer(inviter.offer(newcomer.ask()))
    with pytest.raises(CodeInvalid, match="does not know this code"):
        inviter.judge(answer)
    with pytest.raises(MalformedMessage):
        inviter.ticket(TICKET)


@pytest.mark.parametrize(
    "changed",
    [
        {"number": 8},
        {"channel": relayed_channel(DeviceId(b"o" * 32))},
        {"channel": direct_channel(b"b" * 32, ANNA.device)},
    ],
    ids=["another number", "another relay", "another channel"],
)
def test_a_run_is_bound_to_number_and_channel(changed: dict[str, object]) -> None:
    inviter, newcomer = INVITER.inviter(), replace(NEWCOMER, **changed).newcomer()  # type: ignore[arg-type]
    with pytest.raises((CodeInvalid, PeerIdentityMismatch)):
        run(inviter, newcomer)


def test_a_relay_that_stands_between_two_runs_of_its_own_gets_through_neither() -> None:
    """It shows each side its own key, and passes the shares on."""
    inviter, newcomer = INVITER.inviter(), NEWCOMER.newcomer()
    offer = inviter.offer(msgspec.structs.replace(newcomer.ask(), device=MALLORY.device))
    forged = msgspec.structs.replace(offer, device=MALLORY.device)
    with pytest.raises(PeerIdentityMismatch, match="signature"):
        newcomer.answer(forged)
    honest = NEWCOMER.newcomer()
    honest.ask()
    with pytest.raises(PeerIdentityMismatch):  # the inviter signed for Mallory, not for Ben
        honest.answer(offer)


@given(st.sampled_from(["ask", "offer", "answer", "ticket"]), st.data())
def test_any_altered_byte_ends_the_run_and_gives_nobody_anything(at: str, data: st.DataObject) -> None:
    inviter, newcomer = INVITER.inviter(), NEWCOMER.newcomer()

    def altered(message: object, name: str) -> object:
        if name != at:
            return message
        fields = [f for f in message.__struct_fields__ if isinstance(getattr(message, f), bytes)]  # type: ignore[attr-defined]
        which = data.draw(st.sampled_from(fields))
        value = bytearray(getattr(message, which))
        bit = data.draw(st.integers(0, len(value) * 8 - 1))
        value[bit // 8] ^= 1 << bit % 8

        return msgspec.structs.replace(message, **{which: bytes(value)})

    with pytest.raises(MeshsyncError):
        offer = inviter.offer(altered(newcomer.ask(), "ask"))  # type: ignore[arg-type]
        answer = newcomer.answer(altered(offer, "offer"))  # type: ignore[arg-type]
        inviter.judge(altered(answer, "answer"))  # type: ignore[arg-type]
        newcomer.open(altered(inviter.ticket(TICKET), "ticket"))  # type: ignore[arg-type]


def test_a_recorded_answer_is_worth_nothing_in_another_run() -> None:
    inviter, newcomer = INVITER.inviter(), NEWCOMER.newcomer()
    ask = newcomer.ask()
    answer = newcomer.answer(inviter.offer(ask))
    again = replace(INVITER, nonce=b"o" * 32, scalar=b"u" * 32).inviter()
    again.offer(ask)
    with pytest.raises(CodeInvalid):
        again.judge(answer)


def test_what_the_inviter_says_is_no_answer_to_it() -> None:
    inviter = INVITER.inviter()
    with pytest.raises(PeerIdentityMismatch, match="own key"):
        inviter.offer(CodeAsk(7, ANNA.device, b"n" * 32))
    offer = inviter.offer(CodeAsk(7, MALLORY.device, b"n" * 32))
    with pytest.raises(CodeInvalid):
        inviter.judge(CodeAnswer(offer.share, bytes(64), offer.signature))


def test_two_inviters_of_one_code_do_not_take_each_other_for_newcomers() -> None:
    """A mirror passes what one says to the other; both know the words."""
    anna, ben = INVITER.inviter(), replace(NEWCOMER, keys=BEN).inviter()
    to_anna = anna.offer(CodeAsk(7, BEN.device, b"x" * 32))
    ben.offer(CodeAsk(7, ANNA.device, b"x" * 32))
    with pytest.raises(CodeInvalid):
        ben.judge(CodeAnswer(to_anna.share, bytes(64), to_anna.signature))


def test_a_link_proves_who_may_speak() -> None:
    inviter = replace(INVITER, channel=direct_channel(b"b" * 32, MALLORY.device)).inviter()
    with pytest.raises(PeerIdentityMismatch, match="another device"):
        inviter.offer(NEWCOMER.newcomer().ask())
    newcomer = replace(NEWCOMER, channel=direct_channel(b"b" * 32, MALLORY.device)).newcomer()
    with pytest.raises(PeerIdentityMismatch, match="another device"):
        newcomer.answer(INVITER.inviter().offer(newcomer.ask()))


def test_an_inviter_that_does_not_know_the_words_is_not_believed() -> None:
    """It lets anybody through and seals a ticket of its own."""
    newcomer = NEWCOMER.newcomer()
    fake = replace(INVITER, password=b"a guess").inviter()
    newcomer.answer(fake.offer(newcomer.ask()))
    with pytest.raises(CodeInvalid):
        newcomer.open(CodeTicket(b"c" * 64, b"s" * 1024))


@pytest.mark.parametrize("share", [bytes(32), b"\x01" + bytes(31)])
def test_a_share_that_fixes_the_key_is_refused_on_both_sides(share: bytes) -> None:
    inviter, newcomer = INVITER.inviter(), NEWCOMER.newcomer()
    offer = inviter.offer(newcomer.ask())
    answer = newcomer.answer(offer)
    with pytest.raises(CodeInvalid):
        inviter.judge(msgspec.structs.replace(answer, share=share))
    signed = NEWCOMER.newcomer()
    signed.ask()
    with pytest.raises((CodeInvalid, PeerIdentityMismatch)):
        signed.answer(msgspec.structs.replace(offer, share=share))


def test_each_step_is_taken_once_and_in_order() -> None:
    inviter, newcomer = INVITER.inviter(), NEWCOMER.newcomer()
    with pytest.raises(MalformedMessage):
        newcomer.answer(CodeOffer(ANNA.device, bytes(32), bytes(32), bytes(64)))
    with pytest.raises(MalformedMessage):
        inviter.judge(CodeAnswer(bytes(32), bytes(64), bytes(64)))
    ask = newcomer.ask()
    offer = inviter.offer(ask)
    with pytest.raises(MalformedMessage):
        inviter.offer(ask)
    answer = newcomer.answer(offer)
    inviter.judge(answer)
    with pytest.raises(MalformedMessage):
        inviter.judge(answer)
    sealed = inviter.ticket(TICKET)
    with pytest.raises(MalformedMessage):
        inviter.ticket(TICKET)
    newcomer.open(sealed)
    with pytest.raises(MalformedMessage):
        newcomer.open(sealed)


@given(st.integers(1, 13_200))
def test_the_size_of_a_ticket_is_blurred_and_bounded(size: int) -> None:
    inviter, newcomer = INVITER.inviter(), NEWCOMER.newcomer()
    inviter.judge(newcomer.answer(inviter.offer(newcomer.ask())))
    message = inviter.ticket("t" * size)
    assert (len(message.sealed) - 40) % CODE_TICKET_BYTES_STEP == 0 and len(message.sealed) <= CODE_SEALED_BYTES_MAX
    assert newcomer.open(message) == (ANNA.device, "t" * size)


def test_what_is_said_before_the_proof_holds_nothing_of_the_words() -> None:
    """Shares of two codes cannot be told apart by anything but their bytes."""
    one, other = INVITER.inviter(), replace(INVITER, password=b"other words here").inviter()
    ask = NEWCOMER.newcomer().ask()
    sizes = {len(encode(each.offer(ask))) for each in (one, other)}
    assert len(sizes) == 1 and WORDS not in encode(INVITER.inviter().offer(ask))
