"""docs/spec/wire.md 2: the proofs, without a network."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.codec.canonical import decode, encode
from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import (
    FormatUnsupported,
    LinkClosed,
    MalformedMessage,
    MeshsyncError,
    NotAMember,
    PeerIdentityMismatch,
    PeerTimeout,
)
from meshsync.ids import DeviceId, short
from meshsync.wire.session import (
    Accept,
    ClientProof,
    ClientSession,
    FrameType,
    Hello,
    Refusal,
    Refuse,
    Send,
    ServerProof,
    ServerSession,
    State,
    discovery_tag,
    tag_matches,
)

ANNE, BOB, EVE = (DeviceKeys(bytes([n]) * 64) for n in (1, 2, 3))
CERTIFICATE, OTHER_CERTIFICATE = b"c" * 32, b"d" * 32
FOLDER, OTHER_FOLDER = b"k" * 32, b"l" * 32


def client(
    keys: DeviceKeys = ANNE,
    certificate: bytes = CERTIFICATE,
    nonce: bytes = b"n" * 32,
    expect: DeviceId | None = BOB.device,
    key: bytes | None = FOLDER,
) -> ClientSession:
    return ClientSession(keys, certificate, nonce, 0.0, expect=expect, discovery_key=key)


@dataclass
class Door:
    """A server session and what it asked its owner."""

    keys: DeviceKeys = BOB
    certificate: bytes = CERTIFICATE
    nonce: bytes = b"m" * 32
    speaks_first: bool = False
    folders: tuple[bytes, ...] = (FOLDER,)
    answer: str | None = None
    asked: list[DeviceId] = field(default_factory=list)

    def session(self) -> ServerSession:
        return ServerSession(
            self.keys,
            self.certificate,
            self.nonce,
            0.0,
            speaks_first=self.speaks_first,
            match_tag=lambda tag, certificate, nonce: tag_matches(self.folders, tag, certificate, nonce),
            authorize=self.authorize,
        )

    def authorize(self, device: DeviceId) -> str | None:
        self.asked.append(device)
        return self.answer


def one(frames: list[Send]) -> tuple[int, bytes]:
    assert len(frames) == 1
    return frames[0].kind, frames[0].body


def talk(a: ClientSession, b: ServerSession) -> None:
    """Carry frames to and fro until nobody has anything to say."""
    to_server = a.start()
    while to_server:
        to_client = [answer for frame in to_server for answer in b.receive(frame.kind, frame.body)]
        to_server = [answer for frame in to_client for answer in a.receive(frame.kind, frame.body)]


class TestAgreement:
    def test_both_know_each_other_after_hello_proof_proof_accept(self) -> None:
        a, door = client(), Door()
        b = door.session()
        talk(a, b)
        assert (a.state, a.peer) == (State.OPEN, BOB.device)
        assert (b.state, b.peer) == (State.OPEN, ANNE.device)
        assert door.asked == [ANNE.device]

    def test_a_server_that_speaks_first_needs_no_tag(self) -> None:
        a, b = client(key=None), Door(speaks_first=True, folders=()).session()
        talk(a, b)
        assert a.state is b.state is State.OPEN

    def test_without_an_expected_device_whoever_answers_is_the_peer(self) -> None:
        a = client(expect=None)
        talk(a, Door().session())
        assert a.peer == BOB.device

    def test_the_bytes_are_those_of_the_specification(self) -> None:
        a, b = client(), Door().session()
        kind, hello = one(a.start())
        assert (kind, hello.hex()) == (1, "9301c420" + "6e" * 32 + "c410" + "e809fe6e30261381d3f9360f143a4689")
        kind, proof = one(b.receive(kind, hello))
        signed = CERTIFICATE + b"n" * 32 + b"m" * 32 + BOB.device
        assert (kind, proof) == (2, encode([b"m" * 32, BOB.device, BOB.sign("link-server", signed)]))
        kind, proof = one(a.receive(kind, proof))
        signed += ANNE.device
        assert (kind, proof) == (3, encode([ANNE.device, ANNE.sign("link-client", signed)]))
        kind, accept = one(b.receive(kind, proof))
        assert (kind, accept) == (4, encode([BOB.sign("link-accept", signed)]))


class TestSilence:
    @pytest.mark.parametrize("key", [None, OTHER_FOLDER])
    def test_a_stranger_gets_neither_key_nor_signature(self, key: bytes | None) -> None:
        door = Door()
        kind, body = one(door.session().receive(*one(client(key=key).start())))
        assert (kind, body) == (FrameType.REFUSE, encode(Refuse(Refusal.UNKNOWN_DEVICE)))
        assert door.asked == []

    def test_a_tag_serves_one_certificate_and_one_nonce(self) -> None:
        tag = discovery_tag(FOLDER, CERTIFICATE, b"n" * 32)
        assert tag_matches([OTHER_FOLDER, FOLDER], tag, CERTIFICATE, b"n" * 32)
        assert not tag_matches([FOLDER], tag, OTHER_CERTIFICATE, b"n" * 32)
        assert not tag_matches([FOLDER], tag, CERTIFICATE, b"o" * 32)

    def test_the_client_proves_nothing_to_another_device(self) -> None:
        a = client(expect=EVE.device)
        with pytest.raises(PeerIdentityMismatch):
            a.receive(*one(Door().session().receive(*one(a.start()))))
        assert a.state is State.CLOSED and a.peer is None

    def test_the_client_proves_nothing_to_a_device_that_it_does_not_recognise(self) -> None:
        a = ClientSession(ANNE, CERTIFICATE, b"n" * 32, 0.0, discovery_key=FOLDER, recognise=lambda device: False)
        with pytest.raises(PeerIdentityMismatch) as caught:
            a.receive(*one(Door().session().receive(*one(a.start()))))
        assert caught.value.device == short(BOB.device) and a.state is State.CLOSED and a.peer is None


class TestForgery:
    def test_a_proof_for_another_certificate_is_refused_by_the_client(self) -> None:
        a = client()
        with pytest.raises(PeerIdentityMismatch):
            a.receive(*one(Door(speaks_first=True, certificate=OTHER_CERTIFICATE).session().receive(*one(a.start()))))

    def test_a_proof_for_another_certificate_is_refused_by_the_server(self) -> None:
        """A man in the middle with a certificate of its own relays every frame; it cannot change the hash."""
        a, b = client(certificate=OTHER_CERTIFICATE, key=None), Door(speaks_first=True).session()
        with pytest.raises(PeerIdentityMismatch):
            talk(a, b)
        signed = CERTIFICATE + b"n" * 32 + b"m" * 32 + BOB.device + ANNE.device
        forged = ClientProof(ANNE.device, ANNE.sign("link-client", OTHER_CERTIFICATE + signed[32:]))
        with pytest.raises(PeerIdentityMismatch):
            b.receive(FrameType.CLIENT_PROOF, encode(forged))
        assert b.state is State.CLOSED

    def test_a_replayed_server_proof_is_refused(self) -> None:
        recorded = one(Door().session().receive(*one(client().start())))
        with pytest.raises(PeerIdentityMismatch):
            client(nonce=b"x" * 32).receive(*recorded)

    def test_a_replayed_client_proof_is_refused(self) -> None:
        a = client()
        recorded = one(a.receive(*one(Door().session().receive(*one(a.start())))))
        b = Door(nonce=b"y" * 32).session()
        b.receive(*one(client().start()))
        with pytest.raises(PeerIdentityMismatch):
            b.receive(*recorded)

    def test_a_server_proof_is_no_client_proof(self) -> None:
        """Reflection: what Bob signed as a server does not make its sender Bob as a client."""
        b = Door().session()
        proof = decode(ServerProof, one(b.receive(*one(client().start())))[1], 4096)
        with pytest.raises(PeerIdentityMismatch):
            b.receive(FrameType.CLIENT_PROOF, encode(ClientProof(BOB.device, proof.signature)))

    def test_a_device_does_not_take_itself_for_a_peer(self) -> None:
        a = client(keys=BOB, expect=None)
        with pytest.raises(PeerIdentityMismatch):
            a.receive(*one(Door().session().receive(*one(a.start()))))

    def test_an_accept_by_anyone_but_the_proven_server_is_refused(self) -> None:
        a = client()
        a.receive(*one(Door().session().receive(*one(a.start()))))
        signed = CERTIFICATE + b"n" * 32 + b"m" * 32 + BOB.device + ANNE.device
        with pytest.raises(PeerIdentityMismatch):
            a.receive(FrameType.ACCEPT, encode(Accept(EVE.sign("link-accept", signed))))

    @given(st.integers(0, 10_000), st.integers(1, 255))
    def test_any_flipped_byte_in_a_proof_is_refused(self, place: int, flip: int) -> None:
        a = client()
        kind, body = one(Door().session().receive(*one(a.start())))
        altered = bytearray(body)
        altered[place % len(altered)] ^= flip
        with pytest.raises((PeerIdentityMismatch, MalformedMessage)):
            a.receive(kind, bytes(altered))
        assert a.peer is None


class TestRefusal:
    def test_an_unknown_client_is_told_so(self) -> None:
        a, b = client(), Door(answer="unknown").session()
        with pytest.raises(NotAMember, match="this peer does not know this device"):
            talk(a, b)
        assert (b.state, b.peer, b.refused) == (State.CLOSED, None, "unknown")

    def test_a_busy_server_asks_to_come_back(self) -> None:
        with pytest.raises(LinkClosed):
            talk(client(), Door(answer="busy").session())

    def test_another_version_is_refused_with_a_word(self) -> None:
        hello = encode(Hello(2, b"n" * 32, b""))
        frame = one(Door(speaks_first=True).session().receive(FrameType.HELLO, hello))
        with pytest.raises(FormatUnsupported):
            client().receive(*frame)


class TestOrder:
    @pytest.mark.parametrize("kind", [*range(2, 8), 255])
    def test_a_server_reads_nothing_but_a_hello_first(self, kind: int) -> None:
        b = Door().session()
        with pytest.raises(MalformedMessage):
            b.receive(kind, b"")
        assert b.state is State.CLOSED

    @pytest.mark.parametrize("kind", [1, 3, 4, 6, 255])
    def test_a_client_reads_nothing_but_a_proof_or_a_refusal_first(self, kind: int) -> None:
        with pytest.raises(MalformedMessage):
            client().receive(kind, b"")

    def test_nothing_is_read_after_the_end(self) -> None:
        a, b = client(), Door().session()
        talk(a, b)
        for session in (a, b):
            with pytest.raises(MalformedMessage):
                session.receive(FrameType.HELLO, b"")

    @given(st.integers(0, 255), st.binary(max_size=300))
    def test_arbitrary_frames_raise_only_typed_errors(self, kind: int, body: bytes) -> None:
        for session in (client(), Door(speaks_first=True).session()):
            try:
                session.receive(kind, body)
            except MeshsyncError:
                assert session.state is State.CLOSED

    def test_ten_seconds_are_enough(self) -> None:
        for session in (client(), Door().session()):
            session.wake(9.9)
            with pytest.raises(PeerTimeout):
                session.wake(10.0)
            assert session.state is State.CLOSED
            session.wake(99.0)
