"""One of two relays is destroyed in mid-upload: sync and history go on; a blank one in its place gets everything."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from meshsync.metalog.record_log import RecordKind
from tests.real.test_safeguards import files, fill
from tests.real.trees import MIB, incompressible, observe
from tests.support.real_mesh import Device, Mesh, Relay, settle, until

pytestmark = pytest.mark.slow
FILES = 300
EDITED = 30
BIG_BYTES = int(os.environ.get("MESHSYNC_TEST_BIG_MIB", "128")) * MIB


def entries(relay: Relay) -> set[bytes]:
    """Return the ids of all entries and membership entries in a relay's log; it may run."""
    kinds = (int(RecordKind.ENTRY), int(RecordKind.MEMBERSHIP))
    with contextlib.closing(sqlite3.connect(f"file:{relay.data}/log.sqlite?mode=ro", uri=True)) as log:
        return {name for (name,) in log.execute("SELECT id FROM records WHERE kind IN (?, ?)", kinds)}


def blobs(relay: Relay) -> dict[bytes, int]:
    """Return what stored records keep at a relay, with sizes in bytes; it may run."""
    with contextlib.closing(sqlite3.connect(f"file:{relay.data}/log.sqlite?mode=ro", uri=True)) as log:
        return dict(log.execute("SELECT id, size FROM blobs WHERE pinned = 1"))


def sent(device: Device) -> int:
    return int(device.stats()["links"]["relay"]["sent"])


def new_relay(directory: Path) -> Relay:
    directory.mkdir()
    relay = Relay(directory)
    relay.up()
    return relay


def test_sync_and_history_go_on_and_a_blank_relay_is_refilled(mesh: Mesh, tmp_path: Path) -> None:
    chance = random.Random(6)
    mesh.relay.up()
    doomed = new_relay(tmp_path / "doomed")
    third: Relay | None = None
    try:
        laptop = mesh.add("laptop", "--relay", doomed.url)
        fill(laptop.tree, FILES)
        settle([laptop], durable=True)
        desk = mesh.add("desk")
        desk.join(laptop.share())
        old = {path.name: path.read_bytes() for path in files(laptop.tree)[:EDITED]}
        for name in old:
            (path,) = laptop.tree.rglob(name)
            path.write_bytes(chance.randbytes(2000))
        settle([laptop, desk], durable=True)

        before = sent(laptop)
        incompressible(tmp_path / "big.bin", BIG_BYTES)
        (tmp_path / "big.bin").rename(laptop.tree / "big.bin")
        until(lambda: sent(laptop) - before > BIG_BYTES // 3, laptop.folder)
        doomed.kill9()
        shutil.rmtree(doomed.data)
        began = time.monotonic()
        settle([laptop, desk], timeout_s=180)
        until(lambda: laptop.folder()["not_durable"] == 0, laptop.folder, 180)
        print(f"after the loss: in sync and durable again after {time.monotonic() - began:.0f} s")

        (laptop.tree / "after").write_text("the loss")
        settle([laptop, desk])
        for name, content in old.items():  # what only relays have
            (path,) = desk.tree.rglob(name)
            desk.cli("restore", f"{path}@1", "--to", str(tmp_path / "out" / name))
            assert (tmp_path / "out" / name / name).read_bytes() == content

        third = new_relay(tmp_path / "third")
        laptop.down()
        laptop._options = (*laptop._options, "--relay", third.url)
        began = time.monotonic()
        laptop.up()
        whole, lasting = blobs(mesh.relay), entries(mesh.relay)
        until(lambda: third is not None and blobs(third).keys() >= whole.keys(), lambda: third and blobs(third), 240)
        until(lambda: third is not None and entries(third) >= lasting, lambda: "entries", 60)
        took = time.monotonic() - began
        print(
            f"refilled: {len(whole)} blobs, {sum(whole.values()) / MIB:.0f} MiB, {len(lasting)} entries in {took:.0f} s"
        )
        for relay in (mesh.relay, third):
            relay.down()
            assert relay.ask("check")["problems"] == []

        third.up()  # alone, with the first one and the laptop away
        laptop.down()
        shutil.rmtree(tmp_path / "out")
        for name, content in old.items():
            (path,) = desk.tree.rglob(name)
            desk.cli("restore", f"{path}@1", "--to", str(tmp_path / "out" / name))
            assert (tmp_path / "out" / name / name).read_bytes() == content
        assert observe(desk.tree).keys() >= {b"after", b"big.bin"}
    finally:
        for relay in (doomed, third):
            if relay is not None:
                relay.down()
