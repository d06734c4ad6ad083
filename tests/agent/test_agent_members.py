"""Roles, removal, leaving and unsharing, with real agents, memory links and a real relay on virtual time.

Promises B8, B9.
"""

from __future__ import annotations

import asyncio

import pytest

from meshsync.agent import api_schema as api
from meshsync.agent.service import Service
from meshsync.crypto.safety_number import safety_number
from meshsync.errors import ConfigError, MeshsyncError, NotFound, RoleForbids
from meshsync.ids import DeviceId, short
from meshsync.metalog.membership_entry import ChangeRole
from meshsync.roles import Role
from tests.support.relayed_mesh import RelayedMesh, live


def device(mesh: RelayedMesh, number: int) -> DeviceId:
    return mesh.beginning.devices[number - 1].device


def service(mesh: RelayedMesh, number: int) -> Service:
    return Service(mesh.agent(number))


async def role(mesh: RelayedMesh, owner: int, number: int, role: api.Role) -> api.RoleResult:
    who = device(mesh, number).hex()
    return await service(mesh, owner).change_role(api.RoleRequest(folder="Docs", device=who, role=role))


async def remove(mesh: RelayedMesh, owner: int, number: int, dry_run: bool = False) -> api.RemovalResult:
    who = device(mesh, number).hex()
    return await service(mesh, owner).remove(api.RemovalRequest(folder="Docs", who=who, dry_run=dry_run))


def told(mesh: RelayedMesh, number: int) -> list[str]:
    return [item.what for item in mesh.health(number)]


def knows(mesh: RelayedMesh, number: int, role: Role | None, of: int) -> bool:
    return mesh.folder(number).replica.membership.role(device(mesh, of)) is role


async def up(mesh: RelayedMesh, *numbers: int, relay: bool = False) -> None:
    if relay:
        mesh.relays[0].start()
    mesh.start(*numbers)
    await mesh.settled(*numbers)


class TestRemoval:
    def test_a_removed_device_is_cut_off_told_by_whom_and_keeps_its_files(self) -> None:
        async def scenario(mesh: RelayedMesh) -> None:
            await up(mesh, 1, 2, 3)
            mesh.write(1, b"before", b"1")
            await mesh.settled(1, 2, 3)
            result = await remove(mesh, 1, 3)
            assert [one.id for one in result.removed] == [device(mesh, 3).hex()] and not result.dry_run
            await mesh.until(lambda: bool(told(mesh, 3)))
            assert told(mesh, 3) == [f"this device was removed from Docs by {short(device(mesh, 1))}"]
            assert mesh.health(3)[0].next == "meshsync leave Docs"
            assert mesh.state(3).state == "error"
            await mesh.until(lambda: not mesh.agent(3).links.all(), 10)
            mesh.write(1, b"after", b"2")
            await mesh.settled(1, 2)
            await asyncio.sleep(60)
            assert mesh.files(2) == {b"before": b"1", b"after": b"2"} and mesh.files(3) == {b"before": b"1"}
            assert not mesh.folder(3).keys().epochs.keys() >= {mesh.folder(1).keys().current}

        live(scenario, devices=3, relays=0)

    def test_a_relay_serves_it_no_more_and_what_it_writes_arrives_nowhere(self) -> None:
        async def scenario(mesh: RelayedMesh) -> None:
            await up(mesh, 1, 2, 3, relay=True)
            mesh.kill(3)
            for other in (1, 2):
                mesh.part(other, 3)
            await up(mesh, 3)
            mesh.write(3, b"before", b"1")
            await mesh.until(lambda: mesh.files(1) == mesh.files(2) == {b"before": b"1"})
            await mesh.durable(1, 2, 3)
            result = await remove(mesh, 1, 3)
            assert result.relays_waiting == []
            mesh.write(3, b"forged", b"2")
            mesh.write(1, b"after", b"3")
            await mesh.durable(1, 2)
            await asyncio.sleep(120)
            for number in (1, 2):
                assert mesh.files(number) == {b"before": b"1", b"after": b"3"}
                assert not mesh.folder(number).replica.quarantined
            assert b"after" not in mesh.files(3)
            problems = [item.what for item in mesh.health(3)]
            assert any("does not know this folder or this device" in what or "removed" in what for what in problems)

        live(scenario, devices=3)

    def test_a_removal_says_what_the_device_could_have_read(self) -> None:
        async def scenario(mesh: RelayedMesh) -> None:
            await up(mesh, 1, 2)
            mesh.write(1, b"plan", b"first")
            await mesh.settled(1, 2)
            mesh.write(2, b"plan", b"second!")
            mesh.write(2, b"same", b"first")
            await mesh.settled(1, 2)
            planned = await remove(mesh, 1, 2, dry_run=True)
            assert planned.dry_run and knows(mesh, 1, Role.WRITER, of=2)
            seen = planned.exposure
            assert (seen.versions, seen.contents, seen.bytes) == (3, 2, len(b"first") + len(b"second!"))
            assert {one.path for one in seen.listed} == {"plan", "same"}
            assert (await remove(mesh, 1, 2)).exposure == seen
            mesh.write(1, b"later", b"secret")
            await mesh.settled(1)
            assert (await remove(mesh, 1, 2, dry_run=True)).exposure == seen, "asked afterwards it is the same"

        live(scenario, devices=2, relays=0)

    def test_the_last_owner_stays_and_only_owners_remove(self) -> None:
        async def scenario(mesh: RelayedMesh) -> None:
            await up(mesh, 1, 2)
            before = mesh.folder(1).replica.membership
            for act in (
                remove(mesh, 2, 1),
                role(mesh, 2, 2, "owner"),
                role(mesh, 1, 1, "writer"),
                service(mesh, 1).leave("Docs"),
                service(mesh, 2).unshare(api.UnshareRequest(folder="Docs")),
            ):
                with pytest.raises(RoleForbids) as refused:
                    await act
                assert refused.value.folder == "Docs" and refused.value.device and refused.value.next_step
            with pytest.raises(ConfigError):
                await remove(mesh, 1, 1)
            with pytest.raises(NotFound):
                await service(mesh, 1).remove(api.RemovalRequest(folder="Docs", who="nobody"))
            assert mesh.folder(1).replica.membership == before == mesh.folder(2).replica.membership

        live(scenario, devices=2, relays=0)

    def test_a_member_that_was_off_while_the_key_changed_finds_the_others_again(self) -> None:
        async def scenario(mesh: RelayedMesh) -> None:
            await up(mesh, 1, 2, 3)
            mesh.kill(2)
            await remove(mesh, 1, 3)
            await mesh.settled(1)
            mesh.kill(3)
            mesh.write(1, b"meanwhile", b"1")
            await mesh.settled(1)
            mesh.start(2)
            await mesh.until(lambda: mesh.devices[2].folder is not None and mesh.files(2) == {b"meanwhile": b"1"})
            await mesh.settled(1, 2)

        live(scenario, devices=3, relays=0)

    def test_a_removed_device_that_comes_back_is_told_and_given_nothing(self) -> None:
        async def scenario(mesh: RelayedMesh) -> None:
            await up(mesh, 1, 2, 3)
            mesh.kill(3)
            await remove(mesh, 1, 3)
            mesh.write(1, b"after", b"1")
            await mesh.settled(1, 2)
            mesh.start(3)
            await mesh.opened(3)
            mesh.write(3, b"late", b"2")
            await mesh.until(lambda: any("was removed" in what for what in told(mesh, 3)))
            await asyncio.sleep(60)
            for number in (1, 2):
                assert mesh.files(number) == {b"after": b"1"}
            assert mesh.files(3) == {b"late": b"2"}

        live(scenario, devices=3, relays=0)


class TestQuarantine:
    def test_what_was_written_beyond_the_pin_is_listed_and_an_owner_can_take_it_over(self) -> None:
        async def scenario(mesh: RelayedMesh) -> None:
            await up(mesh, 1, 2, 3)
            mesh.kill(1)
            mesh.write(3, b"late", b"what rob wrote")
            await mesh.until(lambda: mesh.files(2).get(b"late") == b"what rob wrote")
            mesh.kill(2)
            mesh.kill(3)
            mesh.start(1)
            await mesh.opened(1)
            await remove(mesh, 1, 3)
            mesh.start(2)
            await mesh.until(lambda: bool(mesh.folder(1).replica.quarantined))
            assert any("came after its end" in what for what in told(mesh, 1))
            apart = (await service(mesh, 1).held_changes("Docs")).quarantined
            assert [(one.device, [file.path for file in one.files]) for one in apart] == [
                (device(mesh, 3).hex(), ["late"])
            ]
            request = api.AdoptRequest(folder="Docs", device=device(mesh, 3).hex(), dismiss=True)
            with pytest.raises(RoleForbids):
                await service(mesh, 2).adopt(request, lambda done, total: None)
            await service(mesh, 1).adopt(request, lambda done, total: None)
            assert (await service(mesh, 1).held_changes("Docs")).quarantined == []
            assert not any("came after its end" in what for what in told(mesh, 1))
            await mesh.settled(1, 2)
            # Who had it on its disk publishes it as its own: nothing of it is lost.
            assert mesh.files(1) == mesh.files(2) == {b"late": b"what rob wrote"}

        live(scenario, devices=3, relays=0)


class TestRoles:
    def test_a_reader_writes_nothing_anywhere_and_may_write_again_when_it_is_a_writer(self) -> None:
        async def scenario(mesh: RelayedMesh) -> None:
            await up(mesh, 1, 2, relay=True)
            mesh.write(2, b"mine", b"1")
            await mesh.durable(1, 2)
            changed = await role(mesh, 1, 2, "reader")
            assert (changed.before, changed.member.role, changed.relays_waiting) == ("writer", "reader", [])
            await mesh.until(lambda: knows(mesh, 2, Role.READER, of=2))
            mesh.write(2, b"mine", b"forged")
            await asyncio.sleep(60)
            assert mesh.files(1) == {b"mine": b"1"} and not mesh.folder(1).replica.quarantined
            await role(mesh, 1, 2, "writer")
            await mesh.until(lambda: mesh.files(1).get(b"mine") == b"forged")
            await mesh.durable(1, 2)

        live(scenario, devices=2)

    def test_ownership_passes_on(self) -> None:
        async def scenario(mesh: RelayedMesh) -> None:
            await up(mesh, 1, 2, 3)
            await role(mesh, 1, 2, "owner")
            await mesh.until(lambda: knows(mesh, 2, Role.OWNER, of=2))
            left = await service(mesh, 1).leave("Docs")
            assert left.told
            await mesh.until(lambda: knows(mesh, 2, None, of=1) and knows(mesh, 3, None, of=1))
            members = await service(mesh, 2).members("Docs")
            assert [(one.id, one.left) for one in members.former] == [(device(mesh, 1).hex(), True)]
            await mesh.until(lambda: len(mesh.folder(2).told.epochs) == 2)  # the new owner gave a new key
            await mesh.until(lambda: mesh.folder(3).keys().current == mesh.folder(2).keys().current)
            mesh.write(2, b"ours", b"1")
            await mesh.settled(2, 3)
            assert mesh.files(3) == {b"ours": b"1"}

        live(scenario, devices=3, relays=0)

    def test_of_two_removals_at_once_both_happen_and_what_was_written_under_either_key_arrives(self) -> None:
        async def scenario(mesh: RelayedMesh) -> None:
            mesh.part(1, 2)
            await up(mesh, 1, 2, 3, 4, relay=True)
            await role(mesh, 1, 2, "owner")
            await mesh.until(lambda: knows(mesh, 2, Role.OWNER, of=2))
            mesh.relays[0].kill()
            await mesh.until(lambda: all(not status.connected for n in (1, 2) for status in relay_states(mesh, n)))
            mesh.kill(3)
            mesh.kill(4)
            await remove(mesh, 1, 3)
            await remove(mesh, 2, 4)
            mesh.write(1, b"by one", b"1")
            mesh.write(2, b"by two", b"2")
            await mesh.settled(1, 2)
            keys = {mesh.folder(number).keys().current for number in (1, 2)}
            mesh.relays[0].start()
            await mesh.until(
                lambda: (
                    mesh.folder(1).replica.membership.head == mesh.folder(2).replica.membership.head
                    and len(mesh.folder(1).replica.membership.members) == 2
                )
            )
            await mesh.until(lambda: mesh.files(1) == mesh.files(2) == {b"by one": b"1", b"by two": b"2"})
            await mesh.durable(1, 2)
            assert mesh.folder(1).keys().current == mesh.folder(2).keys().current
            assert len(keys) == 2 and keys < set(mesh.folder(1).replica.membership.epochs)

        live(scenario, devices=4)

    def test_two_owners_at_once_are_put_in_order_by_the_relay_and_the_later_is_made_again(self) -> None:
        async def scenario(mesh: RelayedMesh) -> None:
            mesh.part(1, 2)
            await up(mesh, 1, 2, 3, relay=True)
            await role(mesh, 1, 2, "owner")
            await mesh.until(lambda: knows(mesh, 2, Role.OWNER, of=2))
            mesh.relays[0].kill()
            await mesh.until(lambda: all(not status.connected for n in (1, 2) for status in relay_states(mesh, n)))
            await remove(mesh, 1, 3)
            await mesh.folder(2).replica.change_membership(ChangeRole(device(mesh, 3), Role.READER))
            mesh.write(1, b"by one", b"1")
            mesh.write(2, b"by two", b"2")
            mesh.relays[0].start()
            await mesh.until(
                lambda: (
                    mesh.folder(1).replica.membership.head == mesh.folder(2).replica.membership.head
                    and not mesh.folder(1).replica.membership.is_member(device(mesh, 3))
                )
            )
            await mesh.durable(1, 2)
            assert mesh.files(1) == mesh.files(2) == {b"by one": b"1", b"by two": b"2"}
            assert any("at the same time" in what for number in (1, 2) for what in told(mesh, number))

        live(scenario, devices=3)


def relay_states(mesh: RelayedMesh, number: int) -> list[api.RelayState]:
    from meshsync.agent import status_report

    return status_report.relay_states(mesh.agent(number))


class TestLeaving:
    def test_whoever_leaves_tells_the_others_and_they_change_the_key(self) -> None:
        async def scenario(mesh: RelayedMesh) -> None:
            await up(mesh, 1, 2, 3, relay=True)
            mesh.write(3, b"mine", b"1")
            await mesh.durable(1, 2, 3)
            old = mesh.folder(1).keys().current
            assert (await service(mesh, 3).leave("Docs")).told
            assert mesh.files(3) == {b"mine": b"1"} and mesh.devices[3].folder is None
            await mesh.until(lambda: knows(mesh, 1, None, of=3) and knows(mesh, 2, None, of=3))
            await mesh.until(lambda: mesh.folder(1).keys().current == mesh.folder(2).keys().current != old)
            mesh.write(1, b"after", b"2")
            await mesh.durable(1, 2)
            assert mesh.files(2) == {b"mine": b"1", b"after": b"2"}

        live(scenario, devices=3)

    def test_without_anybody_to_tell_it_says_so(self) -> None:
        async def scenario(mesh: RelayedMesh) -> None:
            await up(mesh, 1, 2)
            mesh.kill(1)
            await asyncio.sleep(60)
            assert not (await service(mesh, 2).leave("Docs")).told

        live(scenario, devices=2, relays=0)

    def test_unsharing_ends_it_for_all_others_and_the_folder_stays(self) -> None:
        async def scenario(mesh: RelayedMesh) -> None:
            await up(mesh, 1, 2, 3, relay=True)
            mesh.write(1, b"ours", b"1")
            await mesh.durable(1, 2, 3)
            result = await service(mesh, 1).unshare(api.UnshareRequest(folder="Docs"))
            assert len(result.removed) == 2
            await mesh.until(lambda: all(any("was removed" in what for what in told(mesh, n)) for n in (2, 3)))
            mesh.write(1, b"mine", b"2")
            await mesh.durable(1)
            assert mesh.files(1) == {b"ours": b"1", b"mine": b"2"}
            assert mesh.files(2) == mesh.files(3) == {b"ours": b"1"}
            members = await service(mesh, 1).members("Docs")
            assert [one.id for one in members.members] == [device(mesh, 1).hex()]

        live(scenario, devices=3)


class TestMembers:
    def test_both_sides_see_the_same_number_and_who_is_there(self) -> None:
        async def scenario(mesh: RelayedMesh) -> None:
            await up(mesh, 1, 2)
            numbers = [
                (await service(mesh, own).verify("Docs", device(mesh, other).hex())).number
                for own, other in ((1, 2), (2, 1))
            ]
            assert numbers == [safety_number(device(mesh, 1), device(mesh, 2))] * 2
            members = {one.id: one for one in (await service(mesh, 2).members("Docs")).members}
            first = members[device(mesh, 1).hex()]
            assert (
                first.role == "owner" and first.seen and first.since and first.fingerprint.replace(" ", "") == first.id
            )
            own = members[device(mesh, 2).hex()]
            assert own.self and own.invited_by == short(device(mesh, 1))
            mesh.kill(2)
            await asyncio.sleep(100)
            mesh.start(2)
            await mesh.opened(2)
            again = {one.id: one for one in (await service(mesh, 2).members("Docs")).members}
            assert again[first.id].since == first.since, "kept over a restart"
            for who in (device(mesh, 2).hex(), "nobody"):
                with pytest.raises(MeshsyncError):
                    await service(mesh, 2).verify("Docs", who)

        live(scenario, devices=2, relays=0)
