"""What reaches a device or relay over a link: packets before there is one, frames, proofs, messages, codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from meshsync.codec.canonical import decode
from meshsync.content.code import make_code, parse_code
from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import (
    AccessError,
    CodeInvalid,
    FormatUnsupported,
    LinkClosed,
    MalformedMessage,
    PeerIdentityMismatch,
    PeerOverran,
)
from meshsync.limits import FRAME_BYTES_MAX, FRAME_BYTES_MAX_UNAUTHENTICATED
from meshsync.transport.packets import Initial, RetryTokens, destination_id, encode_retry, parse_initial
from meshsync.wire import peer_messages, relay_messages
from meshsync.wire.code_exchange import InviterRun, NewcomerRun, relayed_channel
from meshsync.wire.frames import FrameDecoder, encode_frame
from meshsync.wire.peer_messages import CodeAnswer, CodeAsk, CodeOffer, CodeTicket
from meshsync.wire.session import ClientSession, Send, ServerSession
from tests.fuzz.loose import items, loose, packed
from tests.fuzz.target import Target

ANNE, BOB = DeviceKeys(b"a" * 64), DeviceKeys(b"b" * 64)
CERTIFICATE, KEY = b"c" * 32, b"k" * 32
RELAY = relayed_channel(DeviceKeys(b"r" * 64).device)
PASSWORD = b"canyon ribbon orbit"
Id, Signature = b"i" * 32, b"s" * 64


# --- packets and frames


def _packets(data: bytes) -> object:
    initial = parse_initial(data)
    if initial is not None:
        assert len(encode_retry(initial, b"i" * 8, b"t" * 60)) < len(data)  # nobody can have others flooded
        RetryTokens(KEY).check(("127.0.0.1", 4433), initial.destination, initial.token, 5.0)
    return destination_id(data)


def _initial(token: bytes = b"") -> bytes:
    head = b"\xc0\0\0\0\x01\x08" + b"d" * 8 + b"\x08" + b"s" * 8
    return (head + (0x4000 | len(token)).to_bytes(2, "big") + token).ljust(1200, b"\0")


def _token() -> bytes:
    return RetryTokens(KEY).make(("127.0.0.1", 4433), b"o" * 8, b"d" * 8, 4.0)


def _frames(data: bytes) -> object:
    """Frames must not depend on how the stream was cut into pieces."""
    step = 1 + (data[0] % 7 if data else 0)
    pieces = [data[at : at + step] for at in range(0, min(len(data), 20_000), step)]
    cut: list[tuple[int, bytes]] = []
    decoder = FrameDecoder(1 << 16)
    for piece in pieces:
        cut += decoder.feed(piece)
    assert cut == FrameDecoder(1 << 16).feed(b"".join(pieces))
    return cut


def _stream(frames: list[Send]) -> bytes:
    return b"".join(encode_frame(frame.kind, frame.body) for frame in frames)


# --- proofs


def _client() -> ClientSession:
    return ClientSession(ANNE, CERTIFICATE, b"n" * 32, 0.0, expect=BOB.device, discovery_key=KEY)


def _server() -> ServerSession:
    return ServerSession(
        BOB, CERTIFICATE, b"m" * 32, 0.0, speaks_first=True, match_tag=lambda *_: True, authorize=lambda _: None
    )


def _session(make: Callable[[], ClientSession | ServerSession]) -> Callable[[bytes], object]:
    def parse(data: bytes) -> object:
        session = make()
        if isinstance(session, ClientSession):
            session.start()
        for kind, body in FrameDecoder(FRAME_BYTES_MAX_UNAUTHENTICATED).feed(data):
            session.receive(kind, body)
        assert session.peer in (None, ANNE.device, BOB.device)
        return session.state

    return parse


def _talk() -> tuple[bytes, bytes]:
    """Return what the client and what the server says on a link that succeeds."""
    client, server = _client(), _server()
    hello = client.start()
    proof = server.receive(hello[0].kind, hello[0].body)
    answer = client.receive(proof[0].kind, proof[0].body)
    accept = server.receive(answer[0].kind, answer[0].body)
    client.receive(accept[0].kind, accept[0].body)
    assert client.peer == BOB.device
    return _stream(hello + answer), _stream(proof + accept)


# --- messages


def _peer_message(data: bytes) -> object:
    kind, body = (data or b"\0")[0], data[1:]
    message = peer_messages.unpack(kind, body)
    assert peer_messages.pack(message) == (kind, body)
    return message


def _relay_message(data: bytes) -> object:
    kind, body = (data or b"\0")[0], data[1:]
    message = relay_messages.unpack(kind, body)
    assert relay_messages.pack(message) == (kind, body)
    if isinstance(message, relay_messages.Refused):
        str(relay_messages.refusal_error(message))
    return message


def _peer_stream(data: bytes) -> object:
    return [peer_messages.unpack(kind, body) for kind, body in FrameDecoder(FRAME_BYTES_MAX).feed(data)]


def _relay_stream(data: bytes) -> object:
    return [relay_messages.unpack(kind, body) for kind, body in FrameDecoder(FRAME_BYTES_MAX).feed(data)]


def _peer_samples() -> Iterator[peer_messages.Message]:
    heads = (peer_messages.ChainHead(Id, 7, b"e" * 32),)
    want = peer_messages.WantItem(Id, 1, 5, b"p" * 16)
    yield peer_messages.FollowLog(Id)
    yield peer_messages.FollowRefused("why")
    yield peer_messages.Heads(3, Id, heads, heads, (peer_messages.RelayHeadSeen(b"head"),))
    yield peer_messages.GetMembership(2)
    yield peer_messages.MembershipPage(2, (b"entry", b"entry"))
    yield peer_messages.GetEntries(heads, 1 << 20)
    yield peer_messages.EntriesPage((b"entry",), True)
    yield peer_messages.OpenChunks(Id)
    yield peer_messages.Want((want, want))
    yield peer_messages.ChunkFrame(1, 0, Id, b"sealed")
    yield peer_messages.ChunkAbsent(1)
    yield peer_messages.PairRequest(Id, Id, Signature)
    yield peer_messages.PairRefused("why")
    yield peer_messages.PairAdmit(b"entry")
    yield peer_messages.PairAccepted(9)
    yield CodeAsk(7, Id, Id)
    yield CodeOffer(Id, Id, Id, Signature)
    yield CodeAnswer(Id, Signature, Signature)
    yield CodeTicket(Signature, b"sealed")
    yield peer_messages.CodeRefused()


def _relay_samples() -> Iterator[relay_messages.Message]:
    record = relay_messages.LogRecord(2, b"record")
    outcomes = (
        relay_messages.Appended(4, b"receipt"),
        relay_messages.AlreadyThere(4),
        relay_messages.RecordRefused(relay_messages.Code.BUSY, "later"),
        relay_messages.MissingPast((Id,)),
        relay_messages.MissingBlobs((Id, Id)),
    )
    yield relay_messages.Attach(Id, Id, Id, Signature)
    yield relay_messages.CreateFolder(b"genesis", Id)
    yield relay_messages.Attached(b"head")
    yield relay_messages.Refused(relay_messages.Code.CONFLICT, "why")
    yield relay_messages.Append((record, record))
    yield relay_messages.AppendResult(outcomes, b"head")
    yield relay_messages.Read(1, 5, Id)
    yield relay_messages.Page(1, (record,), Id, b"head")
    yield relay_messages.Follow(3, Id)
    yield relay_messages.LogGrew(b"head")
    yield relay_messages.BlobsLost((b"b" * 32,))
    yield relay_messages.ReadMembership(1)
    yield relay_messages.MembershipPage((relay_messages.MembershipRecord(1, b"entry"),), True)
    yield relay_messages.Offer((relay_messages.Offered(Id, 5),))
    yield relay_messages.Wanted((0, 1))
    yield relay_messages.BlobUpload(0, b"blob")
    yield relay_messages.StoredBlobs(1, (0,))
    yield relay_messages.Fetch((Id, Id))
    yield relay_messages.BlobFrame(0, b"blob")
    yield relay_messages.BlobAbsent(0, relay_messages.Absence.LATER)
    yield relay_messages.OpenSlot(7)
    yield relay_messages.SlotOpened()
    yield relay_messages.EnterSlot(7)
    yield relay_messages.SlotEntered()
    yield relay_messages.SlotData(b"data")


# --- codes


def _inviter() -> InviterRun:
    return InviterRun(ANNE, 7, PASSWORD, RELAY, b"n" * 32, b"x" * 32)


def _newcomer() -> NewcomerRun:
    return NewcomerRun(BOB, 7, PASSWORD, RELAY, b"m" * 32, b"y" * 32)


def _as(kind: type[msgspec.Struct], value: object) -> object:
    return decode(kind, packed(value), FRAME_BYTES_MAX)


def _code_inviter(data: bytes) -> object:
    first, second = items(loose(data), list, list)
    run = _inviter()
    run.offer(_as(CodeAsk, first))  # type: ignore[arg-type]
    return run.judge(_as(CodeAnswer, second))  # type: ignore[arg-type]


def _code_newcomer(data: bytes) -> object:
    first, second = items(loose(data), list, list)
    run = _newcomer()
    run.ask()
    run.answer(_as(CodeOffer, first))  # type: ignore[arg-type]
    return run.open(_as(CodeTicket, second))  # type: ignore[arg-type]


def _code_talk() -> tuple[bytes, bytes]:
    """Return what the newcomer and what the inviting device says in an exchange that succeeds."""
    inviter, newcomer = _inviter(), _newcomer()
    ask = newcomer.ask()
    offer = inviter.offer(ask)
    answer = newcomer.answer(offer)
    inviter.judge(answer)
    ticket = inviter.ticket("meshsync1ticket")
    return msgspec.msgpack.encode([ask, answer]), msgspec.msgpack.encode([offer, ticket])


def _code(data: bytes) -> object:
    code = parse_code(data.decode("utf-8", "surrogateescape"))
    assert parse_code(code.text) == code
    return code


_SAID, _ANSWERED = _talk()
_CODE_SAID, _CODE_ANSWERED = _code_talk()
_PEER = tuple(bytes([kind]) + body for kind, body in map(peer_messages.pack, _peer_samples()))
_RELAY = tuple(bytes([kind]) + body for kind, body in map(relay_messages.pack, _relay_samples()))
_PROOF_ERRORS = (
    MalformedMessage,
    PeerIdentityMismatch,
    AccessError,
    LinkClosed,
    FormatUnsupported,
    PeerOverran,
)
_CODE_ERRORS = (MalformedMessage, PeerIdentityMismatch, CodeInvalid)
assert isinstance(parse_initial(_initial()), Initial)

TARGETS = (
    Target("packets", _packets, (MalformedMessage,), (_initial(), _initial(_token()), b"\x40" + bytes(30))),
    Target("frames", _frames, (MalformedMessage, PeerOverran), (_SAID, _ANSWERED, b"")),
    Target("session-server", _session(_server), _PROOF_ERRORS, (_SAID,)),
    Target("session-client", _session(_client), _PROOF_ERRORS, (_ANSWERED,)),
    Target("peer-message", _peer_message, (MalformedMessage,), _PEER),
    Target("relay-message", _relay_message, (MalformedMessage,), _RELAY),
    Target("peer-stream", _peer_stream, (MalformedMessage, PeerOverran),
           (b"".join(encode_frame(data[0], data[1:]) for data in _PEER),)),
    Target("relay-stream", _relay_stream, (MalformedMessage, PeerOverran),
           (b"".join(encode_frame(data[0], data[1:]) for data in _RELAY),)),
    Target("code", _code, (CodeInvalid,), (make_code(7, b"random").text.encode(), b"12 Canyon-ribb orbit")),
    Target("code-inviter", _code_inviter, _CODE_ERRORS, (_CODE_SAID,)),
    Target("code-newcomer", _code_newcomer, _CODE_ERRORS, (_CODE_ANSWERED,)),
)  # fmt: skip
