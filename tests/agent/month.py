"""A month of three users' work, and what the folder was at random instants of it, restored and compared (P10).

`python -m tests.agent.month --files 10000 --days 30 --instants 200 --seed 1` in a directory of its own; prints what it
did. Exits 1 if a tree that was restored is not the recorded one.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from meshsync.agent import api_schema as api
from meshsync.runtime import SystemRuntime
from tests.agent.test_agent_any_instant import act
from tests.support.pairing_mesh import Device, Mesh

IN_PLACE_EVERY = 10
ROUNDS_A_DAY = 3
ROUND_NS = 24 * 3600 * 10**9 // ROUNDS_A_DAY
ACTS = 12  # of each user between two rounds
SYNC_S = 600.0
Tree = dict[str, str]


class MovedClock(SystemRuntime):
    """The machine's clock, moved ahead."""

    ahead_ns = 0

    def wall_time_ns(self) -> int:
        return super().wall_time_ns() + self.ahead_ns


@dataclass(frozen=True, slots=True)
class Month:
    """What there is to check: the tree of each span from its first to its last nanosecond."""

    spans: list[tuple[int, int, Tree]]

    def draw(self, chance: random.Random) -> tuple[str, Tree]:
        """Return a random instant as the API takes it, and the tree that there was."""
        first, last, tree = chance.choice(self.spans)
        instant = chance.randint(first, last) / 1e9
        return datetime.fromtimestamp(instant, UTC).isoformat(), tree


def tree_of(top: Path) -> Tree:
    """Return kind, exec bit and digest or target of everything below `top`."""
    found: Tree = {}
    for directory, names, files in os.walk(top):
        names[:] = [name for name in names if name != ".meshsync"]
        for name in (*names, *files):
            path = Path(directory, name)
            if path.is_symlink():
                found[str(path.relative_to(top))] = f"link to {os.readlink(path)}"
            elif path.is_dir():
                found[str(path.relative_to(top))] = "directory"
            else:
                digest = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
                found[str(path.relative_to(top))] = digest + "*" * os.access(path, os.X_OK)
    return found


def fill(tree: Path, count: int, chance: random.Random) -> None:
    """Make `count` small files in directories of a hundred."""
    for number in range(count):
        path = tree / f"{number // 1000}" / f"{number // 100 % 10}" / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(chance.randrange(1, 6000)))


async def synced(devices: list[Device]) -> None:
    for _ in range(2):  # the second time round nobody gets anything new from those who waited before
        for device in devices:
            await device.service.wait(api.WaitRequest(durable=True, timeout_s=SYNC_S))


async def live(mesh: Mesh, clock: MovedClock, devices: list[Device], days: int, chance: random.Random) -> Month:
    """Have all users work at once, `ROUNDS_A_DAY` times a day; conflicts among them are part of it."""
    spans = []
    number = 0
    for _ in range(days * ROUNDS_A_DAY):
        for device in devices:
            places = [path for path in device.tree.glob("*/*") if path.parent.name != ".meshsync" and path.is_dir()]
            for _ in range(ACTS):
                number += 1
                place = chance.choice(places) if places else device.tree
                act(chance, place if place.is_dir() else device.tree, number)
        for device in devices:
            await device.service.rescan("")
        await synced(devices)
        trees = [tree_of(device.tree) for device in devices]
        assert all(tree == trees[0] for tree in trees), "the devices differ"
        first = clock.wall_time_ns()
        clock.ahead_ns += ROUND_NS
        spans.append((first, clock.wall_time_ns(), trees[0]))
    return Month(spans)


async def check(device: Device, month: Month, instants: int, chance: random.Random) -> tuple[int, int, list[float]]:
    """Go to random instants, one after the other; return (wrong trees, paths changed in place, seconds of each).

    Each IN_PLACE_EVERY-th in place, where it is a change for everybody that makes the history longer; the others into a
    directory of their own.
    """
    wrong = changed = 0
    seconds = []
    for number in range(instants):
        at, tree = month.draw(chance)
        in_place = number % IN_PLACE_EVERY == IN_PLACE_EVERY - 1
        with tempfile.TemporaryDirectory() as aside:
            to = "" if in_place else str(Path(aside, "then"))
            request = api.RestoreRequest(path=str(device.tree), at=at, exact=in_place, to=to)
            begun = time.perf_counter()
            done = await device.service.restore(request, lambda done, total: None)
            seconds.append(time.perf_counter() - begun)
            found = tree_of(device.tree if in_place else Path(done.restored_to))
        if in_place:
            changed += done.files - done.unchanged + done.removals
        if found != tree or done.not_restored:
            wrong += 1
            print(at, sorted(found.items() ^ tree.items())[:6], done.skipped[:3], file=sys.stderr)
    return wrong, changed, seconds


async def run(top: Path, files: int, days: int, instants: int, seed: int) -> int:
    """Return the number of instants that did not come back exactly."""
    chance, clock = random.Random(seed), MovedClock()
    mesh = Mesh(top, clock)
    try:
        await mesh.start_relay()
        devices = [await mesh.start(name) for name in ("laptop", "desk", "phone")]
        fill(devices[0].tree, files, chance)
        request = api.ShareRequest(path=str(devices[0].tree), role="writer", expires_s=10**7)
        for device in devices[1:]:
            ticket = (await devices[0].service.share(request, lambda done, total: None)).ticket
            join = api.JoinRequest(ticket=ticket, path=str(device.tree))
            await device.service.join(join, lambda done, total: None)
        await synced(devices)
        begun = time.perf_counter()
        month = await live(mesh, clock, devices, days, chance)
        print(f"{days} days of three users, {files} files: {time.perf_counter() - begun:.0f} s")
        for device in devices[1:]:
            await mesh.stop(device)
        kinds = Counter(value if value == "directory" else "file" for value in month.spans[-1][2].values())
        changes = (await devices[0].service.versions("", False)).versions
        print(f"at the end {dict(kinds)}; changes {dict(Counter(version.change for version in changes))}")
        wrong, changed, seconds = await check(devices[0], month, instants, chance)
        seconds.sort()
        print(f"{instants} instants: {wrong} wrong; {changed} paths changed")
        print(f"seconds of one: median {seconds[len(seconds) // 2]:.2f}, longest {seconds[-1]:.2f}")
        return wrong
    finally:
        await mesh.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--instants", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as top:
        return 1 if asyncio.run(run(Path(top), given.files, given.days, given.instants, given.seed)) else 0


if __name__ == "__main__":
    sys.exit(main())
