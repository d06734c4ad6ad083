"""What a user has to know of single paths stands in `status` and in `why`, on real agents."""

from __future__ import annotations

import pytest

from meshsync.agent.decisions import Verb
from meshsync.agent.explain import explain
from meshsync.roles import Role
from tests.support.relayed_mesh import RelayedMesh, live

NAMES = [b"%02d" % number for number in range(12)]


def remove(mesh: RelayedMesh, number: int, name: bytes) -> None:
    user = mesh.users[number]
    user.calls.unlink(user._open(()), name)
    user.calls.close_all()


@pytest.mark.slow
def test_a_reader_is_told_of_each_path_that_it_changed() -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        mesh.start(1, 2)
        await mesh.settled(1, 2)
        mesh.write(1, b"note", b"theirs")
        await mesh.settled(1, 2)
        await mesh.demote(2, Role.READER)
        await mesh.settled(1, 2)
        mesh.write(2, b"note", b"mine")
        await mesh.settled(1, 2)
        (item,) = [item for item in mesh.health(2) if item.code == "RoleForbids"]
        assert "note" in item.what and item.why and item.next
        assert mesh.files(1) == {b"note": b"theirs"} and mesh.files(2) == {b"note": b"mine"}

    live(scenario, relays=0)


@pytest.mark.slow
def test_what_a_rejection_could_not_bring_back_is_told_also_after_a_restart() -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        mesh.start(1)
        await mesh.settled(1)
        for name in NAMES:
            mesh.write(1, name, b"only here " + name)
        await mesh.settled(1)
        for name in NAMES:
            remove(mesh, 1, name)
        loop = mesh.folder(1).loop
        assert loop is not None
        loop.look_at(None)
        await mesh.until(lambda: bool(mesh.folder(1).guard.holds))
        (hold,) = mesh.folder(1).guard.holds.values()
        decided = await loop.decisions.ask(hold.id, Verb.REJECT)
        assert list(decided.lost) == [(name,) for name in NAMES]
        for _ in range(2):
            await mesh.settled(1)
            await mesh.until(lambda: len(mesh.folder(1).sought.lost) == len(NAMES))
            items = [item for item in mesh.health(1) if item.code == "SourceUnavailable"]
            assert len(items) == len(NAMES) and all(hold.id in item.next for item in items)
            assert mesh.state(1).state == "in sync" and mesh.state(1).pending.fetch == 0
            why = explain(mesh.agent(1), mesh.folder(1), (b"03",), "/03")
            assert why.state == "lost" and why.next is not None and hold.id in why.next
            assert mesh.agent(1).names()[mesh.beginning.devices[1].device] in why.explanation  # it may have them
            mesh.kill(1)
            mesh.start(1)
            await mesh.opened(1)

    live(scenario, relays=0)
