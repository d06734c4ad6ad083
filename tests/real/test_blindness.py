"""Neither the relay's disk nor the wire shows names, content or who the devices are."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from blake3 import blake3
from msgspec.structs import replace

from meshsync.content.ticket import parse_ticket
from tests.support.real_mesh import Device, Mesh, settle
from tests.support.wire_tap import WireTap

pytestmark = pytest.mark.slow
NAMES = ("salary-negotiation-2031.txt", "divorce-papers", "wistful-heron-target")
TEXT = b"the telling sentence that nobody else may read, 0123456789"
BLOCK = bytes((7 * i * i + 3 * i) % 251 for i in range(32)) * 4096  # one known substring of 32 bytes, often

CONTENTS = {"a text": TEXT, "a file of blocks": BLOCK}


def fill(tree: Path) -> None:
    (tree / NAMES[1]).mkdir()
    (tree / NAMES[1] / NAMES[0]).write_bytes(TEXT)
    (tree / NAMES[1] / "block.bin").write_bytes(BLOCK)
    (tree / "link").symlink_to(NAMES[2])


def secrets() -> dict[str, bytes]:
    named = {name: name.encode() for name in NAMES}
    known = {f"the {how} of {what}": digest for what, data in CONTENTS.items() for how, digest in hashes(data).items()}
    return {**named, **known, "a text": TEXT[:32], "a block": BLOCK[:32], "a device's name": b"anna-private-laptop"}


def hashes(data: bytes) -> dict[str, bytes]:
    """What somebody who has a file would look for, to learn whether others have it too."""
    made = {
        "SHA-256": hashlib.sha256(data).digest(),
        "BLAKE3": blake3(data).digest(),
        "MD5": hashlib.md5(data).digest(),
    }
    return {
        f"{how} {form}": d if form == "raw" else d.hex().encode() for how, d in made.items() for form in ("raw", "hex")
    }


def identities(devices: list[Device]) -> dict[str, bytes]:
    found = {}
    for device in devices:
        name = device.status()["device"]["id"]
        found |= {f"{device.name} raw": bytes.fromhex(name), f"{device.name} hex": name.encode()}
    return found


def found_in(data: bytes, wanted: dict[str, bytes]) -> list[str]:
    return [what for what, value in wanted.items() if value in data]


def test_the_relays_disk_tells_no_name_and_no_content(mesh: Mesh) -> None:
    devices = mesh.pair(["anna-private-laptop", "desk"], relay=True)
    fill(devices[0].tree)
    settle(devices, durable=True)
    mesh.relay.down()
    files = [path for path in mesh.relay.data.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) > 1000, "the relay holds something"
    for path in files:
        assert found_in(path.read_bytes(), secrets()) == [], path
        assert found_in(path.name.encode(), secrets()) == []


def test_the_wire_tells_no_name_no_content_and_no_device(mesh: Mesh) -> None:
    mesh.relay.up()
    with WireTap(mesh.relay.port) as to_relay:
        mesh.relay.url = mesh.relay.url.replace(f":{mesh.relay.port}#", f":{to_relay.port}#")
        laptop = mesh.add("anna-private-laptop")
        desk = mesh.add("desk")
        with WireTap(laptop.port) as to_laptop:
            ticket = replace(parse_ticket(laptop.share()), addresses=(f"127.0.0.1:{to_laptop.port}",))
            desk.join(ticket.text)
            fill(laptop.tree)
            settle([laptop, desk], durable=True)
            wanted = secrets() | identities([laptop, desk])
            for tap in (to_relay, to_laptop):
                assert sum(map(len, tap.seen)) > 10_000, "everything went through the taps"
                assert found_in(b"".join(tap.seen), wanted) == []
