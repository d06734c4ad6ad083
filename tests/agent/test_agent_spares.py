"""What an edit was put over, and may show again, stays on the disk that had it until nobody can need it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from meshsync.folder.names import CONTROL_NAME
from meshsync.folder.spare import SPARE_NAME
from tests.support.relayed_mesh import RelayedMesh, live

BASE, EDIT, LATER = b"as it was" * 500, b"as it was edited" * 500, b"as it is now" * 500
OLD_NS = 1_500_000_000_000_000_000
SEEN = 120.0


def spares(mesh: RelayedMesh, number: int) -> set[bytes]:
    """Return the names of what a device keeps."""
    area = mesh.devices[number].disk.root.entries[CONTROL_NAME].entries.get(SPARE_NAME)
    return set() if area is None else set(area.entries)


def touch(mesh: RelayedMesh, number: int, name: bytes) -> None:
    calls = mesh.users[number].calls
    directory = mesh.users[number]._open(())
    fd = calls.open_file(directory, name)
    calls.set_mtime(fd, OLD_NS)
    calls.close_all()
    look(mesh, number)


def delete(mesh: RelayedMesh, number: int, name: bytes) -> None:
    calls = mesh.users[number].calls
    calls.unlink(mesh.users[number]._open(()), name)
    calls.close_all()
    look(mesh, number)


def look(mesh: RelayedMesh, number: int) -> None:
    loop = mesh.folder(number).loop
    assert loop is not None
    loop.look_at(None)


async def overwritten(mesh: RelayedMesh) -> None:
    """Device 2 touched a file, and an edit by device 1, which knows of no touch, reached it through device 3."""
    mesh.start(1, 2, 3)
    await mesh.settled(1, 2, 3)
    mesh.write(1, b"note", BASE)
    await mesh.until(lambda: all(mesh.files(number) == {b"note": BASE} for number in (1, 2, 3)), SEEN)
    await mesh.settled(1, 2, 3)
    await mesh.parted(1, 2)
    await mesh.parted(2, 3)
    touch(mesh, 2, b"note")
    await mesh.settled(2)
    mesh.write(1, b"note", EDIT)
    await mesh.until(lambda: mesh.files(3) == {b"note": EDIT}, SEEN)
    await mesh.parted(1, 3)
    await mesh.meet(2, 3)
    await mesh.until(lambda: mesh.files(2) == {b"note": EDIT}, SEEN)
    await mesh.settled(2, 3)


def meshes(scenario: Callable[[RelayedMesh], Awaitable[None]]) -> None:
    live(scenario, devices=3, relays=0)


@pytest.mark.parametrize("restarts", [False, True])
def test_a_touched_version_comes_back_with_its_content_when_the_edit_is_removed(restarts: bool) -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        await overwritten(mesh)
        assert len(spares(mesh, 2)) == 1 and not spares(mesh, 1)
        if restarts:
            mesh.kill(2)
            mesh.start(2)
            await mesh.opened(2)
            await mesh.meet(2, 3)
        delete(mesh, 1, b"note")
        await mesh.settled(1)
        await mesh.meet(1, 2)
        await mesh.meet(1, 3)
        await mesh.until(lambda: all(mesh.files(number) == {b"note": BASE} for number in (1, 2, 3)), SEEN)
        await mesh.until(lambda: not any(spares(mesh, number) for number in (1, 2, 3)), SEEN)

    meshes(scenario)


def test_it_goes_once_somebody_who_knows_of_it_edits_the_file() -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        await overwritten(mesh)
        mesh.write(3, b"note", LATER)
        await mesh.until(lambda: mesh.files(2) == {b"note": LATER}, SEEN)
        await mesh.until(lambda: not spares(mesh, 2) and not spares(mesh, 3), SEEN)

    meshes(scenario)


def test_what_a_crash_left_half_kept_is_removed_at_the_next_start() -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        await overwritten(mesh)
        mesh.kill(2)
        calls = mesh.users[2].calls
        area = calls.open_directory(calls.open_directory(mesh.users[2]._open(()), CONTROL_NAME), SPARE_NAME)
        calls.create(area, b"ab" * 44)
        (kept,) = spares(mesh, 2) - {b"ab" * 44}
        calls.close_all()
        mesh.start(2)
        await mesh.until(lambda: spares(mesh, 2) == {kept}, SEEN)

    meshes(scenario)
