"""Each relay of a folder gets every version, whichever of them has it first; one that was away catches up (P9, P10)."""

from __future__ import annotations

import random

from meshsync.agent.history import unpack_content
from meshsync.ids import Dot
from meshsync.metalog.record_log import RecordKind
from tests.support.relayed_mesh import RelayedMesh, live

NEWCOMER = 2
SEVERAL_LISTS_BYTES = 120_000


def body(size: int, seed: int) -> bytes:
    """Bytes that no compression makes smaller."""
    return random.Random(seed).randbytes(size)


def dots(mesh: RelayedMesh, number: int) -> list[Dot]:
    return [row.dot for row in mesh.folder(number).replica.versions.all(1000)]


def has_all(mesh: RelayedMesh, relay: int) -> bool:
    """Whether device 1 holds the relay's receipt for all its versions."""
    lacking = mesh.folder(1).replica.versions.lacking(dots(mesh, 1))
    return all(mesh.relays[relay].keys.device not in relays for relays in lacking.values())


def test_two_relays_of_one_folder_both_get_the_content() -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        for relay in mesh.relays:
            relay.start()
        mesh.start(1)
        await mesh.settled(1)
        mesh.write(1, b"note", body(3000, 1))
        await mesh.durable(1)
        await mesh.until(lambda: has_all(mesh, 0) and has_all(mesh, 1))
        await joins_from(mesh, 1)

    live(scenario, devices=2, relays=2)


async def joins_from(mesh: RelayedMesh, relay: int) -> None:
    """Device 1 and the other relay go away: a newcomer gets every file from this relay."""
    replica, files = mesh.folder(1).replica, mesh.files(1)
    chain = tuple(replica.membership_page(0, 1 << 30))
    mesh.relays[1 - relay].kill()
    mesh.kill(1)
    mesh.start(NEWCOMER)
    await mesh.opened(NEWCOMER)
    await mesh.folder(NEWCOMER).replica.receive_membership(0, chain)
    await mesh.until(lambda: mesh.files(NEWCOMER) == files)


def test_one_relay_makes_durable_and_one_that_was_away_catches_up_with_all_that_was_there_meanwhile() -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        mesh.relays[0].start()
        mesh.start(1)
        await mesh.settled(1)
        for seed in range(3):  # of which only the last one is on the disk in the end
            mesh.write(1, b"note", body(3000, seed))
            mesh.write(1, b"large", body(SEVERAL_LISTS_BYTES, 10 + seed // 2))
            await mesh.durable(1)
        depths = [unpack_content(row.content).depth for row in mesh.folder(1).replica.versions.all(10)]
        assert max(depths) > 1, "a version that is stored in parts is among them"
        assert mesh.state(1).not_durable == 0 and has_all(mesh, 0) and not has_all(mesh, 1)
        before = set(dots(mesh, 1))
        mesh.relays[0].kill()
        mesh.relays[1].start()
        mesh.write(1, b"meanwhile", body(3000, 20))
        await mesh.until(lambda: any(mesh.folder(1).durability.is_durable(dot) for dot in {*dots(mesh, 1)} - before))
        mesh.relays[0].start()  # what lies only there was not given up while it was away
        await mesh.until(lambda: has_all(mesh, 1), 300)
        stored = [row for row in mesh.relays[1].log[mesh.folder(1).id].rows if row.kind == RecordKind.STORED]
        assert stored and mesh.state(1).not_kept == 0
        await joins_from(mesh, 1)

    live(scenario, devices=2, relays=2)


def test_what_a_relay_was_never_given_and_nobody_has_is_closed_there_and_kept_nowhere() -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        mesh.start(1)
        await mesh.settled(1)
        for seed in range(2):
            mesh.write(1, b"note", body(3000, seed))
            await mesh.settled(1)
        for relay in mesh.relays:
            relay.start()
        await mesh.durable(1)
        await mesh.until(lambda: mesh.state(1).not_kept == 1)
        first, second = sorted(dots(mesh, 1), key=mesh.folder(1).replica.view.is_shown)
        holders = mesh.folder(1).durability.holders([first, second])
        assert holders[first] == [] and holders[second]

    live(scenario, devices=1, relays=2)
