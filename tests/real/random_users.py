"""Three users at real agents and a relay, seeded: they write, move and remove while devices and the relay are stopped,
killed and out of reach; then everything rests, and every value is accounted for.

    python -m tests.real.random_users --minutes 60 --seed 1

The seed decides what is tried; what the agents do meanwhile is up to the machine. The history file says what happened.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.real import random_users_acts as acts
from tests.real.random_users_check import Failure, History, account, rest
from tests.real.random_users_hands import Hands
from tests.real.random_users_ledger import Ledger
from tests.real.random_users_weather import Weather
from tests.real.trees import Found, observe
from tests.support.real_mesh import Mesh

PAUSES_S = (0.0, 0.0, 0.0, 0.0, 0.01, 0.05, 0.2, 0.5)  # between two acts, within an agent's round or longer
CHANGE_OF_WEATHER = 0.08  # after an act
ALONE = 0.25  # of the rounds: one user acts, so the outcome is known
RELAY_KILLED = 0.2


@dataclass
class Counts:
    """What a run has seen."""

    rounds: int = 0
    acts: Counter[str] = field(default_factory=Counter)
    moves: int = 0
    conflicts: int = 0
    kills: int = 0
    values: int = 0
    versions_read: int = 0

    def __str__(self) -> str:
        numbers = {name: value for name, value in vars(self).items() if name != "acts"}
        return ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in numbers.items())


def run(directory: Path, seed: int, goes_on: Callable[[Counts], bool], *, relay_killed: float = RELAY_KILLED) -> Counts:
    """Let users act below `directory`, round by round while `goes_on`; return what was seen.

    Raises Failure, with the seed and the path of the history in its text, at the first broken promise; trees, homes and
    logs are left as they are.
    """
    generator = random.Random(seed)
    ledger, counts = Ledger(directory / "history.txt"), Counts()
    conflicts: set[str] = set()
    try:
        with Mesh(directory) as mesh:
            devices = mesh.pair(["ann", "bob", "cid"], relay=True)
            trash = directory / "trash"
            trash.mkdir()
            users = [Hands(device.name, device.tree, trash, ledger, generator) for device in devices]
            weather, history = Weather(mesh, ledger, generator, relay_killed), History(generator)
            for name in acts.DIRECTORY_NAMES[:2]:
                (users[0].tree / name).mkdir()
                users[0].create(users[0].tree / name / "a", acts.text(users[0]))
            rest(devices)
            while goes_on(counts):
                counts.rounds += 1
                alone = generator.choice(users) if generator.random() < ALONE else None
                ledger.note("round", counts.rounds, f"{alone.name} alone" if alone else "all")
                for _ in range(generator.randrange(8, 40)):
                    done = acts.act(alone or generator.choice(users))
                    counts.acts[done] += 1
                    counts.moves += done in acts.MOVES
                    time.sleep(generator.choice(PAUSES_S))
                    if generator.random() < CHANGE_OF_WEATHER:
                        weather.change()
                wanted = observe(alone.tree) if alone else None
                weather.clear()
                ledger.note("rest")
                rest(devices)
                if alone is not None and wanted != observe(alone.tree):
                    raise Failure(
                        f"{alone.name} was alone, but the trees became {_changed(wanted, observe(alone.tree))}"
                    )
                conflicts |= account(users[0], ledger)
                history.check(devices)
                counts.conflicts, counts.kills = len(conflicts), weather.kills
                counts.values, counts.versions_read = ledger.made, history.read
                print(f"seed {seed}: {counts}")
    except Exception as error:
        ledger.note("failure", error)
        raise Failure(f"seed {seed}, history {ledger.path}: {error}") from error
    finally:
        ledger.close()
    return counts


def _changed(wanted: dict[bytes, Found] | None, found: dict[bytes, Found]) -> str:
    wanted = wanted or {}
    paths = [path for path in sorted(wanted.keys() | found.keys()) if wanted.get(path) != found.get(path)]
    return "; ".join(f"{path!r}: {wanted.get(path)} became {found.get(path)}" for path in paths)


def main() -> int:
    """Run as the command says; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path, help="where to keep everything; default: a temporary directory")
    given = parser.parse_args()
    directory = given.directory or Path(tempfile.mkdtemp(prefix="random-users-"))
    directory.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + given.minutes * 60
    try:
        counts = run(directory, given.seed, lambda _: time.monotonic() < end)
    except Failure as failure:
        print(f"FAILED: {failure}", file=sys.stderr)
        return 1
    print(f"all values accounted for: {counts}")
    print(", ".join(f"{name} {count}" for name, count in counts.acts.most_common()))
    if given.directory is None:
        shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
