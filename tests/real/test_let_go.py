"""Versions are let go of while relay and agent are killed at any moment: nothing that is kept is lost (P10, B22)."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from meshsync.metalog.record_log import RecordKind
from tests.real.trees import observe
from tests.support.real_mesh import BIN, Device, Mesh, Relay, clean_environment, settle, until

pytestmark = pytest.mark.slow
ROUNDS = int(os.environ.get("MESHSYNC_TEST_LET_GO_ROUNDS", "8"))
CONTENTS = [random.Random(number).randbytes(20_000 + number) for number in range(12)]
"""Few: what is let go of is soon written again."""


def write(tree: Path, chance: random.Random) -> None:
    """Change some files, as their user does, to what was there before, or to something new."""
    for _ in range(chance.randrange(3, 9)):
        path = tree / f"file {chance.randrange(10)}"
        if chance.random() < 0.2:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(chance.choice(CONTENTS) if chance.random() < 0.7 else chance.randbytes(30_000))


def collecting(device: Device) -> threading.Thread:
    """Type `meshsync gc` without waiting for it; a killed agent gives no answer."""
    line = [str(BIN / "meshsync"), "gc", "--home", str(device.home.path)]

    def run() -> None:
        subprocess.run(line, capture_output=True, timeout=120, env=clean_environment(), check=False)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def let_go(relay: Relay) -> tuple[int, int]:
    """Return how often a relay let go of something, and of how many stored records."""
    with contextlib.closing(sqlite3.connect(f"file:{relay.data}/log.sqlite?mode=ro", uri=True)) as log:
        ((runs,),) = log.execute("SELECT count(*) FROM records WHERE kind = ?", (int(RecordKind.COLLECTED),))
        ((dead,),) = log.execute("SELECT count(*) FROM records WHERE dead = 1")
    return runs, dead


def test_relay_and_agent_are_killed_while_versions_go(mesh: Mesh, tmp_path: Path) -> None:
    chance = random.Random(7)
    mesh.relay.program = (sys.executable, str(Path(__file__).parents[1] / "support" / "hasty_relay.py"))
    (laptop,) = mesh.pair(["laptop"], relay=True)
    ticket = laptop.share()
    name = laptop.folder()["name"]
    laptop.cli("retention", name, "--all", "0d")
    wanted = {}
    kills = 0
    for turn in range(ROUNDS):
        write(laptop.tree, chance)
        if turn % 4 == 1:
            laptop.cli("rescan")
            laptop.cli("snapshot", f"point {turn}", name)
            wanted[f"point {turn}"] = observe(laptop.tree)
        at_work = collecting(laptop)
        write(laptop.tree, chance)
        time.sleep(chance.random() * 1.5)
        if turn % 2:
            mesh.relay.kill9()
            mesh.relay.up()
        else:
            laptop.kill9()
            laptop.up()
        kills += 1
        at_work.join()
    settle([laptop], durable=True)
    for _ in range(3):
        laptop.cli("gc", name)
        settle([laptop], durable=True)
    until(lambda: not laptop.cli("retention", name)["folders"][0]["waiting"], lambda: laptop.cli("retention", name))
    assert laptop.cli("gc", name, "--dry-run")["folders"][0]["versions"] == 0
    assert laptop.status()["health"] == []
    now = observe(laptop.tree)
    mesh.relay.down()
    assert mesh.relay.ask("check")["problems"] == []
    mesh.relay.up()
    desk = mesh.add("desk")
    desk.join(ticket)
    settle([laptop, desk], durable=True)
    laptop.down()
    assert observe(desk.tree) == now
    checked = len(now)
    for point, tree in wanted.items():
        done = desk.cli("restore", str(desk.tree), "--at", point, "--to", str(tmp_path / point))
        assert observe(Path(done["restored_to"])) == tree
        checked += len(tree)
    runs, dead = let_go(mesh.relay)
    assert runs >= 2 and dead >= runs
    print(f"{kills} kills, {runs} runs of the relay let go of {dead} stored records")
    print(f"{len(wanted)} snapshots and the present: {checked} paths as they were")
