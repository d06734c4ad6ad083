"""Damage at rest on one of two relays is found by its own scrub, told, and repaired: from the other one, from devices,
and nothing damaged is ever given out (P9, P19, B12)."""

from __future__ import annotations

import contextlib
import json
import os
import random
import sqlite3
import subprocess
from pathlib import Path

import pytest

from meshsync.ids import BlobId
from meshsync.store.packs import PackStore
from tests.real.test_safeguards import files, fill
from tests.real.trees import observe
from tests.support.real_mesh import BIN, Device, Mesh, Relay, settle, until

pytestmark = pytest.mark.slow
FILES = 600
EDITED = 60
SHARE = 0.01  # of all blobs, damaged; and as many deleted


def held(relay: Relay) -> tuple[int, int]:
    """Return how many blobs a relay's catalog lists as whole, and as damaged; it may run."""
    with contextlib.closing(sqlite3.connect(f"file:{relay.data}/chunks/catalog.sqlite?mode=ro", uri=True)) as catalog:
        ((whole,),) = catalog.execute("SELECT count(*) FROM blobs")
        ((damaged,),) = catalog.execute("SELECT count(*) FROM damaged")
    return whole, damaged


def scrubbed(relay: Relay) -> int:
    """Scrub a relay that is stopped; return how many blobs are damaged."""
    done = subprocess.run(
        [str(BIN / "meshsync-relay"), "scrub", "--data", str(relay.data), "--json"],
        capture_output=True,
        timeout=120,
        check=False,
    )
    damaged = json.loads(done.stdout)["damaged"]
    assert done.returncode == (7 if damaged else 0)
    return len(damaged)


def hurt(relay: Relay, chance: random.Random) -> tuple[list[BlobId], list[BlobId]]:
    """Flip a bit of some blobs on the disk of a stopped relay and lose as many; return which."""
    chunks = relay.data / "chunks"
    store = PackStore(chunks)
    try:
        every = list(store.ids())
        count = max(1, round(len(every) * SHARE))
        chosen = chance.sample(every, 2 * count)
        places = [store._place(blob) for blob in chosen[:count]]
        store.delete(chosen[count:])
    finally:
        store.close()
    for place in places:
        (pack,) = chunks.glob(f"{place.pack:016x}.pack")
        with pack.open("r+b") as file:
            at = place.offset + chance.randrange(place.size)
            file.seek(at)
            byte = file.read(1)
            os.pwrite(file.fileno(), bytes([byte[0] ^ 1 << chance.randrange(8)]), at)
    return chosen[:count], chosen[count:]


def until_repaired(relay: Relay, whole: int, devices: list[Device]) -> None:
    """Start a relay that was scrubbed, and wait until it has `whole` blobs again, every byte as it was."""
    relay.up()
    until(lambda: held(relay) == (whole, 0), lambda: (held(relay), [device.status()["health"] for device in devices]))
    until(lambda: all(not device.status()["health"] for device in devices), lambda: [d.status() for d in devices])
    assert all(device.folder()["not_durable"] == 0 for device in devices)
    relay.down()
    assert relay.ask("check")["problems"] == []
    assert scrubbed(relay) == 0


@pytest.fixture
def first(mesh: Mesh, tmp_path: Path) -> Relay:
    mesh.relay.up()
    return mesh.relay


def test_one_of_two_relays_is_repaired_from_the_other_and_from_devices(
    mesh: Mesh, first: Relay, tmp_path: Path
) -> None:
    chance = random.Random(5)
    (tmp_path / "second").mkdir()
    second = Relay(tmp_path / "second")
    second.up()
    try:
        laptop = mesh.add("laptop", "--relay", second.url)
        fill(laptop.tree, FILES)
        settle([laptop], durable=True)
        desk = mesh.add("desk", "--relay", second.url)
        desk.join(laptop.share())
        settle([laptop, desk], durable=True)
        before = {path.name: path.read_bytes() for path in files(laptop.tree)[:EDITED]}
        for name in before:  # what they held is at the relays only from now on
            (path,) = laptop.tree.rglob(name)
            path.write_bytes(chance.randbytes(2000))
        laptop.rescan()
        settle([laptop, desk], durable=True)
        until(lambda: all(device.folder()["not_durable"] == 0 for device in (laptop, desk)), laptop.status)
        good = observe(laptop.tree)

        first.down()
        whole, _ = held(first)
        damaged, deleted = hurt(first, chance)
        assert scrubbed(first) == len(damaged) >= 6 and len(deleted) >= 6
        until_repaired(first, whole, [laptop, desk])

        second.down()  # the first one alone gives every old version
        first.up()
        for name, content in before.items():
            (path,) = desk.tree.rglob(name)
            out = tmp_path / "out" / name
            desk.cli("restore", f"{path}@1", "--to", str(out))
            assert (out / name).read_bytes() == content
        assert observe(desk.tree) == good
    finally:
        second.down()


def test_with_only_devices_left_all_that_they_have_is_repaired(mesh: Mesh, first: Relay) -> None:
    chance = random.Random(6)
    laptop, desk = mesh.add("laptop"), mesh.add("desk")
    fill(laptop.tree, FILES)
    desk.join(laptop.share())
    settle([laptop, desk], durable=True)
    first.down()
    whole, _ = held(first)
    damaged, deleted = hurt(first, chance)
    assert scrubbed(first) == len(damaged) >= 6 and len(deleted) >= 6
    laptop.down()  # whoever wrote it is off
    until_repaired(first, whole, [desk])
