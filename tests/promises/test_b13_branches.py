"""Promise B13: a device that goes on with two histories is told of and nothing of either is thrown away.

A device restored from an image opens a new chain and alarms nobody: `tests/agent/test_agent_index_mark.py` and
`tests/real/test_restored.py`.
"""

from __future__ import annotations

from meshsync.agent.api_schema import HealthItem
from meshsync.codec.canonical import encode
from meshsync.content.batch import encode_batch
from meshsync.content.record import Content, Kind, Put
from meshsync.content.seal import BlobKind, seal_chunk
from meshsync.ids import ROOT, short
from meshsync.metalog.entry import OpenedEntry, SignedEntry, make_entry, make_envelope, open_entry
from tests.support.relayed_mesh import RelayedMesh, live

COPY = 2


def written_by_a_copy(mesh: RelayedMesh, after: OpenedEntry, name: bytes) -> OpenedEntry:
    """An entry that device 2's key signs on a machine that is not device 2."""
    replica = mesh.folder(1).replica
    put = Put(None, Content(Kind.DIRECTORY), False, 0, (), ROOT, name, (name,))
    payload = seal_chunk(replica.keys, replica.keys.current, BlobKind.BATCH, encode_batch([put], after.chain, 7))
    envelope = make_envelope(
        mesh.beginning.devices[COPY - 1],
        replica.folder,
        after=after.head,
        membership=replica.membership.head,
        epoch=replica.keys.current,
        payload=payload,
        op_count=1,
    )
    return make_entry(mesh.beginning.devices[COPY - 1], envelope, payload)


async def with_entries(mesh: RelayedMesh) -> list[OpenedEntry]:
    """Two devices, of which the second has written three files; return its entries."""
    mesh.start(1, 2)
    await mesh.settled(1, 2)
    entries = []
    replica = mesh.folder(2).replica
    for name in (b"a", b"b", b"c"):
        mesh.write(2, name, name)
        await mesh.settled(1, 2)
        assert replica.own is not None
        entries.append(replica.own)
    await mesh.until(lambda: mesh.files(1).keys() == {b"a", b"b", b"c"})
    await mesh.parted(1, 2)
    opened = []
    for head in entries:
        kept = replica.log_rows.entry(head.entry)
        assert kept is not None
        opened.append(open_entry(SignedEntry(kept.envelope, kept.signature, kept.payload), replica.folder))
    return opened


def alarms(mesh: RelayedMesh, number: int) -> list[HealthItem]:
    return [item for item in mesh.health(number) if "two histories" in item.what]


def test_two_branches_that_go_on_are_told_with_the_device_and_both_are_kept_over_a_restart() -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        first, second, third = await with_entries(mesh)
        other = written_by_a_copy(mesh, first, b"x")
        beyond = written_by_a_copy(mesh, other, b"y")
        replica = mesh.folder(1).replica
        await replica.receive_entries((encode(other.signed),))
        assert alarms(mesh, 1) == [], "one branch that goes on is what a restored image leaves"
        await replica.receive_entries((encode(beyond.signed),))
        for _ in range(2):
            (item,) = alarms(mesh, 1)
            assert item.what.startswith(f"Docs: {short(mesh.device(2))} goes on with two histories")
            assert short(second.id) in item.why and short(other.id) in item.why
            assert item.next.endswith(f"meshsync remove {short(mesh.device(2))}") and item.code == "IntegrityError"
            rows = mesh.folder(1).replica.log_rows
            assert all(rows.entry(entry.id) is not None for entry in (first, second, third, other, beyond))
            assert mesh.files(1) == {b"a": b"a", b"b": b"b", b"c": b"c"}, "what was shown stays as it is"
            mesh.kill(1)
            mesh.start(1)
            await mesh.settled(1)
        # The device itself leaves a chain of which others know more, and goes on in a new one.
        await mesh.meet(1, 2)
        mesh.write(2, b"d", b"d")
        await mesh.until(lambda: mesh.files(1).get(b"d") == b"d")
        own = mesh.folder(2).replica.own
        assert own is not None and own.chain != first.chain
        assert len(alarms(mesh, 1)) == len(alarms(mesh, 2)) == 1

    live(scenario, relays=0)
