"""Promise B12: a relay that acknowledged content and then lost it is found out, and any member brings it again."""

from __future__ import annotations

import random
from typing import Any

import pytest

from meshsync.agent.api_schema import HealthItem
from meshsync.ids import BlobId
from meshsync.limits import SAMPLE_FIRST_S, UPLOAD_LOOK_S
from relay.upkeep import Upkeep
from tests.support.relayed_mesh import RelayedMesh, live

FIND_S = 200.0


def body(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def held(mesh: RelayedMesh) -> Any:
    return mesh.relays[0].log[mesh.beginning.folder]


def pinned(mesh: RelayedMesh) -> set[BlobId]:
    return {blob for blob, at in held(mesh).blobs.items() if at.pinned}


def told(mesh: RelayedMesh, number: int) -> list[HealthItem]:
    return [item for item in mesh.health(number) if "lost content" in item.what]


async def stored(mesh: RelayedMesh, *numbers: int) -> None:
    mesh.relays[0].start()
    mesh.start(*numbers)
    await mesh.settled(*numbers)
    mesh.write(1, b"note", body(3000, 1))
    mesh.write(1, b"large", body(120_000, 2))
    await mesh.durable(*numbers)
    reader = mesh.folder(1).reader(mesh.relays[0].keys.device)
    await mesh.until(lambda: reader.cursor.index == len(held(mesh).rows))


def lose(mesh: RelayedMesh, blobs: set[BlobId], how: str) -> None:
    """The relay's disk loses blobs, or their bytes change; its log still says that they are durable."""
    for blob in blobs:
        if how == "absent":
            del mesh.relays[0].blobs[blob]
        else:
            mesh.relays[0].blobs[blob] = b"\0" + mesh.relays[0].blobs[blob][1:]


@pytest.mark.parametrize("how", ["absent", "damaged"])
def test_a_sample_at_the_next_start_finds_it_and_the_author_stores_it_again(how: str) -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        await stored(mesh, 1)
        mesh.kill(1)
        all_blobs = pinned(mesh)
        before = {blob: mesh.relays[0].blobs[blob] for blob in all_blobs}
        lose(mesh, all_blobs, how)
        mesh.start(1)
        await mesh.opened(1)
        sampler = mesh.folder(1).sampler(mesh.relays[0].keys.device)
        sampler._next_s -= SAMPLE_FIRST_S  # as after an hour
        await mesh.until(lambda: sampler.lost_count > 0, FIND_S)
        assert not mesh.folder(1).watch.convicted, "a loss is no lie"
        # A sample is a sample: of the others whoever asks for them hears that they are gone.
        for blob in all_blobs:
            sampler.suspect(blob)
        await mesh.until(lambda: pinned(mesh) >= all_blobs and not sampler.to_bring and lies_there(mesh, before), 900)
        await mesh.durable(1)
        assert told(mesh, 1) == [], "what is stored again is over"

    live(scenario, devices=1)


@pytest.mark.parametrize("how", ["absent", "damaged"])
def test_what_the_relay_finds_lost_by_itself_it_tells_and_a_member_brings_it_at_once(how: str) -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        await stored(mesh, 1, 2)
        await mesh.until(lambda: mesh.files(2) == mesh.files(1))
        mesh.kill(1)  # who wrote it is off
        all_blobs = pinned(mesh)
        before = {blob: mesh.relays[0].blobs[blob] for blob in all_blobs}
        lose(mesh, set(sorted(all_blobs)[::2]), how)
        core = mesh.relays[0].core
        assert core is not None
        await Upkeep(core).step()
        await mesh.until(lambda: lies_there(mesh, before) and mesh.state(2).not_durable == 0, 2 * UPLOAD_LOOK_S)
        assert core.losses.of(mesh.beginning.folder) == [] and told(mesh, 2) == []

    live(scenario)


def lies_there(mesh: RelayedMesh, before: dict[BlobId, bytes]) -> bool:
    return all(mesh.relays[0].blobs.get(blob) == data for blob, data in before.items())


def test_a_member_brings_what_another_one_wrote_and_until_then_it_is_not_durable() -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        await stored(mesh, 1, 2)
        await mesh.until(lambda: mesh.files(2) == mesh.files(1))
        await mesh.parted(1, 2)
        mesh.kill(1)
        all_blobs = pinned(mesh)
        before = {blob: mesh.relays[0].blobs[blob] for blob in all_blobs}
        lose(mesh, all_blobs, "absent")
        sampler = mesh.folder(2).sampler(mesh.relays[0].keys.device)
        for blob in all_blobs:
            sampler.suspect(blob)
        await mesh.until(lambda: mesh.state(2).not_durable > 0, FIND_S)
        await mesh.until(lambda: lies_there(mesh, before) and mesh.state(2).not_durable == 0, 900)
        assert told(mesh, 2) == []

    live(scenario)


def test_what_a_device_fails_to_fetch_is_looked_for_without_waiting_for_a_sample() -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        mesh.relays[0].start()
        mesh.start(1, 2)
        await mesh.settled(1, 2)
        mesh.kill(2)
        await stored(mesh, 1)
        lose(mesh, pinned(mesh), "damaged")
        mesh.kill(1)
        mesh.part(1, 2)
        mesh.start(2)
        await mesh.opened(2)
        await mesh.until(lambda: bool(told(mesh, 2)), FIND_S)
        (item,) = told(mesh, 2)
        assert item.what.startswith("Docs: the relay 10.") and item.code == "BlobCorrupt"
        assert mesh.files(2) == {}, "what fails its check is not written"
        mesh.start(1)
        mesh.network.apart.clear()
        await mesh.until(lambda: mesh.files(2) == mesh.files(1) and len(mesh.files(1)) == 2, 600)

    live(scenario)


def test_an_upload_that_was_never_recorded_and_was_collected_accuses_nobody() -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        await stored(mesh, 1)
        relay = mesh.relays[0].keys.device
        folder = mesh.folder(1)
        ((epoch, size),) = folder.database.execute("SELECT epoch, size FROM blob LIMIT 1")
        never = BlobId(b"n" * 32)
        folder.database.execute("INSERT INTO blob VALUES (?, ?, ?, ?, ?)", (b"c" * 32, relay, never, epoch, size))
        sampler = folder.sampler(relay)
        sampler.suspect(never)
        asked = "SELECT count(*) FROM blob WHERE blob = ?"
        await mesh.until(lambda: folder.database.execute(asked, (never,)) == [(0,)], FIND_S)
        await mesh.until(lambda: never not in sampler._suspects, FIND_S)  # only then the look is over
        assert sampler.lost_count == 0
        assert told(mesh, 1) == [] and not sampler.to_bring and mesh.state(1).not_durable == 0

    live(scenario, devices=1)
