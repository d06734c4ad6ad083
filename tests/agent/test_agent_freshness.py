"""What counts as a second source for a folder that was recovered from a relay alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from meshsync.agent.freshness import Freshness
from meshsync.agent.replica import Replica
from meshsync.crypto.identity import DeviceKeys
from meshsync.ids import EntryId, RecordId
from meshsync.index.database import Database
from meshsync.index.log_rows import EntryRow
from meshsync.metalog.chain import ChainSet
from meshsync.metalog.entry import OpenedEntry
from meshsync.metalog.fields import ChainHead
from meshsync.metalog.membership import Membership
from meshsync.metalog.membership_entry import Admit, OpenedMembership
from meshsync.metalog.membership_history import tell
from meshsync.roles import Role
from meshsync.wire.peer_messages import Heads
from tests.metalog.log_scene import ANNA, BEN, CARA, DORA, FOLDER, Folder, device, entry


@dataclass
class Log:
    """What `Freshness` asks of a replica, over a chain and entries of the scene."""

    device: DeviceKeys
    scene: Folder
    chains: ChainSet = field(default_factory=ChainSet)
    entries: dict[EntryId, OpenedEntry] = field(default_factory=dict)

    @property
    def membership(self) -> Membership:
        return self.scene.membership

    @property
    def membership_chain(self) -> list[OpenedMembership]:
        return self.scene.entries

    @property
    def log_rows(self) -> Log:
        return self

    def entry(self, name: EntryId) -> EntryRow:
        one = self.entries[name]
        return EntryRow(one.id, one.chain, one.device, one.envelope.seq, 1, b"", one.signed.envelope, b"", b"")

    def take(self, one: OpenedEntry) -> None:
        self.chains.accept(one)
        self.entries[one.id] = one

    def heads(self) -> Heads:
        return Heads(len(self.scene.entries), self.membership.head, tuple(self.chains.heads()), ())

    def has_membership(self, head: RecordId) -> bool:
        return any(one.id == head for one in self.scene.entries)

    def lacks(self, heads: tuple[ChainHead, ...]) -> bool:
        return any(head.entry not in self.chains for head in heads)


class Recovered:
    """CARA was let in by the sheet DORA into the folder of ANNA and BEN; so was one more device."""

    def __init__(self, path: Path) -> None:
        scene = Folder()
        scene.join(BEN, Role.WRITER)
        scene.add(ANNA, scene.enrolment(DORA))
        self.before = scene.membership.head
        self.twin = device(50)
        for number, keys in ((60, self.twin), (61, CARA)):
            ticket = device(number)
            scene.add(DORA, scene.invite(ticket, Role.OWNER))
            scene.add(keys, Admit(ticket.device, Role.OWNER, keys.box_public, b"name"), ticket)
        self.log = Log(CARA, scene)
        self.database = Database(path)
        self.fresh = self.open()

    def open(self) -> Freshness:
        return Freshness(self.database, cast(Replica, self.log), lambda: tell(self.log.scene.entries))

    def hears(self, who: DeviceKeys, heads: Heads, relays: int = 1) -> bool:
        """Return whether it is unverified after `who` told `heads`."""
        self.fresh.hear([(who.device, heads)], relays)
        assert self.open().unverified == self.fresh.unverified  # a restart changes nothing
        return self.fresh.unverified


@pytest.fixture
def recovered(tmp_path: Path) -> Recovered:
    made = Recovered(tmp_path / "index")
    made.log.take(entry(ANNA))
    assert made.fresh.unverified
    return made


def test_a_device_that_came_otherwise_is_not_asked(recovered: Recovered) -> None:
    log = Log(BEN, recovered.log.scene)
    assert not Freshness(recovered.database, cast(Replica, log), lambda: tell(log.scene.entries)).unverified


def test_a_member_that_has_nothing_that_is_lacking_here_agrees(recovered: Recovered) -> None:
    assert not recovered.hears(BEN, recovered.log.heads())


def test_one_that_is_behind_agrees_too(recovered: Recovered) -> None:
    heads = Heads(1, FOLDER, (entry(ANNA).head,), ())
    assert not recovered.hears(BEN, heads)


def test_one_with_an_entry_that_is_lacking_here_does_not_until_it_is_here(recovered: Recovered) -> None:
    news = entry(BEN)
    heads = Heads(1, FOLDER, (entry(ANNA).head, news.head), ())
    assert recovered.hears(BEN, heads)
    recovered.log.take(news)
    assert not recovered.hears(BEN, heads)


def test_one_with_an_unknown_membership_does_not(recovered: Recovered) -> None:
    assert recovered.hears(BEN, Heads(9, RecordId(b"?" * 32), (entry(ANNA).head,), ()))


def test_a_newcomer_that_holds_nothing_says_nothing(recovered: Recovered) -> None:
    assert recovered.hears(BEN, Heads(1, FOLDER, (), ()))


@pytest.mark.parametrize("who", ["another recovered one", "a stranger", "itself"])
def test_who_knows_no_more_does_not_count(recovered: Recovered, who: str) -> None:
    keys = {"another recovered one": recovered.twin, "a stranger": device(99), "itself": CARA}[who]
    assert recovered.hears(keys, recovered.log.heads(), relays=1)


def test_two_relays_that_were_read_to_the_end_agree_and_one_does_not(recovered: Recovered) -> None:
    recovered.fresh.hear([], 1)
    assert recovered.fresh.unverified
    recovered.fresh.hear([], 2)
    assert not recovered.open().unverified


@pytest.mark.parametrize("knew", [False, True])
def test_an_entry_counts_if_its_author_knew_of_this_device(recovered: Recovered, knew: bool) -> None:
    log = recovered.log
    log.take(entry(BEN, knew=log.membership.head if knew else recovered.before))
    recovered.fresh.hear([], 1)
    assert recovered.fresh.unverified != knew


def test_what_another_recovered_device_signed_does_not_count(recovered: Recovered) -> None:
    recovered.log.take(entry(recovered.twin, knew=recovered.log.membership.head))
    recovered.fresh.hear([], 1)
    assert recovered.fresh.unverified
