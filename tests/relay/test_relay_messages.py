"""Bytes of the messages between device and relay (`docs/spec/relay.md` 2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.errors import MalformedMessage, MeshsyncError
from meshsync.ids import DeviceId, FolderId
from meshsync.metalog.record_log import LogRecord
from meshsync.wire import relay_messages as wire

ID = bytes(range(32))
ALL = [
    (wire.Attach(ID), "94c420" + ID.hex() + "c400c400c400"),
    (wire.CreateFolder(b"abc", ID), "92c403616263c420" + ID.hex()),
    (wire.Attached(b"head"), "91c40468656164"),
    (wire.Refused(wire.Code.STORAGE_FULL, "full"), "9204a466756c6c"),
    (wire.Append((LogRecord(1, b"x"),)), "91919201c40178"),
    (wire.AppendResult((wire.Appended(7, b"r"), wire.AlreadyThere(7)), b"h"), "9292930107c40172930207c400c40168"),
    (wire.AppendResult((wire.RecordRefused(wire.Code.BUSY, "x"),), b"h"), "929193030aa178c40168"),
    (wire.AppendResult((wire.MissingPast((ID,)),), b""), "9291920491c420" + ID.hex() + "c400"),
    (wire.AppendResult((wire.MissingBlobs((ID,)),), b""), "9291920591c420" + ID.hex() + "c400"),
    (wire.Read(1, 2, b""), "930102c400"),
    (wire.Page(1, (LogRecord(1, b"x"),), ID, b"h"), "9401919201c40178c420" + ID.hex() + "c40168"),
    (wire.Follow(5), "9205c400"),
    (wire.LogGrew(b"h"), "91c40168"),
    (wire.BlobsLost((b"b" * 32,)), "9191c420" + "62" * 32),
    (wire.ReadMembership(3), "9103"),
    (wire.MembershipPage((wire.MembershipRecord(1, b"x"),), True), "92919201c40178c3"),
    (wire.Offer((wire.Offered(ID, 9),)), "919192c420" + ID.hex() + "09"),
    (wire.Wanted((0, 2)), "91920002"),
    (wire.BlobUpload(0, b"x"), "9200c40178"),
    (wire.StoredBlobs(2, (1,)), "92029101"),
    (wire.Fetch((ID,)), "9191c420" + ID.hex()),
    (wire.BlobFrame(1, b"x"), "9201c40178"),
    (wire.BlobAbsent(1, wire.Absence.DAMAGED), "920102"),
    (wire.OpenSlot(7), "9107"),
    (wire.SlotOpened(), "90"),
    (wire.EnterSlot(7), "9107"),
    (wire.SlotEntered(), "90"),
    (wire.SlotData(b"x"), "91c40178"),
    (wire.ListFolders(ID), "91c420" + ID.hex()),
    (wire.FolderList((ID,)), "9191c420" + ID.hex()),
]
NUMBERS = {
    wire.Attach: 96, wire.CreateFolder: 97, wire.Attached: 98, wire.Refused: 99, wire.Append: 100,
    wire.AppendResult: 101, wire.Read: 102, wire.Page: 103, wire.Follow: 104, wire.LogGrew: 105, wire.Offer: 106,
    wire.Wanted: 107, wire.BlobUpload: 108, wire.StoredBlobs: 109, wire.Fetch: 110, wire.BlobFrame: 111,
    wire.BlobAbsent: 112, wire.ReadMembership: 113, wire.MembershipPage: 114, wire.OpenSlot: 115,
    wire.SlotOpened: 116, wire.EnterSlot: 117, wire.SlotEntered: 118, wire.SlotData: 119, wire.ListFolders: 124,
    wire.FolderList: 125, wire.BlobsLost: 126,
}  # fmt: skip


@pytest.mark.parametrize("message, golden", ALL, ids=lambda value: type(value).__name__)
def test_bytes_of_each_message(message: wire.Message, golden: str) -> None:
    kind, body = wire.pack(message)
    assert (kind, body.hex()) == (NUMBERS[type(message)], golden)
    assert wire.unpack(kind, body) == message


@given(kind=st.integers(90, 130), body=st.binary(max_size=200))
def test_junk_is_malformed_and_nothing_else(kind: int, body: bytes) -> None:
    try:
        message = wire.unpack(kind, body)
    except MalformedMessage:
        return
    assert wire.pack(message) == (kind, body)


@pytest.mark.parametrize("code", list(wire.Code))
def test_every_refusal_has_a_typed_error(code: wire.Code) -> None:
    assert isinstance(wire.refusal_error(wire.refused(code, "x" * 1000)), MeshsyncError)


def test_bytes_of_the_proofs() -> None:
    folder, relay, device = FolderId(b"f" * 32), DeviceId(b"r" * 32), DeviceId(b"d" * 32)
    assert wire.ticket_statement(folder, relay, device) == b"f" * 32 + b"r" * 32 + b"d" * 32
    proof = wire.creation_proof(b"s" * 16, relay, device, folder)
    assert proof.hex() == "4208e3ee3390eb38c6991641faed68a13d82bd76515d560bc5559f40de40dc20"
