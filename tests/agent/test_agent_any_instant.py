"""Whatever users did, the tree at any earlier time comes back exactly (P10, P16)."""

from __future__ import annotations

import random
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.agent.test_agent_restoring import Tree, restore, synced, tree_of
from tests.support.pairing_mesh import Device, Mesh, open_mesh

STEPS = 12
ACTS = 4  # of one user between two times


def act(chance: random.Random, tree: Path, number: int) -> None:
    """Do one thing that users do to what lies in `tree`."""
    files = [path for path in sorted(tree.rglob("*")) if ".meshsync" not in path.parts]
    directories = [tree, *(path for path in files if path.is_dir() and not path.is_symlink())]
    there = [path for path in files if path not in directories]
    new = chance.choice(directories) / f"{number}"
    what = chance.randrange(9)
    if what == 0:
        new.mkdir()
    elif what == 1:
        new.symlink_to(f"target {number}")
    elif what <= 3 or not there:
        new.write_bytes(chance.randbytes(chance.choice((0, 10, 90_000))))
    elif what == 4:
        chance.choice(there).unlink()
    elif what == 5:
        chance.choice(there).rename(new)
    elif what == 6 and (below := [path for path in directories[1:] if path not in new.parents]):
        chance.choice(below).rename(new)
    elif what == 7 and len(directories) > 1:
        shutil.rmtree(chance.choice(directories[1:]))
    else:
        edited = chance.choice(there)
        if edited.is_symlink():
            edited.unlink()
        edited.write_bytes(chance.randbytes(chance.choice((5, 90_000))))
        edited.chmod(chance.choice((0o644, 0o755)))


async def history(mesh: Mesh, devices: list[Device], chance: random.Random) -> list[tuple[str, Tree]]:
    """Have each user in turn do a few things; return what all had, each with a time at which it was so."""
    found = []
    for step in range(STEPS):
        device = devices[step % len(devices)]
        for number in range(ACTS):
            act(chance, device.tree, step * ACTS + number)
        await device.service.rescan("")
        await synced(*devices)
        now = datetime.fromtimestamp(mesh.runtime.wall_time_ns() / 1e9, UTC).isoformat()
        found.append((now, tree_of(device.tree)))
    return found


@pytest.mark.parametrize("seed", range(2))
async def test_the_tree_of_any_time_comes_back_on_any_device(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    async with open_mesh(tmp_path) as mesh:
        await mesh.start_relay()
        laptop, desk = await mesh.start("laptop"), await mesh.start("desk")
        (laptop.tree / "first").write_bytes(b"first")
        for number in range(40):  # no safeguard minds what happens to a few of so many
            (laptop.tree / f"stays {number}").write_bytes(b"%d" % number)
        await desk.join((await laptop.share()).ticket)
        await synced(laptop, desk)
        for at, tree in await history(mesh, [laptop, desk], chance):
            device = chance.choice([laptop, desk])
            done = await restore(device, device.tree, at=at, to=str(tmp_path / at))
            assert tree_of(Path(done.restored_to)) == tree
        held = [(await device.service.held_changes("")).held for device in (laptop, desk)]
        assert held == [[], []]
