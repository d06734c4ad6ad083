"""A folder with named devices, built from fixed seeds: the only place in these tests that knows the constructors."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from meshsync.crypto.identity import DeviceKeys
from meshsync.ids import EpochId, FolderId, RecordId
from meshsync.metalog.entry import OpenedEntry, make_entry, make_envelope
from meshsync.metalog.fields import ChainHead, RelaySeen
from meshsync.metalog.membership import Membership, found
from meshsync.metalog.membership_entry import (
    CONSENT_SIGNATURE_KIND,
    Admit,
    Box,
    Change,
    Enrol,
    Genesis,
    Invite,
    OpenedMembership,
    Rekey,
    Remove,
    WrappedKey,
    consent_statement,
    sign_change,
    sign_genesis,
)
from meshsync.roles import Role

EXPIRES_S = 1_800_000_000
EPOCH = EpochId(bytes([0xE0]) * 32)
SECRET_ID = bytes([0x5E]) * 32


def device(number: int) -> DeviceKeys:
    """Return the keys of device `number`, below 256."""
    return DeviceKeys(bytes([number]) * 64)


ANNA, BEN, CARA, DORA, RELAY, TICKET = (device(number) for number in range(1, 7))


def epoch(number: int) -> EpochId:
    """Return the commitment of epoch `number`."""
    return EpochId(bytes([0xE0 + number]) * 32)


def genesis(owner: DeviceKeys = ANNA) -> OpenedMembership:
    """Return the genesis of the folder that `owner` founds."""
    bounds, nonce = (16384, 65536, 262144), bytes([7]) * 32
    change = Genesis(1, *bounds, nonce, owner.box_public, EPOCH, SECRET_ID, b"box", b"folder", b"device")
    return sign_genesis(owner, change)


FOLDER: FolderId = genesis().folder


class Folder:
    """A membership chain that grows entry by entry."""

    def __init__(self, membership: Membership | None = None) -> None:
        self.entries: list[OpenedMembership] = [] if membership else [genesis()]
        self.membership = membership or found(self.entries[0])

    def sign(self, author: DeviceKeys, change: Change, ticket: DeviceKeys | None = None) -> OpenedMembership:
        """Return the next entry, not applied."""
        now = self.membership
        return sign_change(author, now.folder, now.head, now.count, change, ticket=ticket)

    def add(
        self, author: DeviceKeys, change: Change, ticket: DeviceKeys | None = None, now_s: int | None = None
    ) -> OpenedMembership:
        """Append the next entry. Raises what the fold raises, with nothing appended."""
        entry = self.sign(author, change, ticket)
        self.membership = self.membership.apply(entry, now_s)
        self.entries.append(entry)
        return entry

    def invite(self, ticket: DeviceKeys, role: Role) -> Invite:
        """Return an invite under the current epoch."""
        return Invite(ticket.device, role, EXPIRES_S, self.membership.epoch, b"invite box" if role.may_read else b"")

    def enrolment(self, sheet: DeviceKeys, by: DeviceKeys = ANNA) -> Enrol:
        """Return the enrolment of `sheet`, which consents to one `by` that device."""
        statement = consent_statement(sheet.device, sheet.box_public, by.device)
        consent = sheet.sign(CONSENT_SIGNATURE_KIND, statement)
        return Enrol(sheet.device, self.membership.epoch, sheet.box_public, b"sheet box", consent, b"sheet name")

    def rekey(self, number: int, without: tuple[bytes, ...] = ()) -> Rekey:
        """Return a rekey to epoch `number` for every reader and open invite but those of `without`."""
        now = self.membership
        names = [name for name in now.members if now.may_read(name)]
        names += [name for name, invite in now.invites.items() if invite.role.may_read]
        boxes = tuple(Box(name, b"box " + name[:2]) for name in sorted(set(names) - set(without)))
        return Rekey(epoch(number), boxes, (WrappedKey(now.epoch, b"wrapped"),))

    def join(self, newcomer: DeviceKeys, role: Role, ticket: DeviceKeys = TICKET) -> None:
        """Invite and admit `newcomer`."""
        self.add(ANNA, self.invite(ticket, role))
        self.add(newcomer, Admit(ticket.device, role, newcomer.box_public, b"name"), ticket)

    def remove(self, keys: DeviceKeys, number: int, pins: tuple[ChainHead, ...] = ()) -> Remove:
        """Return the removal of `keys` with a rekey to epoch `number`."""
        return Remove(keys.device, pins, self.rekey(number, (keys.device,)))


def entry(
    author: DeviceKeys,
    after: OpenedEntry | None = None,
    seen: tuple[OpenedEntry, ...] = (),
    payload: bytes = b"sealed",
    under: EpochId = EPOCH,
    relay_seen: tuple[RelaySeen, ...] = (),
    knew: RecordId | None = None,
) -> OpenedEntry:
    """Return a signed entry of `author`, who `knew` the membership up to there (the genesis).

    Different payloads make different entries.
    """
    envelope = make_envelope(
        author,
        FOLDER,
        after=after.head if after else None,
        membership=knew or genesis().id,
        epoch=under,
        payload=payload,
        op_count=1,
        seen=tuple(item.head for item in seen),
        relay_seen=relay_seen,
    )
    return make_entry(author, envelope, payload)


def chain(author: DeviceKeys, length: int, after: OpenedEntry | None = None) -> list[OpenedEntry]:
    """Return `length` entries of `author`, each after the one before."""
    made: list[OpenedEntry] = []
    for index in range(length):
        made.append(entry(author, made[-1] if made else after, payload=b"sealed %d" % index))
    return made


def flips(data: bytes, stride: int = 1) -> Iterator[bytes]:
    """Yield `data` with one bit flipped, for each bit of every `stride`-th byte."""
    for at in range(0, len(data), stride):
        for bit in range(8):
            yield data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def refusals(open_it: Callable[[bytes], object], damaged: Iterator[bytes]) -> set[type[BaseException]]:
    """Return the types raised by `open_it` over all of `damaged`; `type(None)`'s place is taken by AssertionError."""
    raised: set[type[BaseException]] = set()
    for data in damaged:
        try:
            open_it(data)
        except Exception as error:  # noqa: BLE001  every type that comes out is what the test is about
            raised.add(type(error))
        else:
            raised.add(AssertionError)
    return raised
