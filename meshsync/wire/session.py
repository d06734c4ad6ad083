"""Authentication of a link: two pure state machines, independent of the engine that carries them.

Invariant: a session is OPEN only after the peer signed, with the device key that is now `peer`, the role, the hash of
the server certificate as the client saw it, and both nonces; nothing but the frames of `docs/spec/wire.md` 2 is read
before. A proof therefore serves one role on one channel once.
"""

from __future__ import annotations

import enum
import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from meshsync.codec.canonical import Record, decode, encode
from meshsync.crypto.hashing import digest, keyed
from meshsync.crypto.identity import DeviceKeys
from meshsync.crypto.signing import verify
from meshsync.errors import (
    AccessError,
    FormatUnsupported,
    LinkClosed,
    MalformedMessage,
    NotAMember,
    PeerIdentityMismatch,
    PeerTimeout,
    SignatureInvalid,
)
from meshsync.ids import DeviceId, short
from meshsync.limits import FRAME_BYTES_MAX_UNAUTHENTICATED, HANDSHAKE_TIMEOUT_S, WIRE_VERSION

NONCE_SIZE_BYTES: Final = 32
TAG_SIZE_BYTES: Final = 16

Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
Tag = Annotated[bytes, msgspec.Meta(max_length=TAG_SIZE_BYTES)]


class FrameType(enum.IntEnum):
    """Types of the frames before the proofs are complete. No other type is read then."""

    HELLO = 1
    SERVER_PROOF = 2
    CLIENT_PROOF = 3
    ACCEPT = 4
    REFUSE = 5


class Refusal(enum.IntEnum):
    """Why a server turned a client away, as far as the client is told."""

    UNKNOWN_DEVICE = 1
    BUSY = 2
    VERSION = 3


class State(enum.Enum):
    """Where a session stands. Each machine moves forward only."""

    HELLO = "hello"  # server: waits for the client's hello
    PROOF = "proof"  # client: waits for the server's proof; server: for the client's
    VERDICT = "verdict"  # client: waits for accept or refuse
    OPEN = "open"  # `peer` is proven and accepted
    CLOSED = "closed"  # failed; nothing more is read or sent


class Hello(Record, frozen=True):
    """Client → server. `tag` is empty or 16 bytes."""

    version: int
    nonce: Bytes32
    tag: Tag


class ServerProof(Record, frozen=True):
    """Server → client, only if it speaks first or a tag matched."""

    nonce: Bytes32
    device: Bytes32
    signature: Signature


class ClientProof(Record, frozen=True):
    """Client → server, only after the server's proof."""

    device: Bytes32
    signature: Signature


class Accept(Record, frozen=True):
    """Server → client: this device is known here."""

    signature: Signature


class Refuse(Record, frozen=True):
    """Server → client: go away; `code` is a `Refusal`."""

    code: int


@dataclass(frozen=True, slots=True)
class Send:
    """A frame to send to the peer."""

    kind: FrameType
    body: bytes


MatchTag = Callable[[bytes, bytes, bytes], bool]
Authorize = Callable[[DeviceId], str | None]


def discovery_tag(discovery_key: bytes, certificate_hash: bytes, nonce: bytes) -> bytes:
    """Return the 16-byte tag by which a member of one folder recognises another in a client's hello."""
    return keyed(discovery_key, certificate_hash + nonce)[:TAG_SIZE_BYTES]


def tag_matches(discovery_keys: Iterable[bytes], tag: bytes, certificate_hash: bytes, nonce: bytes) -> bool:
    """Return whether `tag` was made with one of `discovery_keys` for this certificate and nonce."""
    matches = False
    for key in discovery_keys:  # every key is tried, so the time does not tell which folder matched
        matches |= hmac.compare_digest(discovery_tag(key, certificate_hash, nonce), tag)
    return matches


class _Session:
    """What both machines share. Time comes in as `now`, in seconds of any clock that never goes back."""

    def __init__(self, keys: DeviceKeys, certificate_hash: bytes, nonce: bytes, now: float, state: State) -> None:
        assert len(certificate_hash) == 32 and len(nonce) == NONCE_SIZE_BYTES
        self.state = state
        self.peer: DeviceId | None = None  # proven once `state` is OPEN
        self.binding = b""  # 32 bytes that both sides have once `state` is OPEN, and no other link has
        self.wake_at: float | None = now + HANDSHAKE_TIMEOUT_S
        self._keys = keys
        self._certificate_hash = certificate_hash
        self._nonce = nonce

    def wake(self, now: float) -> None:
        """Call when `wake_at` has passed: raises PeerTimeout and closes. Early calls do nothing."""
        if self.wake_at is not None and now >= self.wake_at:
            self._close()
            raise PeerTimeout(f"the peer did not prove its device key within {HANDSHAKE_TIMEOUT_S:g} s")

    def receive(self, kind: int, body: bytes) -> list[Send]:
        """Take one frame; return the frames to send now.

        Raises MalformedMessage on any frame that is not expected in this state, PeerIdentityMismatch on a proof that
        does not verify or proves another device, NotAMember and the like on a refusal. The session is CLOSED then.
        """
        try:
            return self._step(kind, body)
        except (MalformedMessage, PeerIdentityMismatch, AccessError, LinkClosed, FormatUnsupported):
            self._close()
            raise

    def _step(self, kind: int, body: bytes) -> list[Send]:
        raise NotImplementedError

    def _open(self, peer: DeviceId, transcript: bytes) -> None:
        self.peer = peer
        self.binding = digest("link-binding", transcript)
        self.state = State.OPEN
        self.wake_at = None

    def _close(self) -> None:
        self.state = State.CLOSED
        self.wake_at = None

    def _verify(self, device: DeviceId, role: str, signed: bytes, signature: bytes) -> None:
        try:
            verify(device, role, signed, signature)
        except SignatureInvalid as error:
            raise PeerIdentityMismatch("the proof was not made for this link", device=short(device)) from error


class ClientSession(_Session):
    """The side that dialled."""

    def __init__(
        self,
        keys: DeviceKeys,
        certificate_hash: bytes,
        nonce: bytes,
        now: float,
        *,
        expect: DeviceId | None = None,
        discovery_key: bytes | None = None,
        recognise: Callable[[DeviceId], bool] | None = None,
    ) -> None:
        """`certificate_hash` is of the certificate that the server showed; `nonce` has 32 fresh random bytes.

        `expect` is the only device that may answer; None for any that `recognise` knows, or for whoever does where that
        is None too. To any other this device proves nothing. `discovery_key` is of a folder
        that both are thought to share; None if the server speaks first.
        """
        super().__init__(keys, certificate_hash, nonce, now, State.PROOF)
        self._expect = expect
        self._recognise = recognise
        self._discovery_key = discovery_key
        self._transcript = b""
        self._candidate = DeviceId(b"")

    def start(self) -> list[Send]:
        """Return the hello. Call once, first."""
        key = self._discovery_key
        tag = b"" if key is None else discovery_tag(key, self._certificate_hash, self._nonce)
        return [Send(FrameType.HELLO, encode(Hello(WIRE_VERSION, self._nonce, tag)))]

    def _step(self, kind: int, body: bytes) -> list[Send]:
        if self.state in (State.PROOF, State.VERDICT) and kind == FrameType.REFUSE:
            raise _refused(decode(Refuse, body, FRAME_BYTES_MAX_UNAUTHENTICATED).code)
        if self.state is State.PROOF and kind == FrameType.SERVER_PROOF:
            return self._prove(decode(ServerProof, body, FRAME_BYTES_MAX_UNAUTHENTICATED))
        if self.state is State.VERDICT and kind == FrameType.ACCEPT:
            accept = decode(Accept, body, FRAME_BYTES_MAX_UNAUTHENTICATED)
            self._verify(self._candidate, "link-accept", self._transcript, accept.signature)
            self._open(self._candidate, self._transcript)
            return []
        raise MalformedMessage(f"frame type {kind} while the client waits for {self.state.value}")

    def _prove(self, proof: ServerProof) -> list[Send]:
        device = DeviceId(proof.device)
        signed = self._certificate_hash + self._nonce + proof.nonce + device
        self._verify(device, "link-server", signed, proof.signature)
        if device == self._keys.device:
            raise PeerIdentityMismatch("the peer answers with this device's own key", device=short(device))
        if self._expect is not None and device != self._expect:
            raise PeerIdentityMismatch(
                f"the peer is device {short(device)}, not the expected one", device=short(self._expect)
            )
        if self._recognise is not None and not self._recognise(device):
            raise PeerIdentityMismatch("the peer is a device that shares nothing with this one", device=short(device))
        self._candidate = device
        self._transcript = signed + self._keys.device
        self.state = State.VERDICT
        signature = self._keys.sign("link-client", self._transcript)
        return [Send(FrameType.CLIENT_PROOF, encode(ClientProof(self._keys.device, signature)))]


class ServerSession(_Session):
    """The side that was dialled."""

    def __init__(
        self,
        keys: DeviceKeys,
        certificate_hash: bytes,
        nonce: bytes,
        now: float,
        *,
        speaks_first: bool,
        match_tag: MatchTag,
        authorize: Authorize,
    ) -> None:
        """`certificate_hash` is of this side's certificate; `nonce` has 32 fresh random bytes.

        `match_tag(tag, certificate_hash, nonce)` tells whether a member made the tag; `authorize(device)` returns None
        to accept a proven device, otherwise the reason to refuse it ("busy", or any other word for unknown).
        """
        super().__init__(keys, certificate_hash, nonce, now, State.HELLO)
        self._speaks_first = speaks_first
        self._match_tag = match_tag
        self._authorize = authorize
        self._signed = b""
        self.refused = ""  # the reason, once a client was refused

    def _step(self, kind: int, body: bytes) -> list[Send]:
        if self.state is State.HELLO and kind == FrameType.HELLO:
            return self._answer(decode(Hello, body, FRAME_BYTES_MAX_UNAUTHENTICATED))
        if self.state is State.PROOF and kind == FrameType.CLIENT_PROOF:
            return self._judge(decode(ClientProof, body, FRAME_BYTES_MAX_UNAUTHENTICATED))
        raise MalformedMessage(f"frame type {kind} while the server waits for {self.state.value}")

    def _answer(self, hello: Hello) -> list[Send]:
        if hello.version != WIRE_VERSION:
            return self._refuse(Refusal.VERSION, f"wire version {hello.version}")
        known = len(hello.tag) == TAG_SIZE_BYTES and self._match_tag(hello.tag, self._certificate_hash, hello.nonce)
        if not (self._speaks_first or known):
            return self._refuse(Refusal.UNKNOWN_DEVICE, "no folder in common")
        self._signed = self._certificate_hash + hello.nonce + self._nonce + self._keys.device
        signature = self._keys.sign("link-server", self._signed)
        self.state = State.PROOF
        return [Send(FrameType.SERVER_PROOF, encode(ServerProof(self._nonce, self._keys.device, signature)))]

    def _judge(self, proof: ClientProof) -> list[Send]:
        device = DeviceId(proof.device)
        transcript = self._signed + device
        self._verify(device, "link-client", transcript, proof.signature)
        reason = "own key" if device == self._keys.device else self._authorize(device)
        if reason is not None:
            code = Refusal.BUSY if reason == "busy" else Refusal.UNKNOWN_DEVICE
            return self._refuse(code, reason)
        self._open(device, transcript)
        return [Send(FrameType.ACCEPT, encode(Accept(self._keys.sign("link-accept", transcript))))]

    def _refuse(self, code: Refusal, reason: str) -> list[Send]:
        # The refusal carries neither key nor signature: a stranger learns nothing about this device.
        self._close()
        self.refused = reason
        return [Send(FrameType.REFUSE, encode(Refuse(code)))]


def _refused(code: int) -> AccessError | LinkClosed | FormatUnsupported:
    if code == Refusal.BUSY:
        return LinkClosed("the peer has no room for another link", next_step="It is tried again later.")
    if code == Refusal.VERSION:
        return FormatUnsupported("the peer speaks another version of the protocol", next_step="Update both devices.")
    return NotAMember(
        "this peer does not know this device", next_step="Ask a member for an invitation: meshsync share."
    )
