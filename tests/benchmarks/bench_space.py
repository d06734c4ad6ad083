"""What does a file cost beside its content, at a relay and in a device's index?

Run: python -m tests.benchmarks.bench_space [files] [bytes]. A relay and two agents, real processes on loopback; files
of random bytes, 100 in a directory. Prints bytes per file and per blob: of the relay's disk beyond the content, by
where they are, and of each device's index, by table.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.bench_versions import disk_bytes
from tests.support.real_mesh import Mesh

SETTLE_S = 3600.0


def fill(tree: Path, count: int, size: int) -> int:
    """Make `count` files of about `size` bytes; return the bytes of all."""
    chance, total = random.Random(1), 0
    for number in range(count):
        path = tree / f"{number // 10_000}" / f"{number // 100 % 100}" / f"document {number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        data = chance.randbytes(chance.randrange(size // 2, size * 3 // 2))
        total += len(data)
        path.write_bytes(data)
    return total


def rows(path: Path, table: str) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def tables(path: Path) -> list[tuple[str, int]]:
    """Return the bytes of each table and index, largest first; nothing where SQLite cannot tell."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        try:
            found = db.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name ORDER BY 2 DESC").fetchall()
        except sqlite3.OperationalError:
            return []
    return [(name, int(size)) for name, size in found]


def measure(top: Path, count: int, size: int) -> None:
    with Mesh(top) as mesh:
        mesh.relay.up()
        laptop = mesh.add("laptop")
        ticket = laptop.share()
        content = fill(laptop.tree, count, size)
        begun = time.perf_counter()
        laptop.rescan()
        laptop.wait(durable=True, timeout_s=SETTLE_S)
        print(f"{count} files, {content} bytes: durable after {time.perf_counter() - begun:.0f} s")
        desk = mesh.add("desk")
        begun = time.perf_counter()
        desk.join(ticket)
        desk.wait(durable=True, timeout_s=SETTLE_S)
        print(f"and on another device after {time.perf_counter() - begun:.0f} s")
        devices = [laptop, desk]
        indexes = [next(device.home.path.rglob("index.sqlite3")) for device in devices]
        for device in devices:
            device.down()
        mesh.relay.down()
        relay = mesh.relay.data
        blobs = rows(relay / "log.sqlite", "blobs")
        packs = disk_bytes(relay / "chunks")
        whole = disk_bytes(relay)
        print(f"relay: {whole} bytes, {blobs} blobs: {(whole - content) / count:.0f} bytes a file beyond its content")
        log, catalog = disk_bytes(relay) - packs, (relay / "chunks" / "catalog.sqlite").stat().st_size
        print(f"  log {log / count:.0f}, catalog {catalog / count:.0f}, packs beyond content", end=" ")
        print(f"{(packs - catalog - content) / count:.0f} a file; {(whole - content) / blobs:.0f} in all a blob")
        for name, held in tables(relay / "log.sqlite")[:6]:
            print(f"    {name}: {held / count:.0f} a file")
        for device, index in zip(devices, indexes, strict=True):
            held = sum(path.stat().st_size for path in index.parent.glob("index.sqlite3*"))
            print(f"index of {device.name}: {held / count:.0f} bytes a file")
            for name, part in tables(index)[:12]:
                print(f"    {name}: {part / count:.0f} a file")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    size = int(sys.argv[2]) if len(sys.argv) > 2 else 2000
    with tempfile.TemporaryDirectory() as top:
        measure(Path(top), count, size)


if __name__ == "__main__":
    main()
