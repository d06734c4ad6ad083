"""How fast is a change on one device identical on the other, and what does it cost? meshsync beside Syncthing.

`python -m tests.benchmarks.bench_sync [--quick] [--only meshsync|syncthing]`. Two processes on loopback, the same
inputs (fixed seeds), the same run. Times are from the last byte saved until the other side shows the file with its
size and mtime; then every byte is compared, outside the time. Prints one line per figure: meshsync, Syncthing, ratio.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tests.benchmarks import syncthing_peer
from tests.benchmarks.meshsync_peer import MeshsyncPair
from tests.benchmarks.syncthing_peer import SyncthingPair
from tests.real.trees import compare_trees, incompressible, small_files

MIB = 1 << 20
TIMEOUT_S = 600.0
POLL_S = 0.002
EDITS = 20
IDLE_S = 10.0
EDIT = b"twelve bytes"


class Pair(Protocol):
    """Two peers that keep `source` and `target` equal."""

    name: str
    source: Path
    target: Path
    pids: list[int]

    def changed(self) -> None: ...

    def sent_bytes(self) -> int: ...


def until(reached: Callable[[], bool], what: str) -> None:
    """Return when `reached` holds."""
    deadline = time.monotonic() + TIMEOUT_S
    while not reached():
        assert time.monotonic() < deadline, f"not reached: {what}"
        time.sleep(POLL_S)


def shows(target: Path, text: str) -> bool:
    """Whether `target` holds `text`; a rival takes the path away for a moment while it replaces it."""
    try:
        return target.read_text() == text
    except FileNotFoundError:
        return False


def arrival(made: Path, target: Path) -> float:
    """Return when `target` had the size and mtime of `made`, which both products set last; then check every byte."""

    def complete() -> bool:
        try:
            found, wanted = target.stat(), made.stat()
        except FileNotFoundError:
            return False
        return (found.st_size, found.st_mtime_ns) == (wanted.st_size, wanted.st_mtime_ns)

    until(complete, f"{target} has arrived")
    at = time.monotonic()
    filecmp.clear_cache()
    assert filecmp.cmp(made, target, shallow=False), f"{target} differs"
    return at


def large_file(pair: Pair, size_bytes: int) -> float:
    """Return MB/s for one incompressible file."""
    made, target = pair.source / "large.bin", pair.target / "large.bin"
    incompressible(made, size_bytes)
    since = time.monotonic()
    pair.changed()
    spent = arrival(made, target) - since
    return size_bytes / spent / 1e6


def many_small(pair: Pair, count: int) -> float:
    """Return files/s for many small files."""
    small_files(pair.source / "small", count)
    since = time.monotonic()
    pair.changed()
    directories = [pair.target / "small" / f"{number:02}" for number in range(100)]

    def complete() -> bool:
        return (
            all(path.is_dir() for path in directories) and sum(len(os.listdir(path)) for path in directories) >= count
        )

    until(complete, "all small files are there")
    spent = time.monotonic() - since
    assert compare_trees(pair.source / "small", pair.target / "small") == []
    return count / spent


def visible_delay(pair: Pair) -> float:
    """Return the median of seconds from saving a small file to reading it at the other side."""
    made, target = pair.source / "note.txt", pair.target / "note.txt"
    delays = []
    for number in range(EDITS):
        text = f"edit {number}\n"
        made.write_text(text)
        since = time.monotonic()
        until(lambda text=text: shows(target, text), "the edit is visible")  # type: ignore[misc]
        delays.append(time.monotonic() - since)
        time.sleep(0.3)  # edits of a person, not a burst
    return statistics.median(delays)


def edit_bytes(pair: Pair) -> float:
    """Return the bytes sent for 12 changed bytes in the middle of the large file."""
    made, target = pair.source / "large.bin", pair.target / "large.bin"
    before = pair.sent_bytes()
    with made.open("r+b") as file:
        file.seek(made.stat().st_size // 2)
        file.write(EDIT)
    pair.changed()
    arrival(made, target)
    return float(pair.sent_bytes() - before)


def resident_mib(pair: Pair) -> float:
    """Return the larger resident set of the two peers, children included."""
    return max(sum(_status_kib(pid, "VmRSS") for pid in _family(root)) for root in pair.pids) / 1024


def idle_percent(pair: Pair) -> float:
    """Return the CPU use of both peers together with nothing to do, in percent of one core."""
    time.sleep(IDLE_S / 2)
    pids = [pid for root in pair.pids for pid in _family(root)]
    before, since = sum(map(_cpu_s, pids)), time.monotonic()
    time.sleep(IDLE_S)
    return 100 * (sum(map(_cpu_s, pids)) - before) / (time.monotonic() - since)


def _family(root: int) -> list[int]:
    threads = Path(f"/proc/{root}/task").iterdir()  # a child belongs to the thread that made it
    children = [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    return [root, *(pid for child in children for pid in _family(child))]


def _status_kib(pid: int, field: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(make: Callable[[Path], MeshsyncPair | SyncthingPair], *, quick: bool) -> dict[str, float]:
    """Return every figure of one product."""
    size_bytes, count = (64 * MIB, 1000) if quick else (1024 * MIB, 10_000)
    with tempfile.TemporaryDirectory(prefix="bench-sync-") as name, make(Path(name)) as pair:
        return {
            "first sync, MB/s": large_file(pair, size_bytes),
            "small files, files/s": many_small(pair, count),
            "save to visible, p50 s": visible_delay(pair),
            "12-byte edit, bytes sent": edit_bytes(pair),
            "resident, MiB": resident_mib(pair),
            "idle CPU, % of a core": idle_percent(pair),
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="64 MiB and 1,000 files")
    parser.add_argument("--only", choices=("meshsync", "syncthing"))
    given = parser.parse_args()
    makes = {"meshsync": MeshsyncPair, "syncthing": SyncthingPair}
    if syncthing_peer.PROGRAM is None:
        del makes["syncthing"]
    chosen = [given.only] if given.only else list(makes)
    found = {name: measure(makes[name], quick=given.quick) for name in chosen}
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{'':28}" + "".join(f"{name:>14}" for name in chosen) + f"{'ratio':>10}")
    for figure in found[chosen[0]]:
        values = [found[name][figure] for name in chosen]
        ratio = f"{values[0] / values[1]:10.2f}" if len(values) == 2 and values[1] else ""
        print(f"{figure:28}" + "".join(f"{value:14,.2f}" for value in values) + ratio)


if __name__ == "__main__":
    main()
