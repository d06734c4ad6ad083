"""Promise B8: what a role does not allow is refused, whoever signs it. Real folder, real links, a hostile member."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshsync.agent import members_health
from meshsync.agent.members_notes import MemberNotes
from meshsync.content.record import Drop, Dropped, Put
from meshsync.errors import RoleForbids
from meshsync.ids import ROOT, Dot, NodeId, short
from meshsync.metalog.membership_entry import Change, ChangeRole, Remove, SetPolicy, sign_change
from meshsync.roles import Role
from tests.support.member_scene import Member, Scene, open_scene


async def write_own_file(scene: Scene, name: str, data: bytes) -> tuple[NodeId, Dot]:
    (scene.root / name).write_bytes(data)
    assert scene.folder.loop is not None
    scene.folder.loop.look_at(None)
    await scene.until(lambda: any(row.name == name.encode() for row in scene.folder.rows()))
    row = next(row for row in scene.folder.rows() if row.name == name.encode())
    return row.node, row.versions[0]


async def bearer_of(scene: Scene, mallory: Member, role: Role) -> Member:
    """Return who tells of what `mallory` signed: a backup is asked for nothing as a member is, others pass it on."""
    if role is not Role.BACKUP:
        return mallory
    bearer = await scene.member(b"w")
    bearer.entries = mallory.entries
    return bearer


def state(scene: Scene) -> object:
    replica = scene.folder.replica
    return scene.files(), replica.chains.heads(), replica.membership, replica.quarantined


@pytest.mark.parametrize("role", [Role.READER, Role.BACKUP])
@pytest.mark.parametrize("act", ["write", "overwrite", "delete"])
async def test_what_a_reader_or_a_backup_signs_changes_nothing_and_is_told(
    tmp_path: Path, role: Role, act: str
) -> None:
    async with open_scene(tmp_path) as scene:
        mallory, carol = await scene.member(b"m", role), await scene.member(b"c")
        bearer = await bearer_of(scene, mallory, role)
        node, version = await write_own_file(scene, "plan", b"precious")
        before = state(scene)
        forged = mallory.hold([b"forged"])
        mallory.write(
            {
                "write": mallory.put(b"new", forged),
                "overwrite": Put(node, forged, False, 0, (version,), ROOT, b"plan", (b"plan",)),
                "delete": Drop((Dropped(node, (version,), version, -1),)),
            }[act]
        )
        await scene.connect(bearer)
        await scene.until(lambda: bool(scene.folder.replica.refused))
        error = scene.folder.replica.refused[mallory.device.device]
        assert isinstance(error, RoleForbids)
        assert (error.device, error.folder) == (short(mallory.device.device), short(scene.folder.id))
        assert role.name.lower() in error.what
        assert state(scene) == before
        told = members_health.items(scene.folder, MemberNotes(scene.folder.database))
        assert [(item.code, item.what) for item in told] == [
            ("RoleForbids", f"Docs: changes that {short(mallory.device.device)} may not make were refused")
        ]
        await scene.connect(carol)
        await scene.gets(carol, b"next", b"1")
        assert scene.files() == {b"plan": b"precious", b"next": b"1"}


def forged(scene: Scene, mallory: Member, change: Change) -> bytes:
    membership = scene.folder.replica.membership
    return sign_change(mallory.device, scene.folder.id, membership.head, membership.seq + 1, change).data


@pytest.mark.parametrize("role", [Role.WRITER, Role.READER, Role.BACKUP])
@pytest.mark.parametrize("kind", ["own promotion", "removal of the owner", "policy"])
async def test_only_an_owner_signs_membership(tmp_path: Path, role: Role, kind: str) -> None:
    async with open_scene(tmp_path) as scene:
        mallory, carol = await scene.member(b"m", role), await scene.member(b"c")
        bearer = await bearer_of(scene, mallory, role)
        before = scene.folder.replica.membership
        change: Change = {
            "own promotion": ChangeRole(mallory.device.device, Role.OWNER),
            "removal of the owner": Remove(scene.own.device, (), None),
            "policy": SetPolicy(1, b"keep nothing"),
        }[kind]
        entry = forged(scene, mallory, change)
        with pytest.raises(RoleForbids) as refused:
            await scene.folder.replica.receive_membership(scene.folder.replica.membership_count(), (entry,))
        assert (refused.value.device, refused.value.folder) == (short(mallory.device.device), short(scene.folder.id))
        # The same over a link; honest members are served all the while.
        bearer.members = (entry,)
        await scene.connect(bearer)
        bearer.membership = (bearer.membership[0] + 1, b"h" * 32)
        bearer.announce()
        await scene.until(lambda: bearer.members_served > 0)
        carol.membership = (scene.folder.replica.membership_count(), scene.folder.replica.membership.head)
        await scene.connect(carol)
        await scene.gets(carol, b"next", b"1")
        assert scene.folder.replica.membership == before
