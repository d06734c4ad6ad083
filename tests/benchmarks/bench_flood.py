"""What do strangers cost an agent that syncs? 10,000 spoofed first packets and 200 slow handshakes for each round.

Run: python -m tests.benchmarks.bench_flood [rounds] [MiB]. Two agents on loopback; a file goes from one to the other,
by turns without strangers and with a process of strangers at the port of each agent. Prints MB/s of each round, the
medians, the median of the rounds' ratios (the machine drifts over the rounds, less within one), and the resident memory
of the receiver before and after. What shares the machine slows both.
"""

from __future__ import annotations

import asyncio
import os
import platform
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.meshsync_peer import MeshsyncPair
from tests.support.real_mesh import udp_port
from tests.transport.attackers import Attacker, StalledHello, configuration

ROUNDS = 5
SIZE_MIB = 128
INITIALS = 10_000
HANDSHAKES = 200
INITIALS_SPREAD_S = 1.0  # they arrive within it: a tenth of a transfer at most
RATIO_MIN, GROWTH_MIB_MAX = 0.8, 64


async def strangers(ports: list[int]) -> None:
    """Send everything to each port, then keep the handshakes half done until killed."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    crowd = [Attacker(StalledHello(configuration=configuration()), port) for port in ports for _ in range(HANDSHAKES)]
    for attacker in crowd:
        attacker.start()
    print(flush=True)
    start = time.monotonic()
    for number in range(INITIALS):
        for port in ports:
            head = b"\xc0\0\0\0\x01\x08" + os.urandom(8) + b"\x08" + os.urandom(8) + b"\0"
            sender.sendto(head.ljust(1200, b"\0"), ("127.0.0.1", port))
        if number % 100 == 0:
            await asyncio.sleep(max(0.0, start + number / INITIALS * INITIALS_SPREAD_S - time.monotonic()))
    while True:
        for attacker in crowd:
            await attacker.turn()
        await asyncio.sleep(0.05)


@contextmanager
def flooded(ports: list[int]) -> Iterator[None]:
    """A process of strangers at `ports` until the end."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_flood", "--strangers", *map(str, ports)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield
        assert process.poll() is None, "the strangers gave up"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def transfer(pair: MeshsyncPair, name: str, size: int) -> float:
    """Return the MB/s from the file's last byte saved to the whole file in place on the other side."""
    data = os.urandom(size)
    (pair.source / name).write_bytes(data)
    start = time.monotonic()
    arrived = pair.target / name
    while not (arrived.exists() and arrived.stat().st_size == size):
        if time.monotonic() - start > 300:
            raise SystemExit(f"{name} did not arrive within 300 s")
        time.sleep(0.01)
    spent = time.monotonic() - start
    assert arrived.read_bytes() == data
    for root in (pair.source, pair.target):
        (root / name).unlink(missing_ok=True)
    return size / spent / 1e6


def rss_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / (1 << 20)


def main(rounds: int, size: int) -> int:
    """Print the rounds; return 1 if the flood cost more than it may."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {rounds} rounds")
    with tempfile.TemporaryDirectory() as directory, MeshsyncPair(Path(directory)) as pair:
        ports = [udp_port(pid) for pid in pair.pids]
        transfer(pair, "warm", size)
        quiet, loud, grown = [], [], []
        for number in range(rounds):
            first_loud = bool(number % 2)  # what comes later in a round may be slower for reasons of its own
            if not first_loud:
                quiet.append(transfer(pair, f"quiet{number}", size))
            before = rss_mib(pair.pids[1])
            with flooded(ports):
                loud.append(transfer(pair, f"loud{number}", size))
                grown.append(rss_mib(pair.pids[1]) - before)
            if first_loud:
                quiet.append(transfer(pair, f"quiet{number}", size))
            print(f"quiet {quiet[-1]:.1f} MB/s, flooded {loud[-1]:.1f} MB/s, memory {grown[-1]:+.1f} MiB", flush=True)
    ratio = statistics.median(b / a for a, b in zip(quiet, loud, strict=True))
    print(
        f"medians {statistics.median(quiet):.1f} and {statistics.median(loud):.1f} MB/s, of a round {ratio:.2f}", end=""
    )
    print(f" (at least {RATIO_MIN}); memory at most {max(grown):+.1f} MiB (at most {GROWTH_MIB_MAX})")
    return int(ratio < RATIO_MIN or max(grown) > GROWTH_MIB_MAX)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--strangers"]:
        asyncio.run(strangers([int(word) for word in sys.argv[2:]]))
    given = [int(word) for word in sys.argv[1:]]
    sys.exit(main(given[0] if given else ROUNDS, (given[1] if len(given) > 1 else SIZE_MIB) << 20))
