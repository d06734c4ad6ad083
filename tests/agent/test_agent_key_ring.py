"""How a device comes by a folder's keys. Promises B9, B10."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.agent.key_ring import (
    device_label,
    keys_from_boxes,
    merged,
    open_label,
    open_name,
    pack_keys,
    seal_name,
    unpack_keys,
    with_history,
)
from meshsync.crypto.envelope import box
from meshsync.crypto.folder_keys import FolderKeys, commitment, pack_bundle, secret_commitment, wrap_epoch
from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import AccessError, AuthenticationFailed, CommitmentMismatch, MalformedMessage
from meshsync.ids import FolderId
from meshsync.metalog.membership import Membership, found
from meshsync.metalog.membership_entry import (
    Admit,
    Box,
    Change,
    Genesis,
    Invite,
    Rekey,
    WrappedKey,
    sign_change,
    sign_genesis,
)
from meshsync.roles import Role

ANNA, BEN, TICKET, STRANGER = (DeviceKeys(bytes([number]) * 64) for number in range(1, 5))
SECRET, KEYS = b"s" * 32, [bytes([0xE0 + number]) * 32 for number in range(4)]
EPHEMERAL = b"r" * 32


def bundle(epoch_key: bytes, secret: bytes = SECRET) -> bytes:
    epoch = commitment(epoch_key)
    return pack_bundle(FolderKeys(FolderId(bytes(32)), secret, {epoch: epoch_key}, epoch))


def boxed(to: DeviceKeys, content: bytes) -> bytes:
    return box(to.box_public, EPHEMERAL, content)


class Folder:
    """Anna's folder, with Ben as a writer by a ticket; `rekey` gives each of them the bundle that it is told to."""

    def __init__(self) -> None:
        self.key = KEYS[0]
        genesis = Genesis(
            1, 16384, 65536, 262144, bytes(32), ANNA.box_public, commitment(self.key), secret_commitment(SECRET),
            boxed(ANNA, bundle(self.key)),
        )  # fmt: skip
        self.membership: Membership = found(sign_genesis(ANNA, genesis))
        ticket = boxed(TICKET, bundle(self.key))
        self.add(ANNA, Invite(TICKET.device, Role.WRITER, 1, self.membership.epoch, ticket))
        self.add(BEN, Admit(TICKET.device, Role.WRITER, BEN.box_public), TICKET)

    def add(self, author: DeviceKeys, change: Change, ticket: DeviceKeys | None = None) -> None:
        now = self.membership
        self.membership = now.apply(sign_change(author, now.folder, now.head, now.count, change, ticket=ticket))

    def rekey(self, number: int, bens: bytes | None = None, wrapped: bytes | None = None) -> None:
        new, folder = KEYS[number], self.membership.folder
        boxes = [Box(ANNA.device, boxed(ANNA, bundle(new)))]
        boxes.append(Box(BEN.device, boxed(BEN, bundle(new)) if bens is None else bens))
        old = WrappedKey(self.membership.epoch, wrap_epoch(new, self.key, folder) if wrapped is None else wrapped)
        self.add(ANNA, Rekey(commitment(new), tuple(sorted(boxes)), (old,)))
        self.key = new

    def keys_of(self, device: DeviceKeys) -> FolderKeys:
        return keys_from_boxes(self.membership, device.device, device.box_secret)


def test_the_founder_and_the_bearer_of_a_ticket_hold_the_same_keys() -> None:
    folder = Folder()
    keys = folder.keys_of(ANNA)
    assert keys == folder.keys_of(TICKET) and keys.secret == SECRET and keys.current == commitment(KEYS[0])


def test_one_box_opens_the_history() -> None:
    folder = Folder()
    folder.rekey(1)
    folder.rekey(2)
    for device in (ANNA, BEN):
        keys = folder.keys_of(device)
        assert keys.current == commitment(KEYS[2]) == folder.membership.epoch
        assert keys.epochs == {commitment(key): key for key in KEYS[:3]}


def test_a_stranger_has_no_box() -> None:
    with pytest.raises(AccessError):
        Folder().keys_of(STRANGER)


def test_a_box_opens_for_its_device_only() -> None:
    folder = Folder()
    with pytest.raises(AuthenticationFailed):
        keys_from_boxes(folder.membership, ANNA.device, BEN.box_secret)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (boxed(BEN, bundle(KEYS[3])), CommitmentMismatch),
        (boxed(BEN, bundle(KEYS[1], b"t" * 32)), CommitmentMismatch),
        (boxed(BEN, b"\x02" + bundle(KEYS[1])[1:]), MalformedMessage),
        (boxed(BEN, b""), MalformedMessage),
        (boxed(ANNA, bundle(KEYS[1])), AuthenticationFailed),
        (b"junk", AuthenticationFailed),
    ],
    ids=["another epoch key", "another folder secret", "another form", "nothing", "for another", "junk"],
)
def test_an_owner_who_boxes_something_else_to_one_member_is_seen_by_that_member(
    content: bytes, error: type[Exception]
) -> None:
    folder = Folder()
    folder.rekey(1, bens=content)
    assert folder.keys_of(ANNA).current == commitment(KEYS[1])
    with pytest.raises(error):
        folder.keys_of(BEN)


def test_a_wrapped_key_that_is_not_the_epochs_is_seen() -> None:
    folder = Folder()
    folder.rekey(1, wrapped=wrap_epoch(KEYS[1], KEYS[3], folder.membership.folder))
    with pytest.raises(CommitmentMismatch):
        folder.keys_of(BEN)


def test_history_is_learnt_when_the_chain_grows() -> None:
    folder = Folder()
    first = folder.keys_of(ANNA)
    folder.rekey(1)
    newest = FolderKeys(first.folder, SECRET, {commitment(KEYS[1]): KEYS[1]}, commitment(KEYS[1]))
    assert with_history(newest, folder.membership) == folder.keys_of(ANNA)
    assert merged(first, newest) == folder.keys_of(ANNA)


class TestKept:
    def test_kept_keys_are_the_same_keys(self) -> None:
        folder = Folder()
        folder.rekey(1)
        assert unpack_keys(pack_keys(folder.keys_of(BEN))) == folder.keys_of(BEN)

    @given(st.data())
    def test_damage_is_noticed_or_changes_no_epoch_key(self, data: st.DataObject) -> None:
        keys = Folder().keys_of(ANNA)
        damaged = bytearray(pack_keys(keys))
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        try:
            read = unpack_keys(bytes(damaged))
        except (MalformedMessage, CommitmentMismatch):
            return
        assert read.epochs == keys.epochs


class TestNames:
    @given(st.text(max_size=60))
    def test_a_name_is_read_with_the_folders_secret(self, name: str) -> None:
        assert open_name(SECRET, seal_name(SECRET, name)) == name

    def test_a_name_that_does_not_open_is_empty(self) -> None:
        sealed = seal_name(SECRET, "Docs")
        assert open_name(b"t" * 32, sealed) == open_name(SECRET, sealed[:-1]) == open_name(SECRET, b"") == ""

    def test_a_long_name_is_cut(self) -> None:
        assert len(open_name(SECRET, seal_name(SECRET, "é" * 200))) <= 128

    def test_a_name_that_is_no_text_is_shown_as_well_as_it_can_be(self) -> None:
        assert open_name(SECRET, seal_name(SECRET, "caf\udce9")) == "caf?"


class TestLabels:
    @given(st.text(max_size=300), st.text(max_size=300))
    def test_a_device_tells_its_name_and_whose_it_is(self, name: str, person: str) -> None:
        label = device_label(name, person)
        shown, whose = open_label(SECRET, seal_name(SECRET, label))
        clean = name.replace("\0", "").encode(errors="replace")
        assert clean.startswith(shown.encode()) and len(shown.encode()) >= min(len(clean), 124)
        assert person.replace("\0", "").encode(errors="replace").startswith(whose.encode())

    def test_a_device_of_nobody_has_a_name_only(self) -> None:
        assert open_label(SECRET, seal_name(SECRET, device_label("laptop", ""))) == ("laptop", "")
        assert open_label(SECRET, b"") == ("", "")
        assert open_label(SECRET, seal_name(SECRET, device_label("laptop", "Anna"))) == ("laptop", "Anna")
