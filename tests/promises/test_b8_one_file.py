"""B8 for one shared file: its holder asks for more, its sharer sends more, and whoever holds neither gets nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from meshsync.agent import api_schema as api
from meshsync.agent.conversation import Conversation, RelayConversation
from meshsync.agent.folder import Folder
from meshsync.agent.handout import FILE_NAME
from meshsync.agent.taking import take
from meshsync.content.record import Content, Kind
from meshsync.content.seal import BlobKind, unseal_chunk
from meshsync.crypto.folder_keys import FolderKeys
from meshsync.errors import AccessError, MeshsyncError
from meshsync.ids import BlobId
from meshsync.limits import ENTRY_BATCH_BYTES_MAX
from meshsync.store.memory import MemoryStore
from meshsync.transport.base import Priority
from meshsync.wire.peer_messages import ChunkAbsent, FollowLog, FollowRefused, Message, OpenChunks, Want, WantItem
from meshsync.wire.relay_messages import Attach, Attached
from tests.support.handout_scene import BODY, fetch, hand_out, handed, health, holds, save, shown, state
from tests.support.pairing_mesh import WAIT_S, Device, Mesh


@asynccontextmanager
async def taken(tmp_path: Path, *, relay: bool = False) -> AsyncIterator[tuple[Mesh, Device, Device, Folder, Folder]]:
    """A laptop and a desk that took one of its files; the folder it lies in, and the handout as the laptop has it."""
    async with handed(tmp_path, relay=relay) as (mesh, laptop, desk):
        source = next(folder for folder in laptop.agent.folders.values() if folder.handout is None)
        handout = next(folder for folder in laptop.agent.folders.values() if folder.handout is not None)
        yield mesh, laptop, desk, source, handout


async def asks(desk: Device, laptop: Device, *messages: Message) -> Message | None:
    """Have the holder's device ask on a stream of its own; return the first answer."""
    link = desk.agent.links.get(laptop.agent.keys.device)
    assert link is not None
    conversation = Conversation(await link.open_stream(Priority.INTERACTIVE))
    for message in messages:
        await conversation.send(message)
    return await conversation.receive()


class TestTheHolderAsksForMore:
    async def test_the_folder_that_the_file_lies_in_is_not_shared_with_it(self, tmp_path: Path) -> None:
        async with taken(tmp_path) as (_, laptop, desk, source, _handout):
            for message in (FollowLog(source.id), OpenChunks(source.id)):
                assert isinstance(await asks(desk, laptop, message), FollowRefused)

    async def test_other_contents_are_not_found_in_the_handout_under_any_id(self, tmp_path: Path) -> None:
        async with taken(tmp_path) as (_, laptop, desk, source, handout):
            ids = {row.content.root for row in source.rows()}
            assert len(ids) == 2
            assert not ids & {row.content.root for row in handout.rows()}, "the same file has other ids there"
            for root in ids:
                for kind in (BlobKind.CHUNK, BlobKind.MANIFEST):
                    want = Want((WantItem(root, int(kind), 100),))
                    assert isinstance(await asks(desk, laptop, OpenChunks(handout.id), want), ChunkAbsent)

    async def test_a_relay_gives_it_the_handout_and_not_the_folder(self, tmp_path: Path) -> None:
        async with taken(tmp_path, relay=True) as (mesh, _, desk, source, handout):
            assert mesh.relay_address is not None and mesh.relay_address.device is not None
            link = desk.agent.relays[mesh.relay_address.device].link
            assert link is not None
            for folder, is_served in ((handout, True), (source, False)):
                conversation = RelayConversation(await link.open_stream(Priority.INTERACTIVE))
                await conversation.send(Attach(folder.id, b"", b"", b""))
                if is_served:
                    await conversation.expect(Attached)
                else:
                    with pytest.raises(AccessError):
                        await conversation.expect(Attached)

    async def test_with_the_relays_whole_disk_it_opens_the_one_file_and_nothing_else(self, tmp_path: Path) -> None:
        async with taken(tmp_path, relay=True) as (mesh, laptop, _, source, handout):
            await laptop.service.wait(api.WaitRequest(durable=True, timeout_s=WAIT_S))
            ours, theirs = opened_by(source.keys(), mesh.relay_blobs), opened_by(handout.keys(), mesh.relay_blobs)
            assert ours and theirs and not ours & theirs
            assert ours | theirs == set(mesh.relay_blobs.ids())

    async def test_nothing_that_it_keeps_tells_of_the_folder(self, tmp_path: Path) -> None:
        async with taken(tmp_path, relay=True) as (mesh, laptop, desk, source, handout):
            keys = source.keys()
            assert handout.keys().secret != keys.secret and not handout.keys().epochs.keys() & keys.epochs.keys()
            await mesh.stop(desk)
            kept = b"".join(path.read_bytes() for path in desk.agent.home.path.rglob("*") if path.is_file())
            assert handout.id in kept and BODY[:256] in kept, "it is looked for where it would be"
            told = [source.id, keys.secret, *keys.epochs, *keys.epochs.values(), b"secret.txt", b"nobody's business"]
            told += [row.node for row in source.rows()] + [row.content.root for row in source.rows()]
            assert [value for value in told if bytes(value) in kept] == []
            assert str(laptop.tree).encode() not in kept, "nor where the file lies"

    async def test_what_it_changes_in_its_copy_reaches_nobody(self, tmp_path: Path) -> None:
        async with taken(tmp_path) as (mesh, laptop, desk, _, handout):
            (inner,) = desk.agent.folders.values()
            (inner.root_path / "file").write_bytes(b"forged")
            (inner.root_path / "more").write_bytes(b"forged")
            assert inner.loop is not None
            inner.loop.look_at(None)
            await mesh.until(lambda: inner.loop is not None and len(inner.loop.only_here()) == 2)
            save(laptop.tree / "plan.txt", b"second")
            await mesh.until(holds(desk.tree / "plan.txt", b"second"))
            assert {path.name for path in handout.root_path.iterdir()} == {".meshsync", "file"}
            assert (laptop.tree / "plan.txt").read_bytes() == b"second"

    async def test_a_changed_copy_that_just_made_way_is_put_nowhere_and_nobody_is_asked_for_it(
        self, tmp_path: Path
    ) -> None:
        async with taken(tmp_path) as (mesh, _laptop, desk, _, _handout):
            (inner,) = desk.agent.folders.values()
            (row,) = inner.synced.at((FILE_NAME,))
            forged = Content(Kind.FILE, 6, b"f" * 32, 0, b"")
            inner.synced.put(replace(row, content=forged))
            async with asyncio.timeout(WAIT_S / 2):
                assert not await take(desk.agent.runtime, inner)
            assert inner.fetcher.pending == 0
            inner.synced.put(row)
            await state(mesh, desk, "up to date")
            assert desk.files() == {"plan.txt": BODY}


class TestTheSharerSendsMore:
    async def test_only_the_one_file_is_put_anywhere(self, tmp_path: Path) -> None:
        async with taken(tmp_path) as (mesh, _, desk, _source, handout):
            (handout.root_path / "sub").mkdir()
            (handout.root_path / "sub" / "file").write_bytes(b"more")
            (handout.root_path / "more").write_bytes(b"more")
            (inner,) = desk.agent.folders.values()
            await mesh.until(holds(inner.root_path / "more", b"more"))
            assert desk.files() == {"plan.txt": BODY}

    async def test_a_link_in_place_of_the_file_is_not_followed(self, tmp_path: Path) -> None:
        async with taken(tmp_path) as (mesh, _, desk, _source, handout):
            (handout.root_path / "file").unlink()
            (handout.root_path / "file").symlink_to(desk.agent.home.device_key)
            await state(mesh, desk, "deleted")
            assert desk.files() == {"plan.txt": BODY} and not (desk.tree / "plan.txt").is_symlink()

    @pytest.mark.parametrize("name", ["..", ".meshsync", "a\nb"])
    async def test_its_name_leads_nowhere(self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        async with taken(tmp_path) as (_mesh, laptop, desk, _, _handout):
            (laptop.tree / "x").write_bytes(b"x")
            monkeypatch.setattr("meshsync.agent.founding.seal_name", _renaming(name))
            shared = await hand_out(laptop, laptop.tree / "x")
            joined = await fetch(desk, shared.ticket, desk.tree)
            assert Path(joined.path).parent == desk.tree
            assert Path(joined.path).name in ("file", "meshsync", "ab")
            assert set(desk.files()) == {"plan.txt", Path(joined.path).name}
            assert await health(desk) == [] and len(await shown(desk)) == 2


def opened_by(keys: FolderKeys, blobs: MemoryStore) -> set[BlobId]:
    """Return which blobs `keys` open as anything."""
    found = set()
    for name, epoch, kind in product(blobs.ids(), keys.epochs, BlobKind):
        with suppress(MeshsyncError):
            unseal_chunk(keys, epoch, kind, blobs.get(name), ENTRY_BATCH_BYTES_MAX)
            found.add(name)
    return found


def _renaming(name: str) -> object:
    """Return what seals `name` wherever the file's own name is sealed."""
    from meshsync.agent.key_ring import seal_name

    return lambda secret, told: seal_name(secret, name if told == "x" else told)
