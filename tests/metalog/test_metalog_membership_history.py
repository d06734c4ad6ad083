"""What a membership chain tells of those who left, of who invited whom, and of who still holds the key."""

from __future__ import annotations

import pytest

from meshsync.crypto.envelope import box
from meshsync.crypto.folder_keys import FolderKeys, commitment, pack_bundle, secret_commitment, wrap_epoch
from meshsync.crypto.identity import DeviceKeys
from meshsync.ids import FolderId
from meshsync.limits import SUITE
from meshsync.metalog.membership import replay
from meshsync.metalog.membership_entry import (
    Admit,
    Box,
    Change,
    ChangeRole,
    Genesis,
    Invite,
    OpenedMembership,
    Rekey,
    Remove,
    WrappedKey,
    sign_change,
    sign_genesis,
)
from meshsync.metalog.membership_history import Told, tell
from meshsync.roles import Role

ANNA, BEN, ROB = (DeviceKeys(bytes([number]) * 64) for number in (1, 2, 3))
KEYS = [bytes([number]) * 32 for number in range(0x30, 0x40)]


class Chain:
    """A membership chain founded by Anna, whose entries are all accepted."""

    def __init__(self) -> None:
        bundle = pack_bundle(
            FolderKeys(FolderId(bytes(32)), b"s" * 32, {commitment(KEYS[0]): KEYS[0]}, commitment(KEYS[0]))
        )
        genesis = Genesis(
            suite=SUITE,
            chunk_min=64,
            chunk_mean=256,
            chunk_max=1024,
            nonce=bytes(32),
            box_public=ANNA.box_public,
            epoch=commitment(KEYS[0]),
            secret=secret_commitment(b"s" * 32),
            box=box(ANNA.box_public, b"e" * 32, bundle),
            device_name=b"anna",
        )
        self.entries: list[OpenedMembership] = [sign_genesis(ANNA, genesis)]
        self.epochs = 1

    def add(self, author: DeviceKeys, change: Change, ticket: DeviceKeys | None = None) -> None:
        now = replay(self.entries, self.entries[0].folder)
        entry = sign_change(author, now.folder, now.head, now.seq + 1, change, ticket=ticket)
        now.apply(entry)
        self.entries.append(entry)

    def admit(self, owner: DeviceKeys, device: DeviceKeys, role: Role = Role.WRITER) -> None:
        ticket = DeviceKeys(bytes([100 + len(self.entries)]) * 64)
        epoch = replay(self.entries, self.entries[0].folder).epoch
        self.add(owner, Invite(ticket.device, role, 1 << 40, epoch, b"box" if role.may_read else b""))
        self.add(device, Admit(ticket.device, role, device.box_public, b"name"), ticket)

    def rekey(self, *without: DeviceKeys) -> Rekey:
        now = replay(self.entries, self.entries[0].folder)
        gone = {keys.device for keys in without}
        boxes = [Box(device, b"box") for device in sorted(now.members) if now.may_read(device) and device not in gone]
        new = KEYS[self.epochs]
        self.epochs += 1
        return Rekey(commitment(new), tuple(boxes), (WrappedKey(now.epoch, wrap_epoch(new, KEYS[0], now.folder)),))

    @property
    def told(self) -> Told:
        return tell(self.entries)


@pytest.fixture
def chain() -> Chain:
    made = Chain()
    made.admit(ANNA, BEN)
    made.admit(ANNA, ROB)
    return made


def test_who_invited_whom(chain: Chain) -> None:
    chain.add(ANNA, ChangeRole(BEN.device, Role.OWNER))
    cem = DeviceKeys(b"c" * 64)
    chain.admit(BEN, cem, Role.READER)
    assert chain.told.invited_by == {BEN.device: ANNA.device, ROB.device: ANNA.device, cem.device: BEN.device}
    assert chain.told.departures == {} and not chain.told.key_is_due


def test_a_removal_tells_by_whom_and_gives_a_new_key(chain: Chain) -> None:
    chain.add(ANNA, Remove(ROB.device, (), chain.rekey(ROB)))
    gone = chain.told.departures[ROB.device]
    assert (gone.by, gone.left, gone.role, gone.seq) == (ANNA.device, False, Role.WRITER, len(chain.entries) - 1)
    assert not chain.told.key_is_due and len(chain.told.epochs) == 2


def test_whoever_leaves_holds_the_key_until_an_owner_changes_it(chain: Chain) -> None:
    chain.add(ROB, Remove(ROB.device, (), None))
    assert chain.told.departures[ROB.device].left and chain.told.key_is_due
    chain.add(ANNA, chain.rekey())
    assert not chain.told.key_is_due


def test_a_role_that_reads_no_more_makes_a_new_key_due(chain: Chain) -> None:
    chain.add(ANNA, ChangeRole(ROB.device, Role.READER))
    assert not chain.told.key_is_due
    chain.add(ANNA, ChangeRole(ROB.device, Role.BACKUP))
    assert chain.told.key_is_due
    chain.add(ANNA, chain.rekey())
    chain.add(ANNA, ChangeRole(ROB.device, Role.READER))
    assert chain.told.key_is_due, "it was not given the present key"


def test_who_comes_back_is_gone_no_more(chain: Chain) -> None:
    chain.add(ANNA, Remove(ROB.device, (), chain.rekey(ROB)))
    chain.admit(ANNA, ROB)
    assert chain.told.departures == {} and not chain.told.key_is_due
