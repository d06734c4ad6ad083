"""A device that keeps a folder for others: it can read nothing, brings everything back, and obeys its members only."""

from __future__ import annotations

import random
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from meshsync.agent import api_schema as api
from meshsync.agent.api_backup import KeptFolder
from meshsync.agent.conversation import RelayConversation
from meshsync.crypto.identity import DeviceKeys
from meshsync.errors import ConfigError, LinkClosed, MeshsyncError, NotAMember
from meshsync.ids import FolderId
from meshsync.transport.base import Link, Policy, Priority
from meshsync.transport.memory import MemoryEndpoint
from meshsync.wire.relay_messages import Attach, Attached, CreateFolder, ListFolders, Message, OpenSlot
from tests.support.pairing_mesh import WAIT_S, Device, Mesh, address_of, open_mesh

NAME, TEXT = "salary-negotiation.txt", b"the telling sentence that nobody else may read"
BODY = random.Random(1).randbytes(300_000)


async def kept(nas: Device) -> KeptFolder:
    """Return the state of the one folder that a device keeps."""
    (one,) = (await nas.service.status()).backups
    return one


async def durable(mesh: Mesh, device: Device) -> None:
    """Wait until a device says that everything it has is in sync and kept elsewhere."""
    await device.service.wait(api.WaitRequest(durable=True, timeout_s=WAIT_S))


@asynccontextmanager
async def backed_up(tmp_path: Path) -> AsyncIterator[tuple[Mesh, Device, Device]]:
    """A laptop with two files, and a NAS that keeps them."""
    async with open_mesh(tmp_path) as mesh:
        laptop, nas = await mesh.start("laptop"), await mesh.start("nas")
        (laptop.tree / NAME).write_bytes(TEXT)
        (laptop.tree / "large.bin").write_bytes(BODY)
        joined = await nas.join((await laptop.share(role="backup")).code)
        assert (joined.is_backup, joined.files, joined.path) == (True, 0, str(nas.tree))
        await durable(mesh, laptop)
        yield mesh, laptop, nas


class TestItKeeps:
    async def test_all_is_durable_there_and_none_of_it_is_readable(self, tmp_path: Path) -> None:
        async with backed_up(tmp_path) as (mesh, laptop, nas):
            assert [folder.not_durable for folder in (await laptop.service.status()).folders] == [0]
            await mesh.until(lambda: nas.agent.backups.folders[only(nas)].held.blobs >= 2)
            state = await kept(nas)
            assert (state.state, state.members, state.linked) == ("keeping", 2, 1)
            assert state.bytes > len(BODY)
            folder = next(iter(laptop.agent.folders.values()))
            keys = folder.keys()
            secrets = [NAME.encode(), TEXT, BODY[:64], keys.secret, *keys.epochs.values()]
            on_disk = b"".join(path.read_bytes() for path in files_of(nas))
            assert [secret for secret in secrets if secret in on_disk] == []
            assert TEXT in b"".join(path.read_bytes() for path in laptop.tree.iterdir() if path.is_file())

    async def test_what_nobody_else_has_any_more_comes_back_from_it(self, tmp_path: Path) -> None:
        async with backed_up(tmp_path) as (mesh, laptop, nas):
            (laptop.tree / "large.bin").write_bytes(b"overwritten")
            (laptop.tree / NAME).unlink()
            await durable(mesh, laptop)
            await mesh.restart(nas)
            laptop_again = await mesh.restart(laptop)
            await mesh.until(lambda: linked(laptop_again, nas))
            for name, content in ((NAME, TEXT), ("large.bin", BODY)):
                request = api.RestoreRequest(path=str(laptop_again.tree / name))
                await laptop_again.service.restore(request, lambda done, total: None)
                assert (laptop_again.tree / name).read_bytes() == content

    async def test_another_member_gets_everything_from_it_while_the_author_is_off(self, tmp_path: Path) -> None:
        async with backed_up(tmp_path) as (mesh, laptop, _):
            desk = await mesh.start("desk")
            await desk.join((await laptop.share()).code)
            await mesh.stop(desk)
            (laptop.tree / "later.bin").write_bytes(BODY[::-1])
            await durable(mesh, laptop)
            await mesh.stop(laptop)
            desk = await mesh.restart(desk)
            await mesh.until(lambda: desk.files() == {NAME: TEXT, "large.bin": BODY, "later.bin": BODY[::-1]})
            (desk.tree / "from the desk").write_bytes(b"of the desk")
            await durable(mesh, desk)
            await mesh.stop(desk)
            laptop_again = await mesh.restart(laptop)
            await mesh.until(lambda: laptop_again.files().get("from the desk") == b"of the desk")

    async def test_it_goes_on_where_it_was_after_a_restart(self, tmp_path: Path) -> None:
        async with backed_up(tmp_path) as (mesh, laptop, nas):
            nas_again = await mesh.restart(nas)
            (laptop.tree / "more.txt").write_bytes(b"more")
            await durable(mesh, laptop)
            await mesh.until(lambda: nas_again.agent.backups.folders[only(nas_again)].held.blobs >= 3)

    async def test_a_disk_that_is_not_mounted_is_waited_for_and_not_begun_anew(self, tmp_path: Path) -> None:
        async with backed_up(tmp_path) as (mesh, laptop, nas):
            await mesh.stop(nas)
            away = nas.tree.rename(tmp_path / "unmounted")
            nas.tree.mkdir()
            nas_again = await mesh.restart(nas)
            await mesh.until(lambda: nas_again.agent.backups.folders[only(nas_again)].problem is not None)
            assert (await kept(nas_again)).state == "not there"
            (item,) = (await nas_again.service.status()).health
            assert "is not there" in item.what and str(nas_again.tree) in item.why and item.next
            assert list(nas_again.tree.iterdir()) == []
            await mesh.stop(nas_again)
            nas_again.tree.rmdir()
            away.rename(nas_again.tree)
            nas_once_more = await mesh.restart(nas_again)
            (laptop.tree / "more.txt").write_bytes(b"more")
            await durable(mesh, laptop)
            assert (await kept(nas_once_more)).state == "keeping"


class TestWithARelay:
    async def test_it_gets_from_the_relay_what_no_member_can_bring_it(self, tmp_path: Path) -> None:
        async with open_mesh(tmp_path) as mesh:
            await mesh.start_relay()
            laptop, nas = await mesh.start("laptop", on_lan=False), await mesh.start("nas", on_lan=False)
            (laptop.tree / NAME).write_bytes(TEXT)
            for number in range(20):  # so many that three deletions are no accident
                (laptop.tree / f"note {number}").write_bytes(b"%d" % number)
            shared = await laptop.share(role="backup")
            (laptop.tree / "large.bin").write_bytes(BODY)
            await durable(mesh, laptop)
            await mesh.stop(laptop)
            assert (await nas.join(shared.ticket)).route == "relay"
            held = nas.agent.backups.folders[only(nas)]
            await mesh.until(lambda: held.held.bytes > len(BODY))
            again = await mesh.restart(laptop, on_lan=False)
            (again.tree / "later.txt").write_bytes(b"later")
            before = held.held.blobs
            await durable(mesh, again)
            await mesh.until(lambda: held.held.blobs > before)  # pushed, not asked for
            await mesh.stop(again)
            mesh.relay_blobs.delete(list(mesh.relay_blobs.ids()))  # what comes now comes from the NAS
            for name in (NAME, "large.bin", "later.txt"):
                (again.tree / name).unlink()
            found = await mesh.restart(again)
            nas_found = await mesh.restart(nas)
            await mesh.until(lambda: linked(found, nas_found))
            await durable(mesh, found)
            for name, content in ((NAME, TEXT), ("large.bin", BODY), ("later.txt", b"later")):
                request = api.RestoreRequest(path=str(found.tree / name))
                await found.service.restore(request, lambda done, total: None)
                assert (found.tree / name).read_bytes() == content

    async def test_a_relay_that_has_everything_is_enough_while_it_is_away(self, tmp_path: Path) -> None:
        async with open_mesh(tmp_path) as mesh:
            await mesh.start_relay()
            laptop, nas = await mesh.start("laptop"), await mesh.start("nas")
            await nas.join((await laptop.share(role="backup")).ticket)
            await mesh.stop(nas)
            (laptop.tree / "large.bin").write_bytes(BODY)
            await durable(mesh, laptop)


class TestItIsNoReader:
    async def test_it_needs_a_directory_of_its_own_and_joins_once(self, tmp_path: Path) -> None:
        async with open_mesh(tmp_path) as mesh:
            laptop, nas = await mesh.start("laptop"), await mesh.start("nas")
            (nas.tree / "photo.jpg").write_bytes(b"the user's own")
            shared = await laptop.share(role="backup")
            with pytest.raises(ConfigError, match="not empty"):
                await nas.join(shared.ticket)
            assert (nas.files(), (await nas.service.status()).backups) == ({"photo.jpg": b"the user's own"}, [])
            (nas.tree / "photo.jpg").unlink()
            await nas.join(shared.ticket)  # the refusal came before the ticket was used
            for role in ("writer", "backup"):
                with pytest.raises(ConfigError, match="keeps the folder as a backup"):
                    await nas.join((await laptop.share(role=role)).ticket)

    async def test_its_role_cannot_become_another_nor_another_its(self, tmp_path: Path) -> None:
        async with backed_up(tmp_path) as (_, laptop, nas):
            before = next(iter(laptop.agent.folders.values())).replica.membership
            request = api.RoleRequest(folder="laptop", device=nas.agent.keys.device.hex(), role="writer")
            with pytest.raises(ConfigError, match="without joining anew"):
                await laptop.service.change_role(request)
            assert next(iter(laptop.agent.folders.values())).replica.membership == before


class TestItObeysItsMembersOnly:
    async def test_one_that_was_removed_hears_of_it_serves_nobody_and_can_be_emptied(self, tmp_path: Path) -> None:
        async with backed_up(tmp_path) as (mesh, laptop, nas):
            device = nas.agent.keys.device.hex()
            await mesh.stop(nas)  # it is off when that happens
            await laptop.service.remove(api.RemovalRequest(folder="laptop", who=device))
            nas_again = await mesh.restart(nas)
            await mesh.until(lambda: nas_again.agent.backups.folders[only(nas_again)].parted)
            assert (await kept(nas_again)).state == "ended"
            assert "no backup of it any more" in (await nas_again.service.status()).health[0].what
            (laptop.tree / "later.txt").write_bytes(b"later")
            await laptop.service.wait(api.WaitRequest(timeout_s=WAIT_S))
            assert not (await laptop.service.status()).folders[0].relayed
            left = await nas_again.service.leave("nas")
            assert (left.was_backup, left.told, nas_again.tree.exists()) == (True, True, False)
            assert (await nas_again.service.status()).backups == []
            assert not any((nas_again.agent.home.path / "backups").iterdir())

    async def test_a_member_that_was_removed_gets_nothing_more(self, tmp_path: Path) -> None:
        async with backed_up(tmp_path) as (mesh, laptop, nas):
            desk = await mesh.start("desk")
            await desk.join((await laptop.share()).code)
            await mesh.until(lambda: linked(desk, nas))
            folder = next(iter(laptop.agent.folders.values()))
            assert await ask(link_of(desk, nas), Attach(folder.id)) is None
            await laptop.service.remove(api.RemovalRequest(folder="laptop", who=desk.agent.keys.device.hex()))
            await mesh.until(lambda: not nas.agent.backups.folders[folder.id].knows(desk.agent.keys.device))
            await mesh.until(lambda: desk.agent.links.get(nas.agent.keys.device) is None)
            with pytest.raises(MeshsyncError):
                await link_as(mesh, desk.agent.keys, nas)

    async def test_a_stranger_gets_no_link_and_a_member_of_another_folder_no_answer(self, tmp_path: Path) -> None:
        async with backed_up(tmp_path) as (mesh, laptop, nas):
            with pytest.raises(MeshsyncError):
                await link_as(mesh, DeviceKeys(b"m" * 64), nas)
            other = await mesh.start("other")
            (nas.tree.parent / "second").mkdir()
            shared = await other.share(role="backup")
            request = api.JoinRequest(ticket=shared.ticket, path=str(nas.tree.parent / "second"))
            await nas.service.join(request, lambda done, total: None)
            await mesh.until(lambda: linked(other, nas))
            folder = next(iter(laptop.agent.folders.values()))
            assert isinstance(await ask(link_of(other, nas), Attach(folder.id)), NotAMember)
            assert isinstance(await ask(link_of(other, nas), Attach(b"f" * 32)), NotAMember)
            assert linked(other, nas)  # a question costs no link

    async def test_what_only_relays_are_asked_ends_the_link_and_changes_nothing(self, tmp_path: Path) -> None:
        async with backed_up(tmp_path) as (mesh, laptop, nas):
            folder = next(iter(laptop.agent.folders.values()))
            genesis = folder.replica.membership_chain[0].data
            for message in (ListFolders(), OpenSlot(7), CreateFolder(genesis, bytes(32))):
                await mesh.until(lambda: linked(laptop, nas))
                link = link_of(laptop, nas)
                assert isinstance(await ask(link, message), LinkClosed)
                await mesh.until(partial(ended, laptop, link))
            await mesh.until(lambda: linked(laptop, nas))
            assert list(nas.agent.backups.folders) == [folder.id]


class TestItIsWatched:
    async def test_one_that_goes_back_in_its_log_is_convicted_and_sync_goes_on(self, tmp_path: Path) -> None:
        async with backed_up(tmp_path) as (mesh, laptop, nas):
            await mesh.stop(nas)
            shutil.copytree(nas.tree, tmp_path / "older")
            nas_again = await mesh.restart(nas)
            (laptop.tree / "later.bin").write_bytes(BODY[::-1])
            await durable(mesh, laptop)
            await mesh.stop(nas_again)
            shutil.rmtree(nas_again.tree)
            shutil.copytree(tmp_path / "older", nas_again.tree)
            nas_once_more = await mesh.restart(nas_again)
            folder = next(iter(laptop.agent.folders.values()))
            await mesh.until(lambda: folder.watch.is_convicted(nas_once_more.agent.keys.device))
            told = [item for item in (await laptop.service.status()).health if item.code == "IntegrityError"]
            assert "the backup" in told[0].what and "meshsync remove" in told[0].next
            assert (await laptop.service.status()).folders[0].not_durable > 0  # its word counts no more
            desk = await mesh.start("desk")
            await desk.join((await laptop.share()).code)
            assert desk.files() == laptop.files()

    async def test_damage_on_its_disk_reaches_nobody(self, tmp_path: Path) -> None:
        async with backed_up(tmp_path) as (mesh, laptop, nas):
            await mesh.stop(nas)
            packs = list((nas.tree / "chunks").rglob("*.pack"))
            assert packs
            for pack in packs:
                data = bytearray(pack.read_bytes())
                data[len(data) // 2] ^= 1
                pack.write_bytes(data)
            nas_again = await mesh.restart(nas)
            await mesh.until(lambda: linked(laptop, nas_again))
            desk = await mesh.start("desk")
            await desk.join((await laptop.share()).code)
            await mesh.until(lambda: desk.files() == {NAME: TEXT, "large.bin": BODY})


# --- helpers --------------------------------------------------------------------------------------------------------


def only(nas: Device) -> FolderId:
    """Return the id of the one folder that a device keeps."""
    (folder,) = nas.agent.backups.folders
    return folder


def files_of(nas: Device) -> list[Path]:
    """Return every file of a device: what it keeps, its home, and whatever else is in its tree."""
    return [path for top in (nas.tree, nas.agent.home.path) for path in top.rglob("*") if path.is_file()]


def linked(one: Device, other: Device) -> bool:
    return one.agent.links.get(other.agent.keys.device) is not None


def ended(device: Device, link: Link) -> bool:
    return device.agent.links.get(link.peer) is not link


def link_of(one: Device, other: Device) -> Link:
    link = one.agent.links.get(other.agent.keys.device)
    assert link is not None
    return link


async def ask(link: Link, message: Message) -> MeshsyncError | None:
    """Ask what relays are asked; return the error that came of it."""
    try:
        conversation = RelayConversation(await link.open_stream(Priority.INTERACTIVE))
        await conversation.send(message)
        await conversation.expect(Attached)
    except MeshsyncError as error:
        return error
    conversation.reset()
    return None


async def link_as(mesh: Mesh, keys: DeviceKeys, nas: Device) -> Link:
    """Dial a backup as `keys`, knowing by what its members find it. Raises what it answers."""
    endpoint = await MemoryEndpoint.open(mesh.runtime, keys, mesh.network, Policy())
    try:
        return await endpoint.dial(
            address_of(nas.agent.endpoint.port),
            expect=nas.agent.keys.device,
            discovery_key=nas.agent.backups.folders[only(nas)].discovery_key,
            timeout_s=WAIT_S,
        )
    finally:
        await endpoint.close()
