"""A ticket for a short code: two pure state machines around one run of `crypto.pake` (`docs/spec/wire.md` 5).

    newcomer                           inviting device
    CodeAsk(number, Dj, Nj)      ──▶
                                 ◀──   CodeOffer(Di, Ni, Yi, signature)
    CodeAnswer(Yj, Tj, signature) ──▶   burns the code unless all of it is right
                                 ◀──   CodeTicket(Ti, sealed ticket)

Invariant: the ticket is sealed only after the newcomer has shown that it knows the words, and believed only after the
inviting device has. Both proofs are of one run between these two devices, over this channel, in these roles.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from meshsync.crypto.hashing import derive, digest
from meshsync.crypto.identity import DeviceKeys
from meshsync.crypto.pake import Said, confirmation, confirms, joined, make_share, shared_key
from meshsync.crypto.sealing import seal, unseal
from meshsync.crypto.signing import verify
from meshsync.errors import (
    AuthenticationFailed,
    CodeInvalid,
    MalformedMessage,
    PeerIdentityMismatch,
    SignatureInvalid,
)
from meshsync.ids import DeviceId, short
from meshsync.limits import CODE_TICKET_BYTES_STEP
from meshsync.wire.peer_messages import CodeAnswer, CodeAsk, CodeOffer, CodeTicket

NONCE_SIZE_BYTES = 32
OFFER_KIND = "code-offer"
ANSWER_KIND = "code-answer"
_INVITER, _NEWCOMER = b"inviter", b"newcomer"
_PROTOCOL = b"meshsync/1/code"


class State(enum.Enum):
    """Where a run stands; it moves forward only."""

    ASK = "ask"  # inviter: waits for CodeAsk; newcomer: has not asked
    ANSWER = "answer"  # inviter: waits for CodeAnswer; newcomer: for CodeOffer
    TICKET = "ticket"  # inviter: the newcomer has proven the words; newcomer: waits for CodeTicket
    CLOSED = "closed"  # nothing more is taken


@dataclass(frozen=True, slots=True)
class Channel:
    """How the two devices talk: `name` is a name of the channel that both see alike.

    `peer` is the device at the other end where the link proves it, None through a relay, where only signatures do.
    """

    name: bytes
    peer: DeviceId | None = None


def direct_channel(binding: bytes, peer: DeviceId) -> Channel:
    """Return the channel of a link between the two devices; `binding` is `Link.binding`."""
    return Channel(b"link" + binding, peer)


def relayed_channel(relay: DeviceId) -> Channel:
    """Return the channel through a slot at `relay`."""
    return Channel(b"slot" + relay)


class _Run:
    def __init__(
        self, keys: DeviceKeys, number: int, password: bytes, channel: Channel, nonce: bytes, scalar: bytes
    ) -> None:
        """`nonce` and `scalar` are 32 fresh random bytes each, for this run only."""
        self.state = State.ASK
        self._keys, self._number, self._password, self._channel = keys, number, password, channel
        self._nonce, self._scalar = nonce, scalar
        self._session = self._who = b""  # what both sides must see alike: this run, and who is in it
        self._key = b""

    def _require(self, state: State) -> None:
        if self.state is not state:
            raise MalformedMessage(f"a message of a code exchange that is at {self.state.value}")

    def _check_device(self, device: DeviceId) -> None:
        if device == self._keys.device:
            raise PeerIdentityMismatch("the peer answers with this device's own key", device=short(device))
        if self._channel.peer is not None and device != self._channel.peer:
            raise PeerIdentityMismatch("the peer speaks for another device", device=short(device))

    def _begin(self, newcomer: DeviceId, inviter: DeviceId, newcomer_nonce: bytes, inviter_nonce: bytes) -> bytes:
        """Fix the run and who is in it; return this side's share."""
        number = self._number.to_bytes(4, "big")
        named = joined(self._channel.name, number, newcomer_nonce, inviter_nonce)
        self._session = digest("code-session", named)
        self._who = joined(_PROTOCOL, number, inviter, newcomer)
        return make_share(self._password, self._who, self._session, self._scalar)

    def _statement(self, *shares: bytes) -> bytes:
        """Return what a device signs: the run, both devices, and the shares so far."""
        return joined(self._session, self._who, *shares)

    def _seal_keys(self) -> tuple[bytes, bytes]:
        return derive(self._key, b"ms1 code seal"), derive(self._key, b"ms1 code nonce")

    def _verify(self, device: DeviceId, kind: str, statement: bytes, signature: bytes) -> None:
        try:
            verify(device, kind, statement, signature)
        except SignatureInvalid as error:
            raise PeerIdentityMismatch(
                "a signature was not made for this code exchange", device=short(device)
            ) from error


class InviterRun(_Run):
    """The side that made the code."""

    def offer(self, ask: CodeAsk) -> CodeOffer:
        """Answer the first message. Raises MalformedMessage, PeerIdentityMismatch; neither tests a guess."""
        self._require(State.ASK)
        self._newcomer = DeviceId(ask.device)
        self._check_device(self._newcomer)
        self._share = self._begin(self._newcomer, self._keys.device, ask.nonce, self._nonce)
        self.state = State.ANSWER
        signature = self._keys.sign(OFFER_KIND, self._statement(self._share))
        return CodeOffer(self._keys.device, self._nonce, self._share, signature)

    def judge(self, answer: CodeAnswer) -> DeviceId:
        """Return the device that has shown that it knows the words.

        Raises CodeInvalid if it has not, or any part of the answer is wrong: this was the code's one try.
        """
        self._require(State.ANSWER)
        self.state = State.CLOSED
        try:
            statement = self._statement(self._share, answer.share, answer.confirmation)
            self._verify(self._newcomer, ANSWER_KIND, statement, answer.signature)
            mine, theirs = Said(self._share, _INVITER), Said(answer.share, _NEWCOMER)
            key = shared_key(self._scalar, self._session, mine, theirs, theirs.share)
        except (PeerIdentityMismatch, AuthenticationFailed) as error:
            raise _wrong(self._newcomer) from error
        if not confirms(key, self._session, theirs, answer.confirmation):
            raise _wrong(self._newcomer)
        self._key, self.state = key, State.TICKET
        return self._newcomer

    def ticket(self, text: str) -> CodeTicket:
        """Return the ticket's line sealed for the newcomer that `judge` returned. Once."""
        self._require(State.TICKET)
        self.state = State.CLOSED
        data = text.encode()
        filled = data + b" " * (-len(data) % CODE_TICKET_BYTES_STEP)
        proof = confirmation(self._key, self._session, Said(self._share, _INVITER))
        return CodeTicket(proof, seal(*self._seal_keys(), self._session, filled))


class NewcomerRun(_Run):
    """The side that was told the code."""

    def ask(self) -> CodeAsk:
        """Return the first message; it tells the number and this device, nothing of the words."""
        self._require(State.ASK)
        self.state = State.ANSWER
        return CodeAsk(self._number, self._keys.device, self._nonce)

    def answer(self, offer: CodeOffer) -> CodeAnswer:
        """Answer the offer. Raises MalformedMessage, PeerIdentityMismatch, CodeInvalid for a share that is none."""
        self._require(State.ANSWER)
        self.state = State.CLOSED
        self._inviter = DeviceId(offer.device)
        self._check_device(self._inviter)
        share = self._begin(self._keys.device, self._inviter, self._nonce, offer.nonce)
        self._verify(self._inviter, OFFER_KIND, self._statement(offer.share), offer.signature)
        self._theirs, mine = Said(offer.share, _INVITER), Said(share, _NEWCOMER)
        try:
            self._key = shared_key(self._scalar, self._session, self._theirs, mine, offer.share)
        except AuthenticationFailed as error:
            raise _wrong(self._inviter) from error
        self.state = State.TICKET
        proof = confirmation(self._key, self._session, mine)
        signature = self._keys.sign(ANSWER_KIND, self._statement(offer.share, share, proof))
        return CodeAnswer(share, proof, signature)

    def open(self, message: CodeTicket) -> tuple[DeviceId, str]:
        """Return the inviting device and the ticket's line. Raises CodeInvalid if it does not know the words."""
        self._require(State.TICKET)
        self.state = State.CLOSED
        if not confirms(self._key, self._session, self._theirs, message.confirmation):
            raise _wrong(self._inviter)
        try:
            text = unseal(self._seal_keys()[0], self._session, message.sealed).decode("ascii")
        except (AuthenticationFailed, UnicodeDecodeError) as error:
            raise _wrong(self._inviter) from error
        return self._inviter, text.rstrip(" ")


def _wrong(device: DeviceId) -> CodeInvalid:
    return CodeInvalid(
        "the other side does not know this code",
        device=short(device),
        next_step="Ask for a new code: meshsync share PATH",
    )
