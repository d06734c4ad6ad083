"""Pairing by code between real processes: at an address, through a relay, and what a wrong word costs."""

from __future__ import annotations

import re
import stat

import pytest

from tests.support.real_mesh import Device, Mesh, differences, settle

pytestmark = pytest.mark.slow


def code_of(device: Device) -> tuple[str, str]:
    """Share the tree; return the code and an address for it."""
    shared = device.cli("share", str(device.tree))
    assert re.fullmatch(r"[1-9][0-9]{0,3}(-[a-z]{3,8}){3}", shared["code"])
    return shared["code"], shared["addresses"][0]


def mistyped(code: str) -> str:
    return code.rpartition("-")[0] + ("-zone" if code.endswith("-zoo") else "-zoo")


def test_a_code_pairs_two_devices_without_a_relay_and_a_third_at_its_own(mesh: Mesh) -> None:
    laptop, desk, phone = (mesh.add(name) for name in ("laptop", "desk", "phone"))
    (laptop.tree / "note").write_text("hello")
    code, address = code_of(laptop)
    joined = desk.cli("join", code.replace("-", " ").upper(), str(desk.tree), "--address", address)
    assert (joined["device"], joined["files"], joined["route"]) == ("laptop", 1, "lan")
    phone.cli("join", code, str(phone.tree), "--address", address, code=1)
    assert not list(phone.tree.iterdir())
    code, address = code_of(laptop)
    phone.cli("join", code, str(phone.tree), "--address", address)
    settle([laptop, desk, phone])
    assert differences([laptop, desk, phone]) == []


def test_a_code_pairs_through_a_relay_that_both_know(mesh: Mesh) -> None:
    mesh.relay.up()
    laptop, desk = mesh.add("laptop"), mesh.add("desk")
    (laptop.tree / "note").write_text("hello")
    code, _ = code_of(laptop)
    assert desk.cli("join", code, str(desk.tree))["route"] == "relay"
    settle([laptop, desk])
    assert (desk.tree / "note").read_text() == "hello"
    words = code.split("-")[1:]
    mesh.relay.down()
    stored = b"".join(path.read_bytes() for path in mesh.relay.data.rglob("*") if path.is_file())
    assert "-".join(words).encode() not in stored and " ".join(words).encode() not in stored


@pytest.mark.parametrize("relayed", [False, True], ids=["at an address", "through a relay"])
def test_a_wrong_word_ends_the_code_and_the_next_share_makes_another(mesh: Mesh, relayed: bool) -> None:
    if relayed:
        mesh.relay.up()
    laptop, desk = mesh.add("laptop"), mesh.add("desk")
    (laptop.tree / "note").write_text("hello")
    code, address = code_of(laptop)
    place = () if relayed else ("--address", address)
    desk.cli("join", mistyped(code), str(desk.tree), *place, code=1)
    assert [item["what"] for item in laptop.status()["health"]] == [
        f"laptop: code {code.split('-')[0]} was tried with wrong words and admits nobody any more"
    ]
    assert not list(desk.tree.iterdir())
    (invited,) = laptop.cli("invitations")["invitations"]
    assert invited["code"] == "tried in vain"
    assert laptop.cli("revoke", "laptop", invited["id"], "--yes")["revoked"] == [invited["id"]]
    code, address = code_of(laptop)
    desk.cli("join", code, str(desk.tree), *(() if relayed else ("--address", address)))
    settle([laptop, desk])


def test_a_ticket_lives_through_a_restart_of_the_inviter_and_is_a_picture_too(mesh: Mesh) -> None:
    laptop, desk = mesh.add("laptop"), mesh.add("desk")
    (laptop.tree / "note").write_text("hello")
    picture = mesh.directory / "ticket.svg"
    shared = laptop.cli("share", str(laptop.tree), "--qr", str(picture))
    assert stat.S_IMODE(picture.stat().st_mode) == 0o600
    laptop.down()
    laptop.up()
    desk.join(shared["ticket"])
    settle([laptop, desk])
    assert (desk.tree / "note").read_text() == "hello"
