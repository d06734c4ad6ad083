"""Promise B11: a relay that shows two logs is found out, convicted by its own signatures, and never believed again.

The relay here is a real one with a lying operator, the agents are real, and each lie is told over the real protocol.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from meshsync.agent.api_schema import HealthItem
from meshsync.crypto.identity import DeviceKeys
from meshsync.ids import FolderId, short
from meshsync.metalog.evidence import Fault
from meshsync.metalog.membership_entry import Admit, Invite, sign_change
from meshsync.metalog.record_log import RecordKind
from meshsync.roles import Role
from relay.drivers.base import Row
from tests.support.relayed_mesh import RelayedMesh, live
from tests.support.two_faced_relay import TwoFacedRelay, row

FIND_S = 300.0


def the_relay(mesh: RelayedMesh) -> TwoFacedRelay:
    relay = mesh.relays[0]
    assert isinstance(relay, TwoFacedRelay)
    return relay


def folder_id(mesh: RelayedMesh) -> FolderId:
    return mesh.beginning.folder


async def begun(mesh: RelayedMesh, *numbers: int) -> TwoFacedRelay:
    """Devices that share a file through a relay that did not lie yet."""
    relay = the_relay(mesh)
    relay.start()
    mesh.start(*numbers)
    await mesh.settled(*numbers)
    mesh.write(1, b"first", b"1")
    await mesh.durable(*numbers)
    await mesh.until(lambda: all(mesh.files(number) == {b"first": b"1"} for number in numbers))
    return relay


def convicted(mesh: RelayedMesh, number: int, fault: Fault) -> bool:
    found = mesh.folder(number).watch.convicted.get(the_relay(mesh).keys.device)
    return found is not None and found.proven.fault is fault


def accusations(mesh: RelayedMesh, number: int) -> list[HealthItem]:
    return [item for item in mesh.health(number) if f"the relay {the_relay_words(mesh, number)}" in item.what]


def the_relay_words(mesh: RelayedMesh, number: int) -> str:
    relay = the_relay(mesh).keys.device
    return f"{mesh.agent(number).relays[relay].address.host} ({short(relay)})"


def nobody_is_accused(mesh: RelayedMesh, *numbers: int) -> bool:
    watches = [mesh.folder(number).watch for number in numbers]
    return not any(watch.convicted or watch.doubts for watch in watches)


async def stays_convicted(mesh: RelayedMesh, *numbers: int) -> None:
    """What every device that found out does from then on, also after it was started again."""
    for number in numbers:
        (item,) = accusations(mesh, number)
        found = mesh.folder(number).watch.convicted[the_relay(mesh).keys.device]
        assert item.what.startswith("Docs: the relay") and str(found.path) in item.why and "found 20" in item.why
        assert "go on syncing" in item.why and "meshsync up --relay" in item.next
        checked = verify_off_line(found.path)
        assert checked.returncode == 0, checked.stderr
        assert the_relay(mesh).keys.device.hex() in checked.stdout and folder_id(mesh).hex() in checked.stdout
        state = mesh.state(number)
        assert state.not_durable == state.versions > 0, "nothing that this relay alone keeps is called durable"
    number = numbers[0]
    relay = the_relay(mesh)
    log = relay.faces.get(mesh.device(number), relay.log)[folder_id(mesh)].rows
    records = len(log)
    mesh.kill(*numbers)
    mesh.start(*numbers)
    await mesh.opened(*numbers)
    mesh.write(number, b"after", b"all is said")
    await mesh.until(lambda: mesh.folder(number).replica.view.resolve((b"after",)) is not None)
    await mesh.until(lambda: mesh.agent(number).relays[the_relay(mesh).keys.device].link is not None, FIND_S)
    assert len(accusations(mesh, number)) == 1, "it is not trusted again by a start"
    assert mesh.state(number).not_durable == mesh.state(number).versions
    assert len(log) == records, "it stores nothing new there"


def verify_off_line(path: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "meshsync.evidence", str(path)]
    return subprocess.run(line, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])


def test_a_fork_is_proven_to_both_at_the_next_contact_and_they_go_on_without_the_relay() -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        relay = await begun(mesh, 1, 2)
        await mesh.parted(1, 2)
        relay.show(mesh.device(2), relay.copied())
        mesh.write(1, b"mine", b"2")
        mesh.write(2, b"yours", b"3")
        await mesh.durable(1, 2)
        assert mesh.files(1).keys() == {b"first", b"mine"} and mesh.files(2).keys() == {b"first", b"yours"}
        assert nobody_is_accused(mesh, 1, 2), "each of them alone is shown a log without fault"
        await mesh.meet(1, 2)
        await mesh.until(lambda: all(mesh.folder(number).watch.convicted for number in (1, 2)), FIND_S)
        await mesh.until(lambda: mesh.files(1) == mesh.files(2) == {b"first": b"1", b"mine": b"2", b"yours": b"3"})
        await stays_convicted(mesh, 1, 2)

    live(scenario, relay=TwoFacedRelay)


def test_a_frozen_log_is_proven_to_whom_it_is_shown_once_a_member_brings_a_newer_head() -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        relay = await begun(mesh, 1, 2)
        await mesh.parted(1, 2)
        relay.show(mesh.device(2), relay.copied())
        mesh.write(1, b"news", b"2")
        await mesh.durable(1)
        await mesh.settled(2)
        assert b"news" not in mesh.files(2) and nobody_is_accused(mesh, 1, 2)
        await mesh.meet(1, 2)
        await mesh.until(lambda: convicted(mesh, 2, Fault.ROLLBACK), FIND_S)
        await mesh.until(lambda: mesh.files(2) == {b"first": b"1", b"news": b"2"})
        assert nobody_is_accused(mesh, 1), "whom it did not lie to has no proof"
        await stays_convicted(mesh, 2)

    live(scenario, relay=TwoFacedRelay)


@pytest.mark.parametrize("restarted", [False, True])
def test_an_older_log_than_it_signed_convicts_it_at_once(restarted: bool) -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        relay = await begun(mesh, 1)
        older = relay.copied()
        mesh.write(1, b"second", b"2")
        await mesh.durable(1)
        if restarted:
            mesh.kill(1)
        relay.again(older)
        mesh.start(1)
        await mesh.opened(1)
        await mesh.until(lambda: convicted(mesh, 1, Fault.ROLLBACK), FIND_S)
        assert mesh.files(1) == {b"first": b"1", b"second": b"2"}
        await stays_convicted(mesh, 1)

    live(scenario, relay=TwoFacedRelay)


def test_an_older_log_that_grew_again_does_not_hide_what_it_lost() -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        relay = await begun(mesh, 1, 2)
        older = relay.copied()
        mesh.write(1, b"second", b"2")
        await mesh.durable(1, 2)
        mesh.kill(1)
        mesh.kill(2)
        relay.again(older)
        mesh.start(2)  # it lost what its index knew of the relay: it takes the older log, and makes it grow beyond
        mesh.devices[2].index.connection.execute("UPDATE relay SET cursor = 0, head = zeroblob(32), signed = x''")
        mesh.devices[2].index.connection.execute("DELETE FROM relay_log")
        mesh.devices[2].index.connection.execute("DELETE FROM relay_seen")
        await mesh.settled(2)
        for name in (b"third", b"fourth", b"fifth"):
            mesh.write(2, name, name)
            await mesh.settled(2)
        await mesh.until(lambda: len(older[folder_id(mesh)].rows) > 12)
        mesh.start(1)
        await mesh.until(lambda: bool(mesh.devices[1].folder and convicted(mesh, 1, Fault.FORK)), FIND_S)
        await mesh.until(lambda: mesh.files(1) == mesh.files(2))
        assert mesh.files(1).keys() == {b"first", b"second", b"third", b"fourth", b"fifth"}

    live(scenario, relay=TwoFacedRelay)


def without_entries_of(mesh: RelayedMesh, number: int, count: int) -> list[bytes]:
    """The ids of the first entries of a device in the relay's log."""
    rows = the_relay(mesh).log[folder_id(mesh)].rows
    entries = [one for one in rows if one.kind == RecordKind.ENTRY and one.place.device == mesh.device(number)]
    return [one.id for one in entries[:count]]


def moved_behind_the_next(rows: list[Row], entry: bytes) -> Sequence[Row]:
    at = next(number for number, one in enumerate(rows) if one.id == entry)
    return [*rows[:at], rows[at + 1], rows[at], *rows[at + 2 :]]


LIES = {
    "left out": lambda rows, entry: [one for one in rows if one.id != entry],
    "reordered": moved_behind_the_next,
}


@pytest.mark.parametrize("lie", LIES)
def test_a_log_with_a_record_left_out_or_moved_is_proven_by_its_receipts_without_any_contact(lie: str) -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        relay = await begun(mesh, 1, 2)
        mesh.kill(2)
        mesh.part(1, 2)
        mesh.write(1, b"second", b"2")
        await mesh.durable(1)
        mesh.write(1, b"third", b"3")
        await mesh.durable(1)
        entry = without_entries_of(mesh, 1, 3)[1]
        relay.show(mesh.device(2), relay.doctored(folder_id(mesh), lambda rows: LIES[lie](rows, entry), careful=False))
        mesh.start(2)
        await mesh.opened(2)
        await mesh.until(lambda: convicted(mesh, 2, Fault.FORK), FIND_S)
        await mesh.meet(1, 2)
        await mesh.until(lambda: mesh.files(2) == mesh.files(1))
        await stays_convicted(mesh, 2)

    live(scenario, relay=TwoFacedRelay)


@pytest.mark.parametrize("lie", LIES)
def test_a_liar_that_signs_its_receipts_anew_is_proven_at_the_next_contact(lie: str) -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        relay = await begun(mesh, 1, 2)
        mesh.kill(2)
        mesh.part(1, 2)
        mesh.write(1, b"second", b"2")
        await mesh.durable(1)
        mesh.write(1, b"third", b"3")
        await mesh.durable(1)
        entry = without_entries_of(mesh, 1, 3)[1]
        log = relay.doctored(folder_id(mesh), lambda rows: LIES[lie](rows, entry), careful=True)
        relay.show(mesh.device(2), log)
        mesh.start(2)
        await mesh.opened(2)
        reader = mesh.folder(2).reader(relay.keys.device)
        await mesh.until(lambda: reader.cursor.index >= len(log[folder_id(mesh)].rows))
        assert not mesh.folder(2).watch.convicted, "it is a log without fault by itself"
        await mesh.meet(1, 2)
        await mesh.until(lambda: bool(mesh.folder(2).watch.convicted), FIND_S)
        await mesh.until(lambda: mesh.files(2) == mesh.files(1) and len(mesh.files(2)) == 3)
        await stays_convicted(mesh, 2)

    live(scenario, relay=TwoFacedRelay)


def test_a_member_that_the_relay_adds_is_none_and_the_relay_is_not_read_any_further() -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        relay = await begun(mesh, 1)
        members = mesh.folder(1).replica.membership
        spy, ticket = DeviceKeys(b"spy....." * 8), DeviceKeys(b"ticket.." * 8)
        invite = sign_change(
            relay.keys, members.folder, members.head, members.seq + 1,
            Invite(ticket.device, Role.OWNER, 1 << 40, members.epoch, b"box"),
        )  # fmt: skip
        admit = sign_change(
            spy, members.folder, invite.id, members.seq + 2, Admit(ticket.device, Role.OWNER, spy.box_public),
            ticket=ticket,
        )  # fmt: skip
        forged = [row(RecordKind.MEMBERSHIP, invite.data), row(RecordKind.MEMBERSHIP, admit.data)]
        relay.again(relay.doctored(folder_id(mesh), lambda rows: [*rows, *forged], careful=True))
        await mesh.until(lambda: any("change of the members" in item.what for item in mesh.health(1)), FIND_S)
        assert mesh.folder(1).replica.membership == members and not members.is_member(spy.device)
        assert not mesh.folder(1).knows(spy.device) and mesh.files(1) == {b"first": b"1"}
        (item,) = [item for item in mesh.health(1) if "change of the members" in item.what]
        assert item.what.startswith("Docs: ") and short(relay.keys.device) in item.why

    live(scenario, devices=1, relay=TwoFacedRelay)


def test_a_removal_that_the_relay_keeps_back_is_known_and_proven_at_the_next_contact() -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        relay = await begun(mesh, 1, 2, 3)
        mesh.kill(2, 3)
        mesh.part(1, 2)
        await mesh.remove(3)
        await mesh.durable(1)
        removal = mesh.folder(1).replica.membership.head
        await mesh.until(lambda: removal in relay.log[folder_id(mesh)].known)
        relay.show(
            mesh.device(2),
            relay.doctored(folder_id(mesh), lambda rows: [one for one in rows if one.id != removal], careful=True),
        )
        mesh.write(1, b"secret", b"2")
        await mesh.settled(1)
        mesh.start(2)
        await mesh.settled(2)
        assert mesh.folder(2).knows(mesh.device(3)) and nobody_is_accused(mesh, 1, 2)
        await mesh.meet(1, 2)
        await mesh.until(lambda: not mesh.folder(2).knows(mesh.device(3)))
        await mesh.until(lambda: bool(mesh.folder(2).watch.convicted), FIND_S)
        await mesh.until(lambda: mesh.files(2) == {b"first": b"1", b"secret": b"2"})
        await stays_convicted(mesh, 2)

    live(scenario, devices=3, relay=TwoFacedRelay)


def test_an_entry_from_the_other_side_of_a_fork_raises_a_doubt_though_the_two_never_meet() -> None:
    async def scenario(mesh: RelayedMesh) -> None:
        relay = await begun(mesh, 1, 2)
        await mesh.parted(1, 2)
        relay.show(mesh.device(2), relay.copied())
        mesh.write(2, b"yours", b"2")
        mesh.write(1, b"mine", b"2")
        await mesh.durable(1, 2)
        mesh.write(1, b"mine", b"3")
        await mesh.durable(1)
        crossed = [one for one in relay.log[folder_id(mesh)].rows if one.kind == RecordKind.ENTRY][-2:]
        face = relay.faces[mesh.device(2)]
        relay.log, true_log = face, relay.log
        mixed = relay.doctored(folder_id(mesh), lambda rows: [*rows, *crossed], careful=True)
        relay.log = true_log
        relay.show(mesh.device(2), mixed)
        await mesh.until(lambda: bool(mesh.folder(2).watch.doubts), FIND_S)
        (item,) = accusations(mesh, 2)
        assert "was shown another log than this device" in item.what and "not proven" in item.why
        assert not mesh.folder(2).watch.convicted, "it is not proven"
        mesh.kill(2)
        mesh.start(2)
        await mesh.opened(2)
        await mesh.until(lambda: len(accusations(mesh, 2)) == 1)
        await mesh.meet(1, 2)
        await mesh.until(lambda: all(mesh.folder(number).watch.convicted for number in (1, 2)), FIND_S)

    live(scenario, relay=TwoFacedRelay)


def test_a_file_that_is_no_evidence_proves_nothing(tmp_path: Path) -> None:
    nothing = tmp_path / "x.evidence"
    nothing.write_bytes(b"\x96\x01")
    answers = [verify_off_line(nothing), verify_off_line(tmp_path / "absent")]
    assert [answer.returncode for answer in answers] == [7, 3]
    assert "proves nothing" in answers[0].stderr and not answers[0].stdout
