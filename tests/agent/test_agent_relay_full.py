"""A relay without room for something stops nothing else: it is told, waited for, and tried again (P15, P18, B23)."""

from __future__ import annotations

import random

import pytest

from meshsync.agent.service import Service
from meshsync.limits import UPLOAD_RETRY_S_MAX
from tests.support.relayed_mesh import RelayedMesh, live

LARGE = random.Random(1).randbytes(60_000)
ROOM_BYTES = 30_000


def refused(mesh: RelayedMesh, number: int) -> list[str]:
    """Return the next steps that the user is told where the relay has no room."""
    return [item.next for item in mesh.health(number) if item.code == "StorageFull"]


def stores(mesh: RelayedMesh) -> int:
    """Return the bytes that the relay holds of the folder."""
    return sum(mesh.relays[0].log[mesh.beginning.folder].charges.values())


async def full(mesh: RelayedMesh) -> None:
    """Devices that meet at the relay only; the relay refuses the content of what the first one wrote."""
    mesh.part(1, 2)
    mesh.relays[0].quota = ROOM_BYTES
    mesh.relays[0].start()
    mesh.start(1)
    await mesh.settled(1)
    chain = tuple(mesh.folder(1).replica.membership_page(0, 1 << 30))
    mesh.start(2)
    await mesh.opened(2)
    await mesh.folder(2).replica.receive_membership(0, chain)
    await mesh.settled(2)
    mesh.write(1, b"large", LARGE)
    await mesh.until(lambda: bool(refused(mesh, 1)))
    assert mesh.state(1).not_durable == 1


def test_others_are_heard_and_read_while_a_relay_has_no_room() -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        await full(mesh)
        assert "meshsync resume" in refused(mesh, 1)[0]
        mesh.write(2, b"small", b"by two")
        await mesh.until(lambda: mesh.files(1).get(b"small") == b"by two", 20)
        await mesh.until(lambda: mesh.folder(2).replica.chains.heads() == mesh.folder(1).replica.chains.heads(), 20)
        assert refused(mesh, 1) and mesh.state(1).not_durable == 1

    live(scenario)


@pytest.mark.parametrize("resumes", [True, False])
def test_what_had_no_room_is_stored_once_there_is_some(resumes: bool) -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        await full(mesh)
        await mesh.until(lambda: mesh.loop.now > 300, 400)  # by now it is tried as seldom as ever
        assert refused(mesh, 1)
        mesh.relays[0].log[mesh.beginning.folder].allowed = 1 << 20
        if resumes:
            await Service(mesh.agent(1)).resume("")
        await mesh.until(lambda: not mesh.state(1).not_durable, 2 if resumes else UPLOAD_RETRY_S_MAX + 5)
        await mesh.until(lambda: not refused(mesh, 1) and mesh.files(2).get(b"large") == LARGE, 20)

    live(scenario)


def test_a_relay_without_room_for_an_entry_is_still_read() -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        await full(mesh)
        mesh.write(2, b"small", b"by two")
        await mesh.until(lambda: mesh.files(1).get(b"small") == b"by two", 20)
        log = mesh.relays[0].log[mesh.beginning.folder]
        log.allowed = stores(mesh) + 900  # for an entry of one small file, and its content, but not for two
        mesh.write(1, b"another", b"by one")
        await mesh.until(lambda: stores(mesh) + 400 > log.allowed, 20)
        mesh.write(1, b"no room", b"by one")
        await mesh.until(lambda: bool(mesh.folder(1).relay_rows.unseen_entries(mesh.relays[0].keys.device, 1)), 20)
        reader = mesh.folder(1).reader(mesh.relays[0].keys.device)
        await mesh.until(lambda: bool(refused(mesh, 1)) and reader.caught_up, 20)
        assert mesh.folder(1).problems == {}, "the folder is served"
        log.allowed = 1 << 20
        await mesh.until(lambda: not refused(mesh, 1) and not mesh.state(1).not_durable, 2 * UPLOAD_RETRY_S_MAX)
        await mesh.until(lambda: mesh.files(2) == mesh.files(1), 20)

    live(scenario)
