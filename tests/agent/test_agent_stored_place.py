"""A stored record counts by the membership at its place in the relay's log, however much later it is read."""

from __future__ import annotations

import pytest

from meshsync.crypto.identity import DeviceKeys
from meshsync.ids import BlobId, RecordId
from meshsync.metalog.receipt import make_receipt
from meshsync.metalog.record_log import LogRecord, RecordKind, next_head, record_id
from meshsync.metalog.stored import make_stored, stored_id
from meshsync.roles import Role
from relay.drivers.base import Row
from tests.support.relayed_mesh import RELAY_FIRST, RelayedMesh, live

BODY = bytes(range(256)) * 8
NEWCOMER = 3


@pytest.mark.parametrize("loses", ["membership", "every right"])
def test_a_newcomer_gets_what_a_device_stored_before_it_was_removed(loses: str) -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        mesh.relays[0].start()
        mesh.start(1, 2)
        await mesh.settled(1, 2)
        mesh.part(1, 2)  # so that it is device 2 that stores what it writes
        mesh.write(2, b"by two", BODY)
        await mesh.durable(1, 2)
        if loses == "membership":
            await mesh.remove(2)
        else:
            await mesh.demote(2, Role.BACKUP)
        await mesh.settled(1)
        mesh.kill(2)
        for other in (1, 2):
            mesh.part(other, NEWCOMER)
        # It learned who belongs to the folder from who invited it, and has the rest from the relay alone.
        mesh.start(NEWCOMER)
        await mesh.opened(NEWCOMER)
        replica = mesh.folder(1).replica
        await mesh.folder(NEWCOMER).replica.receive_membership(0, tuple(replica.membership_page(0, 1 << 30)))
        mesh.kill(1)
        await mesh.until(lambda: mesh.files(NEWCOMER) == {b"by two": BODY})

    live(scenario, devices=NEWCOMER)


STRANGER = DeviceKeys(b"s" * 64)


@pytest.mark.parametrize("author", ["removed", "demoted", "stranger"])
def test_what_nobody_may_say_at_its_place_does_not_count_though_a_relay_signs_for_it(author: str) -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        mesh.relays[0].start()
        mesh.start(1, 2)
        await mesh.settled(1, 2)
        old_head = mesh.folder(1).replica.membership.head
        mesh.write(1, b"by one", BODY)
        await mesh.durable(1, 2)
        if author == "demoted":
            await mesh.demote(2, Role.BACKUP)
        elif author == "removed":
            await mesh.remove(2)
        await mesh.settled(1)
        replica = mesh.folder(1).replica
        chain = tuple(replica.membership_page(0, 1 << 30))
        shown = [row.dot for row in replica.versions.all(9)]
        mesh.kill(1, 2)
        keys = STRANGER if author == "stranger" else mesh.beginning.devices[1]
        # It names the membership entry before its author lost the right, as one that was made in time would.
        late = make_stored(keys, replica.folder, membership=old_head, dots=tuple(shown), blobs=(BlobId(b"b" * 32),))
        early = collude(mesh, late)
        mesh.start(NEWCOMER)
        await mesh.opened(NEWCOMER)
        newcomer = mesh.folder(NEWCOMER).replica
        await newcomer.receive_membership(0, chain)
        await mesh.until(lambda: mesh.files(NEWCOMER) == {b"by one": BODY})
        reader = mesh.folder(NEWCOMER).reader(mesh.relays[0].keys.device)
        await mesh.until(lambda: reader.cursor.index == len(mesh.relays[0].log[newcomer.folder].rows))
        assert newcomer.log_rows.stored(stored_id(late)) is None
        assert all(newcomer.log_rows.stored(name) is not None for name in early)

    live(scenario, devices=NEWCOMER)


def collude(mesh: RelayedMesh, record: bytes) -> list[RecordId]:
    """Let the relay take a stored record that it must refuse, and sign a receipt; return the stored ones before it."""
    relay, folder = mesh.relays[0], mesh.beginning.folder
    relay.kill()
    log = relay.log[folder]
    before = [row.id for row in log.rows if row.kind == RecordKind.STORED]
    index, head = len(log.rows) + 1, next_head(log.rows[-1].head, stored_id(record))
    receipt = LogRecord(
        RecordKind.RECEIPT,
        make_receipt(relay.keys, folder, record=stored_id(record), index=index, head=head, replicas=1),
    )
    name = record_id(receipt)
    log.insert([Row(index, stored_id(record), RecordKind.STORED, record, head)])
    log.insert([Row(index + 1, name, RecordKind.RECEIPT, receipt.data, next_head(head, name))])
    relay.start()
    return before


def test_the_membership_at_a_place_is_known_after_a_restart_in_the_middle_of_the_log() -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        mesh.relays[0].start()
        mesh.start(1, 2)
        await mesh.settled(1, 2)
        mesh.part(1, 2)
        reader = mesh.folder(1).reader(mesh.relays[0].keys.device)
        await mesh.until(lambda: reader.cursor.index == len(mesh.relays[0].log[mesh.beginning.folder].rows))
        mesh.network.apart.add(frozenset((1, RELAY_FIRST)))
        mesh.write(2, b"by two", BODY)
        await mesh.durable(2)
        # The owner hears of what was stored only after it has removed the author, and after a restart.
        await mesh.remove(2)
        before = reader.cursor
        mesh.kill(1, 2)
        mesh.start(1)
        await mesh.opened(1)
        reader = mesh.folder(1).reader(mesh.relays[0].keys.device)
        assert reader.cursor.index == before.index and reader.cursor.membership == before.membership
        mesh.network.apart.discard(frozenset((1, RELAY_FIRST)))
        stored = [r.id for r in mesh.relays[0].log[mesh.beginning.folder].rows if r.kind == RecordKind.STORED]
        await mesh.until(lambda: reader.caught_up and reader.cursor.index > before.index)
        assert stored and all(mesh.folder(1).replica.log_rows.stored(name) is not None for name in stored)

    live(scenario)


def test_a_device_whose_last_entries_are_refused_still_reads_the_relay() -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        relay = mesh.relays[0].keys.device
        mesh.relays[0].start()
        mesh.start(1, 2)
        await mesh.settled(1, 2)
        mesh.write(2, b"counts", BODY)
        await mesh.durable(1, 2)
        mesh.part(1, 2)
        mesh.network.apart.add(frozenset((2, RELAY_FIRST)))
        mesh.write(2, b"too late", BODY)
        await mesh.until(lambda: bool(mesh.folder(2).relay_rows.unseen_entries(relay, 1)))
        await mesh.demote(2, Role.READER)
        await mesh.settled(1)
        mesh.network.apart.discard(frozenset((2, RELAY_FIRST)))
        await mesh.until(lambda: relay in mesh.folder(2).refusals, 200)
        assert mesh.folder(2).problems == {}
        for name in (b"first", b"second"):
            mesh.write(1, name, name)
            await mesh.durable(1)
            heads = tuple(mesh.folder(1).replica.chains.heads())
            await mesh.until(lambda heads=heads: not mesh.folder(2).replica.lacks(heads), 5)  # type: ignore[misc]
            await mesh.until(lambda: mesh.folder(2).reader(relay).caught_up, 5)
        assert mesh.folder(2).problems == {}

    live(scenario)


def test_only_its_author_declares_a_version_gone() -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        mesh.relays[0].start()
        mesh.start(1, 2)
        await mesh.settled(1, 2)
        mesh.kill(1)
        mesh.relays[0].kill()
        mesh.write(2, b"by two", BODY)
        await mesh.until(lambda: mesh.folder(2).replica.versions.count() == 1)
        (version,) = mesh.folder(2).replica.versions.all(9)
        folder = mesh.folder(2).replica
        mesh.relays[0].start()
        mesh.network.apart.add(frozenset((2, RELAY_FIRST)))
        record = make_stored(
            mesh.beginning.devices[0], folder.folder, membership=folder.membership.head, gone=(version.dot,)
        )
        collude(mesh, record)
        mesh.network.apart.discard(frozenset((2, RELAY_FIRST)))
        relay = mesh.relays[0].keys.device
        await mesh.until(lambda: mesh.folder(2).durability.holders([version.dot])[version.dot] == [relay], 200)

    live(scenario)
