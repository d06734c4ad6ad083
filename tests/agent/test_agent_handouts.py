"""One file shared by itself (decision 0010): real agents over links in memory; what users see, where files lie."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from meshsync.agent import api_schema as api
from meshsync.agent import handouts, joining
from meshsync.agent.ending import holders
from meshsync.agent.giving import holds_file
from meshsync.agent.invitations import Invitations
from meshsync.agent.taking import take
from meshsync.content.ticket import parse_ticket
from meshsync.errors import AccessError, ConfigError, NotFound, PeerTimeout, SourceUnavailable, TicketInvalid
from tests.support.handout_scene import (
    BODY,
    fetch,
    hand_out,
    handed,
    health,
    holds,
    noticed,
    save,
    sharing,
    shown,
    state,
)
from tests.support.pairing_mesh import WAIT_S, open_mesh

REFUSED = (AccessError, SourceUnavailable)  # a device with no ticket open answers no stranger at all


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for a device that is off only costs time here."""
    monkeypatch.setattr(joining, "JOIN_LAN_S", 0.05)
    monkeypatch.setattr(joining, "JOIN_TIMEOUT_S", 0.5)
    monkeypatch.setattr(handouts, "HANDOUT_PAUSE_S", 0.01)


class TestAFileIsHandedOver:
    async def test_it_is_put_where_its_user_wants_it_and_nothing_else_comes(self, tmp_path: Path) -> None:
        async with sharing(tmp_path) as (_, laptop, desk):
            shared = await hand_out(laptop, laptop.tree / "plan.txt")
            assert shared.is_file and not shared.stored
            joined = await fetch(desk, shared.ticket, desk.tree / "mine.txt")
            assert (joined.is_file, joined.name, joined.path) == (True, "plan.txt", str(desk.tree / "mine.txt"))
            assert desk.files() == {"mine.txt": BODY}
            status = await desk.service.status()
            assert status.folders == [], "it is no folder to its user"
            (taken,) = status.shared_files
            assert (taken.name, taken.path, taken.given) == ("plan.txt", str(desk.tree / "mine.txt"), False)
            assert (taken.state, taken.device) == ("up to date", "laptop")
            (given,) = await shown(laptop)
            assert (given.name, given.path, given.given) == ("plan.txt", str(laptop.tree / "plan.txt"), True)
            assert (given.state, given.device, given.follows) == ("up to date", "desk", True)
            assert [folder.name for folder in (await laptop.service.status()).folders] == ["laptop"]

    async def test_it_comes_through_the_relay_while_the_sharer_is_off(self, tmp_path: Path) -> None:
        async with sharing(tmp_path, relay=True) as (mesh, laptop, desk):
            shared = await hand_out(laptop, laptop.tree / "plan.txt")
            assert shared.stored, "the user is told that the device may be switched off"
            await mesh.stop(laptop)
            joined = await fetch(desk, shared.ticket, desk.tree / "plan.txt")
            assert joined.route == "relay"
            assert desk.files() == {"plan.txt": BODY}

    async def test_a_code_serves_as_well_as_a_ticket(self, tmp_path: Path) -> None:
        async with sharing(tmp_path) as (_, laptop, desk):
            shared = await hand_out(laptop, laptop.tree / "plan.txt")
            await fetch(desk, shared.code, desk.tree / "plan.txt")
            assert desk.files() == {"plan.txt": BODY}

    async def test_mode_time_and_an_empty_content_are_kept(self, tmp_path: Path) -> None:
        async with sharing(tmp_path) as (_, laptop, desk):
            tool = laptop.tree / "tool"
            tool.touch()
            tool.chmod(0o755)
            os.utime(tool, ns=(10**18, 10**18 + 5))
            shared = await hand_out(laptop, tool)
            await fetch(desk, shared.ticket, desk.tree)
            found = (desk.tree / "tool").stat()
            assert (found.st_size, found.st_mode & 0o111, found.st_mtime_ns) == (0, 0o111, 10**18 + 5)

    async def test_a_file_in_no_folder_is_handed_out_as_it_is_now(self, tmp_path: Path) -> None:
        async with sharing(tmp_path) as (_, laptop, desk):
            loose = tmp_path / "loose"
            loose.write_bytes(b"loose")
            with pytest.raises(ConfigError) as refused:
                await hand_out(laptop, loose)
            assert "--version" in refused.value.next_step
            shared = await hand_out(laptop, loose, this_version=True)
            await fetch(desk, shared.ticket, desk.tree)
            assert desk.files() == {"loose": b"loose"}

    async def test_a_relay_that_may_not_store_it_holds_nothing_up(self, tmp_path: Path) -> None:
        async with open_mesh(tmp_path) as mesh:
            await mesh.start_relay()
            laptop = await mesh.start("laptop")
            mesh.relay_address = None  # the desk knows the relay by the folder only, and has no invitation to it
            desk = await mesh.start("desk")
            (laptop.tree / "plan.txt").write_bytes(BODY)
            await desk.join((await laptop.share()).ticket)
            await mesh.until(lambda: any(client.link is not None for client in desk.agent.relays.values()))
            shared = await hand_out(desk, desk.tree / "plan.txt")
            assert not shared.stored

    async def test_what_cannot_be_shared_leaves_nothing(self, tmp_path: Path) -> None:
        async with sharing(tmp_path) as (_, laptop, _):
            before = set((laptop.agent.home.path / "folders").iterdir())
            with pytest.raises(ConfigError):
                await hand_out(laptop, laptop.tree, this_version=True)
            with pytest.raises(NotFound):
                await hand_out(laptop, laptop.tree / ".meshsync" / "folder")
            with pytest.raises(ConfigError, match="only a folder can be backed up"):
                await hand_out(laptop, laptop.tree / "plan.txt", role="backup")
            assert set((laptop.agent.home.path / "folders").iterdir()) == before
            assert await shown(laptop) == []


class TestItFollowsTheFile:
    async def test_later_versions_come_whatever_the_file_is_called_by_then(self, tmp_path: Path) -> None:
        async with handed(tmp_path) as (mesh, laptop, desk):
            save(laptop.tree / "plan.txt", b"second")
            await mesh.until(holds(desk.tree / "plan.txt", b"second"))
            (laptop.tree / "old").mkdir()
            (laptop.tree / "plan.txt").rename(laptop.tree / "old" / "was plan.txt")
            await noticed(laptop)
            save(laptop.tree / "old" / "was plan.txt", b"third")
            await mesh.until(lambda: desk.files() == {"plan.txt": b"third"})

    async def test_in_sync_is_not_said_while_a_newer_version_is_still_to_be_handed_out(self, tmp_path: Path) -> None:
        async with handed(tmp_path) as (_, laptop, desk):
            for device in (laptop, desk):
                device.agent.handouts.closing(next(f for f in device.agent.folders.values() if f.handout is not None))
            save(laptop.tree / "plan.txt", b"second")
            await noticed(laptop)
            status = await laptop.service.status()
            assert [file.state for file in status.shared_files] == ["updating"] and not status.idle
            with pytest.raises(PeerTimeout):
                await laptop.service.wait(api.WaitRequest(timeout_s=0.2))

    async def test_another_file_that_takes_the_name_is_not_handed_out(self, tmp_path: Path) -> None:
        async with handed(tmp_path) as (mesh, laptop, desk):
            (laptop.tree / "plan.txt").rename(laptop.tree / "moved.txt")
            await noticed(laptop)
            (laptop.tree / "plan.txt").write_bytes(b"another file")
            await noticed(laptop)
            save(laptop.tree / "moved.txt", b"the same file")
            await mesh.until(holds(desk.tree / "plan.txt", b"the same file"))

    async def test_this_version_stays_this_version(self, tmp_path: Path) -> None:
        async with sharing(tmp_path) as (mesh, laptop, desk):
            fixed = await hand_out(laptop, laptop.tree / "plan.txt", this_version=True)
            followed = await hand_out(laptop, laptop.tree / "plan.txt")
            await fetch(desk, fixed.ticket, desk.tree / "fixed")
            await fetch(desk, followed.ticket, desk.tree / "followed")
            save(laptop.tree / "plan.txt", b"second")
            await mesh.until(holds(desk.tree / "followed", b"second"))
            assert desk.files()["fixed"] == BODY
            assert {file.follows for file in await shown(laptop)} == {False, True}

    async def test_it_goes_on_after_both_agents_were_started_again(self, tmp_path: Path) -> None:
        async with handed(tmp_path) as (mesh, laptop, desk):
            await mesh.stop(laptop)
            await mesh.stop(desk)
            save(laptop.tree / "plan.txt", b"written while nobody ran")
            await mesh.restart(laptop)
            await mesh.restart(desk)
            await mesh.until(lambda: desk.files() == {"plan.txt": b"written while nobody ran"})

    async def test_a_newer_version_comes_through_the_relay_alone(self, tmp_path: Path) -> None:
        async with handed(tmp_path, relay=True) as (mesh, laptop, desk):
            await mesh.stop(desk)
            save(laptop.tree / "plan.txt", b"second")
            await laptop.service.wait(api.WaitRequest(durable=True, timeout_s=WAIT_S))
            await mesh.stop(laptop)
            await mesh.restart(desk)
            await mesh.until(holds(desk.tree / "plan.txt", b"second"))

    async def test_once_it_is_deleted_it_is_handed_to_nobody_and_both_users_are_told(self, tmp_path: Path) -> None:
        async with handed(tmp_path) as (mesh, laptop, desk):
            late = await hand_out(laptop, laptop.tree / "plan.txt")
            (laptop.tree / "plan.txt").unlink()
            await state(mesh, desk, "deleted")
            assert desk.files() == {"plan.txt": BODY}, "what it has, it keeps"
            assert "plan.txt was deleted by who shares it" in await health(desk)
            assert "plan.txt was deleted, and is not handed out any more" in await health(laptop)
            other = await mesh.start("other")
            with pytest.raises(NotFound, match="deleted"):
                await fetch(other, late.ticket, other.tree)
            assert other.files() == {}

    async def test_a_folder_that_is_left_is_followed_no_more_and_said_so(self, tmp_path: Path) -> None:
        async with handed(tmp_path) as (mesh, laptop, desk):
            await laptop.service.leave("laptop")
            await state(mesh, laptop, "not followed")
            assert "changes of plan.txt are not handed out any more" in await health(laptop)
            assert desk.files() == {"plan.txt": BODY}


class TestNothingOfTheHoldersIsLost:
    async def test_a_file_at_the_path_stays_and_the_ticket_is_still_good(self, tmp_path: Path) -> None:
        async with sharing(tmp_path) as (_, laptop, desk):
            (desk.tree / "plan.txt").write_bytes(b"mine")
            shared = await hand_out(laptop, laptop.tree / "plan.txt")
            with pytest.raises(ConfigError, match="a file is there already"):
                await fetch(desk, shared.ticket, desk.tree / "plan.txt")
            joined = await fetch(desk, shared.ticket, desk.tree)
            assert joined.path == str(desk.tree / "plan (2).txt")
            assert desk.files() == {"plan.txt": b"mine", "plan (2).txt": BODY}

    async def test_a_changed_copy_stays_and_newer_versions_go_beside_it(self, tmp_path: Path) -> None:
        async with handed(tmp_path) as (mesh, laptop, desk):
            save(desk.tree / "plan.txt", b"my notes")
            save(laptop.tree / "plan.txt", b"second")
            await mesh.until(holds(desk.tree / "plan (2).txt", b"second"))
            save(laptop.tree / "plan.txt", b"third")
            await mesh.until(lambda: desk.files() == {"plan.txt": b"my notes", "plan (2).txt": b"third"})
            assert (laptop.tree / "plan.txt").read_bytes() == b"third", "a holder changes nothing"

    async def test_a_change_that_size_and_time_hide_is_not_lost(self, tmp_path: Path) -> None:
        async with handed(tmp_path) as (mesh, laptop, desk):
            copy = desk.tree / "plan.txt"
            before = copy.stat()
            with copy.open("r+b") as file:
                file.write(b"my notes")
            os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))
            save(laptop.tree / "plan.txt", b"second")
            await mesh.until(holds(desk.tree / "plan (2).txt", b"second"))
            assert copy.read_bytes() == b"my notes" + BODY[8:]

    async def test_what_was_moved_away_is_not_put_there_again(self, tmp_path: Path) -> None:
        async with handed(tmp_path) as (mesh, laptop, desk):
            (desk.tree / "plan.txt").rename(desk.tree / "kept.txt")
            save(laptop.tree / "plan.txt", b"second")
            await state(mesh, desk, "not there")
            assert "newer versions of plan.txt are put nowhere" in await health(desk)
            (inner,) = desk.agent.folders.values()
            await mesh.until(lambda: (row := holds_file(inner)) is not None and row.content.size == len(b"second"))
            assert not await take(desk.agent.runtime, inner)
            assert desk.files() == {"kept.txt": BODY}

    async def test_nothing_is_left_beside_it(self, tmp_path: Path) -> None:
        async with handed(tmp_path) as (mesh, laptop, desk):
            for number in range(5):
                save(laptop.tree / "plan.txt", b"%d" % number)
            await mesh.until(holds(desk.tree / "plan.txt", b"4"))
            await state(mesh, desk, "up to date")
            await mesh.until(lambda: [entry.name for entry in os.scandir(desk.tree)] == ["plan.txt"])


class TestTheEnd:
    async def test_a_ticket_serves_once(self, tmp_path: Path) -> None:
        async with sharing(tmp_path) as (mesh, laptop, desk):
            shared = await hand_out(laptop, laptop.tree / "plan.txt")
            await fetch(desk, shared.ticket, desk.tree)
            other = await mesh.start("other")
            with pytest.raises(REFUSED):
                await fetch(other, shared.ticket, other.tree)
            assert other.files() == {} and await shown(other) == []

    async def test_an_expired_ticket_is_refused_and_its_handout_is_forgotten(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("meshsync.agent.handouts.HANDOUT_LOOK_S", 0.1)
        async with sharing(tmp_path) as (mesh, laptop, desk):
            shared = await hand_out(laptop, laptop.tree / "plan.txt", expires_s=1)
            folders = laptop.agent.home.path / "folders"
            assert (folders / shared.folder).is_dir()
            await mesh.until(lambda: not (folders / shared.folder).exists())
            assert await shown(laptop) == []
            with pytest.raises(TicketInvalid):
                await fetch(desk, shared.ticket, desk.tree)
            assert desk.files() == {}

    async def test_who_used_a_ticket_while_the_sharer_was_off_is_not_forgotten_with_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with sharing(tmp_path, relay=True) as (mesh, laptop, desk):
            shared = await hand_out(laptop, laptop.tree / "plan.txt")
            await mesh.stop(laptop)
            await fetch(desk, shared.ticket, desk.tree)
            monkeypatch.setattr(Invitations, "_now_s", lambda self: parse_ticket(shared.ticket).expires_s + 1)
            await mesh.restart(laptop)
            save(laptop.tree / "plan.txt", b"second")
            await mesh.until(lambda: desk.files() == {"plan.txt": b"second"})

    async def test_a_ticket_that_was_taken_back_admits_nobody(self, tmp_path: Path) -> None:
        async with sharing(tmp_path, relay=True) as (_, laptop, desk):
            shared = await hand_out(laptop, laptop.tree / "plan.txt")
            opened = (await laptop.service.invitations("plan.txt")).invitations
            assert [(each.id, each.folder, each.role) for each in opened] == [(shared.id, "plan.txt", "reader")]
            done = await laptop.service.revoke(api.RevokeRequest(folder=str(laptop.tree / "plan.txt")))
            assert done.revoked == [shared.id]
            with pytest.raises(REFUSED):
                await fetch(desk, shared.ticket, desk.tree)
            assert desk.files() == {}

    async def test_who_has_the_file_gets_nothing_more_is_told_and_keeps_it(self, tmp_path: Path) -> None:
        async with handed(tmp_path) as (mesh, laptop, desk):
            await laptop.service.revoke(api.RevokeRequest(folder="plan.txt"))
            save(laptop.tree / "plan.txt", b"not for you")
            await state(mesh, desk, "ended")
            assert desk.files() == {"plan.txt": BODY}
            assert "plan.txt is shared with this device no more" in await health(desk)
            await desk.service.leave("plan.txt")
            assert await shown(desk) == [] and desk.files() == {"plan.txt": BODY}

    async def test_one_of_two_holders_is_ended_and_the_other_goes_on(self, tmp_path: Path) -> None:
        async with handed(tmp_path) as (mesh, laptop, desk):
            other = await mesh.start("other")
            second = await hand_out(laptop, laptop.tree / "plan.txt")
            await fetch(other, second.ticket, other.tree)
            (taken,) = await shown(other)
            assert taken.device == "laptop", "nobody else is seen"
            assert "desk" not in other.agent.names().values()
            await laptop.service.revoke(api.RevokeRequest(folder="plan.txt", id=second.id))
            save(laptop.tree / "plan.txt", b"second")
            await mesh.until(holds(desk.tree / "plan.txt", b"second"))
            assert other.files() == {"plan.txt": BODY}

    async def test_it_ends_at_the_relay_while_the_holder_is_off(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(handouts, "FAREWELL_S", 0.05)
        async with handed(tmp_path, relay=True) as (mesh, laptop, desk):
            await mesh.stop(desk)
            folders = laptop.agent.home.path / "folders"
            count = len(list(folders.iterdir()))
            await laptop.service.revoke(api.RevokeRequest(folder="plan.txt"))
            await mesh.until(lambda: len(list(folders.iterdir())) == count - 1)
            assert await shown(laptop) == [], "every relay knows: it is forgotten here"
            await mesh.stop(laptop)
            again = await mesh.restart(desk)
            async with asyncio.timeout(WAIT_S):
                while not any("does not know this folder or this device" in what for what in await health(again)):
                    await asyncio.sleep(0.01)
            assert desk.files() == {"plan.txt": BODY}

    async def test_who_was_let_in_at_the_relay_at_the_same_moment_is_removed_again(self, tmp_path: Path) -> None:
        async with sharing(tmp_path, relay=True) as (mesh, laptop, desk):
            shared = await hand_out(laptop, laptop.tree / "plan.txt")
            ticket = parse_ticket(shared.ticket)
            (relay,) = laptop.agent.relays.values()
            handout = laptop.agent.folders[ticket.folder]
            # The laptop does not hear what the relay takes until it has withdrawn the ticket itself.
            assert relay.link is not None
            relay.link.close("cut for the test")
            await fetch(desk, shared.ticket, desk.tree)
            await laptop.service.revoke(api.RevokeRequest(folder="plan.txt"))
            await mesh.until(lambda: handout.id not in laptop.agent.folders or not holders(handout))
            save(laptop.tree / "plan.txt", b"not for you")
            async with asyncio.timeout(WAIT_S):
                while (await shown(desk))[0].state != "ended":
                    await asyncio.sleep(0.01)
            assert desk.files() == {"plan.txt": BODY}

    async def test_a_holder_that_leaves_keeps_its_file_and_the_sharer_forgets(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(handouts, "FAREWELL_S", 0.05)
        async with handed(tmp_path, relay=True) as (mesh, laptop, desk):
            await desk.service.leave("plan.txt")
            assert await shown(desk) == [] and desk.files() == {"plan.txt": BODY}
            await mesh.until(lambda: len(laptop.agent.folders) == 1)
