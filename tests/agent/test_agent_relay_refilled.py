"""A blank relay is refilled by members to the same heads; a folder moves to another operator as it is sealed (B11)."""

from __future__ import annotations

import random
from typing import Any

from meshsync.ids import BlobId
from meshsync.metalog.record_log import RecordKind
from tests.support.relayed_mesh import RELAY_FIRST, RelayedMesh, live
from tests.support.two_faced_relay import TwoFacedRelay

OLD, NEW = 0, 1


def body(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def log_of(mesh: RelayedMesh, relay: int) -> Any:
    return mesh.relays[relay].log.get(mesh.beginning.folder)


def heads(mesh: RelayedMesh, relay: int) -> tuple[bytes, dict[bytes, tuple[int, bytes]]]:
    """The newest membership entry in a relay's log, and the newest entry of each chain there."""
    membership, newest = b"", {}
    for row in log_of(mesh, relay).rows:
        if row.kind == RecordKind.MEMBERSHIP:
            membership = row.id
        elif row.kind == RecordKind.ENTRY:
            newest[row.place.chain] = max(newest.get(row.place.chain, (0, b"")), (row.place.seq, row.id))
    return membership, newest


def kept_blobs(mesh: RelayedMesh, relay: int) -> set[BlobId]:
    return {blob for blob, at in log_of(mesh, relay).blobs.items() if at.pinned}


def has_all(mesh: RelayedMesh, number: int, relay: int) -> bool:
    """Whether a device holds the relay's receipt for all its versions."""
    versions = mesh.folder(number).replica.versions
    lacking = versions.lacking([row.dot for row in versions.all(1000)])
    return all(mesh.relays[relay].keys.device not in relays for relays in lacking.values())


async def stored_at_the_old_relay(mesh: RelayedMesh) -> None:
    """Two devices whose folder is stored at the old relay, one version of it nowhere else."""
    told = mesh.devices[1].relays
    mesh.devices[1].relays = told[:1]
    mesh.relays[OLD].start()
    mesh.start(1, 2)
    await mesh.settled(1, 2)
    mesh.write(1, b"note", body(3000, 1))
    mesh.write(2, b"yours", body(3000, 2))
    await mesh.durable(1, 2)
    mesh.write(1, b"note", body(3000, 3))
    await mesh.durable(1, 2)
    mesh.devices[1].relays = told[1:]


def test_a_folder_that_moves_to_another_relay_has_the_same_heads_history_and_sealed_bytes_there() -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        await stored_at_the_old_relay(mesh)
        epoch = mesh.folder(1).replica.membership.epoch
        mesh.kill(1)
        mesh.relays[NEW].start()
        mesh.start(1)
        await mesh.opened(1)
        await mesh.until(lambda: log_of(mesh, NEW) is not None and has_all(mesh, 1, NEW), 300)
        await mesh.settled(1, 2)
        await mesh.until(lambda: heads(mesh, OLD) == heads(mesh, NEW))
        assert heads(mesh, NEW)[0] == mesh.folder(1).replica.membership.head
        assert kept_blobs(mesh, NEW) == kept_blobs(mesh, OLD), "nothing was sealed anew"
        assert mesh.folder(1).replica.membership.epoch == epoch
        mesh.relays[OLD].kill()
        mesh.write(2, b"later", b"only at the new one")
        await mesh.durable(1, 2)
        assert not mesh.folder(1).watch.convicted and not mesh.folder(2).watch.convicted

    live(scenario, relays=2)


def test_a_member_that_is_no_owner_refills_a_blank_relay_alone() -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        await stored_at_the_old_relay(mesh)
        mesh.kill(1)
        mesh.relays[NEW].start()
        mesh.start(1)
        mesh.network.delay_max_s = 1.0  # a slow line: there is time between the founding and the first upload
        await mesh.until(lambda: log_of(mesh, NEW) is not None and heads(mesh, NEW)[0] != mesh.beginning.folder)
        mesh.network.apart.add(frozenset((1, RELAY_FIRST + NEW)))
        await mesh.until(lambda: mesh.relays[NEW].keys.device in mesh.folder(2).replica.membership.relays)
        mesh.kill(1)
        mesh.network.delay_max_s = 0.0
        await mesh.until(lambda: has_all(mesh, 2, NEW), 300)
        stored = [row.place.device for row in log_of(mesh, NEW).rows if row.kind == RecordKind.STORED]
        assert set(stored) == {mesh.device(2)}, "the owner has brought nothing"
        assert mesh.state(2).not_durable == 0
        _, entries = heads(mesh, NEW)
        assert {(chain, seq, entry) for chain, (seq, entry) in entries.items()} == {
            (head.chain, head.seq, head.entry) for head in mesh.folder(2).replica.chains.heads()
        }
        assert heads(mesh, NEW)[0] == mesh.folder(2).replica.membership.head

    live(scenario, relays=2)


def test_what_only_a_relay_has_that_came_back_from_a_backup_moves_to_another_though_it_is_believed_no_more() -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        await stored_at_the_old_relay(mesh)
        old = mesh.relays[OLD]
        assert isinstance(old, TwoFacedRelay)
        backup = old.copied()
        mesh.write(1, b"after", b"the backup was made")
        await mesh.durable(1, 2)
        old.again(backup)
        await mesh.until(lambda: all(mesh.folder(number).watch.convicted for number in (1, 2)), 300)
        assert mesh.state(1).not_durable == mesh.state(1).versions == 4
        mesh.kill(1)
        mesh.relays[NEW].start()
        mesh.start(1)
        await mesh.opened(1)
        await mesh.until(lambda: mesh.folder(1).watch.is_convicted(old.keys.device) and has_all(mesh, 1, NEW), 300)
        await mesh.durable(1)
        assert kept_blobs(mesh, OLD) <= kept_blobs(mesh, NEW), "the version that nothing else had is among them"
        assert len(mesh.health(1)) == 1, "and the relay that came back is still told of"

    live(scenario, relays=2, relay=TwoFacedRelay)
