"""What two members say to each other: every message is read as it was written, and nothing out of bounds is."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync import limits
from meshsync.codec.canonical import encode
from meshsync.errors import MalformedMessage
from meshsync.ids import ChainId, EntryId
from meshsync.metalog.fields import ChainHead
from meshsync.wire import peer_messages as wire

ID = bytes(range(32))
HEAD = ChainHead(ChainId(ID), 7, EntryId(ID))
MESSAGES: list[wire.Message] = [
    wire.FollowLog(ID),
    wire.FollowRefused("not shared"),
    wire.Heads(limits.COUNTER_MAX, ID, (HEAD,), (), (wire.RelayHeadSeen(b"signed"),)),
    wire.GetMembership(0),
    wire.MembershipPage(1, (b"entry",)),
    wire.GetEntries((HEAD,), limits.RECORDS_PAGE_BYTES_MAX),
    wire.EntriesPage((b"entry",), True),
    wire.OpenChunks(ID),
    wire.Want((wire.WantItem(ID, 1, 5, b"pieces"),)),
    wire.ChunkFrame(0, 1, ID, b"sealed"),
    wire.ChunkAbsent(3),
    wire.PairRequest(ID, ID, bytes(64)),
    wire.PairRefused("used"),
    wire.PairAdmit(b"entry"),
    wire.PairAccepted(9),
    wire.CodeAsk(limits.CODE_NUMBER_MAX, ID, ID),
    wire.CodeOffer(ID, ID, ID, bytes(64)),
    wire.CodeAnswer(ID, bytes(64), bytes(64)),
    wire.CodeTicket(bytes(64), b"sealed"),
    wire.CodeRefused(),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_is_read_as_it_was_written(message: wire.Message) -> None:
    assert wire.unpack(*wire.pack(message)) == message


def test_every_message_is_among_them() -> None:
    assert {type(message) for message in MESSAGES} == set(wire.Message.__subclasses__())


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (0, ()),
        (wire.GetMembership.TYPE, (-1,)),
        (wire.GetMembership.TYPE, (1 << 63,)),
        (wire.FollowLog.TYPE, (ID[:31],)),
        (wire.FollowLog.TYPE, (ID, 0)),
        (wire.ChunkAbsent.TYPE, (limits.WANT_ITEMS_MAX,)),
        (wire.ChunkFrame.TYPE, (0, 2, ID, b"")),
        (wire.ChunkFrame.TYPE, (0, 0, ID, bytes(limits.BLOB_SIZE_BYTES_MAX + 1))),
        (wire.Want.TYPE, ([(ID, 1, limits.CHUNK_SIZE_BYTES_MAX + 1, b"")],)),
        (wire.Want.TYPE, ([(ID, 1, 5, b"")] * (limits.WANT_ITEMS_MAX + 1),)),
    ],
)
def test_what_is_out_of_bounds_is_refused(kind: int, body: object) -> None:
    with pytest.raises(MalformedMessage):
        wire.unpack(kind, encode(body))


@given(st.sampled_from(MESSAGES), st.binary(max_size=60))
def test_junk_never_crashes(message: wire.Message, junk: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        wire.unpack(message.TYPE, junk)
