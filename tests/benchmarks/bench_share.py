"""How long from `share` to the first file on another device, by a code that is typed, with nothing set up before?

Run: python -m tests.benchmarks.bench_share [rounds]. Anna's laptop and desktop, Ben's notebook and a relay: real
processes by the command lines that people type, each with a home of its own that was empty before the round. Everything
is on loopback, without discovery: codes and files go through the relay or by the addresses that members learn. From
starting `share` on the laptop until the file lies on the other device with equal bytes; nobody thinks or types in
between. The first `share` makes the folder, the second invites to it. Prints the commands, medians and worst.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.support.real_mesh import COMMAND_TIMEOUT_S
from tests.support.typing_people import Desks, Machine, told

ROUNDS = 7
COMMANDS_MAX = 3
POLL_S = 0.002
TEXT = b"Tuesday at nine\n" * 64
FIGURES = (
    "share to file on Anna's desktop",
    "share to file on Ben's notebook",
    "of the first: share returned",
    "of the first: join to file",
    "relay's start to file on all three",
)


def shared(laptop: Machine, other: Machine) -> tuple[float, float]:
    """Share by code; return the seconds from starting `share` to its return, and to the file on `other`."""
    target = other.home / "Docs" / "plan.txt"
    since = time.monotonic()
    join = told(laptop.types("meshsync share ~/Docs"), r"meshsync join [0-9]\S+")
    returned = time.monotonic() - since
    joining = other.begins(join)
    while not has_text(target):
        assert time.monotonic() < since + COMMAND_TIMEOUT_S, other.ended(joining)
        time.sleep(POLL_S)
    there = time.monotonic() - since
    other.ended(joining)
    return returned, there


def has_text(path: Path) -> bool:
    """Whether the file is there, with every byte."""
    try:
        return path.read_bytes() == TEXT
    except FileNotFoundError:
        return False


def one_round(directory: Path) -> tuple[list[float], list[Machine]]:
    """Do everything once from nothing; return the figures and the machines with what was typed."""
    with Desks(directory) as desks:
        (desks.laptop.home / "Docs").mkdir()
        (desks.laptop.home / "Docs" / "plan.txt").write_bytes(TEXT)
        since = time.monotonic()
        up = desks.relay_up()
        for device, person in ((desks.laptop, "Anna"), (desks.desktop, "Anna"), (desks.notebook, "Ben")):
            device.types(f"{up} --person {person}")
        returned, first = shared(desks.laptop, desks.desktop)
        _, second = shared(desks.laptop, desks.notebook)
        whole = time.monotonic() - since
        assert all(len(device.typed) <= COMMANDS_MAX for device in desks.devices)
        return [first, second, returned, first - returned, whole], [desks.relay, *desks.devices]


def main(rounds: int) -> None:
    """Print what was typed and the table."""
    figures = []
    machines: list[Machine] = []
    for number in range(rounds):
        with tempfile.TemporaryDirectory(prefix="bench-share-") as name:
            found, machines = one_round(Path(name))
        figures.append(found)
        print(f"round {number + 1}: " + "  ".join(f"{value:.2f}" for value in found), file=sys.stderr)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; {rounds} rounds")
    for machine in machines:
        print(f"{machine.name}: {len(machine.typed)} command{'s' * (len(machine.typed) != 1)}")
        for line in machine.typed:
            print(f"    $ {line}")
    print(f"{'seconds':38} {'median':>8} {'worst':>8}")
    for what, values in zip(FIGURES, zip(*figures, strict=True), strict=True):
        print(f"{what:38} {statistics.median(values):8.2f} {max(values):8.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
