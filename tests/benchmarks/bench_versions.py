"""What do 1,000 versions of one file of 10 MiB cost, and how fast is an old one back? Beside restic, same history.

Run: python -m tests.benchmarks.bench_versions [versions] [MiB] [alone]. A relay and one agent, real processes on
loopback; between two versions a small edit: bytes overwritten, inserted or removed somewhere, or appended. Each version
is durable before the next. restic backs up the same file after each edit. Prints what lies on the relay's disk and in
restic's repository, the time of `log`, and of 20 versions that are restored and compared, with their content on this
disk or at the relay. Needs restic (a Debian package), unless `alone`.
"""

from __future__ import annotations

import hashlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.real_mesh import Device, Mesh

MIB = 1 << 20
RESTORED = 20


def edit(data: bytearray, chance: random.Random) -> None:
    """Change a little, as an editor or a database would."""
    at, size = chance.randrange(len(data)), chance.randrange(1, 200)
    kind = chance.randrange(4)
    if kind == 0:
        data[at : at + size] = chance.randbytes(len(data[at : at + size]))
    elif kind == 1:
        data[at:at] = chance.randbytes(size)
    elif kind == 2:
        del data[at : at + size]
    else:
        data += chance.randbytes(size)


def disk_bytes(top: Path) -> int:
    """Return the bytes of all files below `top`."""
    return sum(path.stat().st_size for path in top.rglob("*") if path.is_file())


class Restic:
    """A repository that backs up one directory."""

    def __init__(self, repository: Path) -> None:
        self.repository = repository
        self._environment = {**os.environ, "RESTIC_PASSWORD": "bench", "RESTIC_CACHE_DIR": str(repository) + ".cache"}
        self._run("init")

    def backup(self, tree: Path) -> None:
        self._run("backup", "--quiet", "--exclude", ".meshsync", str(tree))

    def restore(self, snapshot: str, target: Path) -> None:
        self._run("restore", snapshot, "--target", str(target))

    def snapshots(self) -> list[str]:
        listed = self._run("snapshots", "--compact").splitlines()
        return [line.split()[0] for line in listed if len(line.split()[0:1]) and len(line.split()[0]) == 8]

    def _run(self, *words: str) -> str:
        line = ["restic", "--repo", str(self.repository), *words]
        done = subprocess.run(line, capture_output=True, text=True, env=self._environment, check=True)
        return done.stdout


def measure(top: Path, versions: int, size: int, beside: bool) -> None:
    chance = random.Random(1)
    data = bytearray(chance.randbytes(size))
    with Mesh(top) as mesh:
        mesh.relay.up()
        laptop = mesh.add("laptop")
        laptop.share()
        restic = Restic(top / "restic") if beside else None
        digests, peer_s, own_s = [], [], []
        for _ in range(versions):
            (top / "next").write_bytes(data)
            (top / "next").replace(laptop.tree / "file.bin")  # as editors save: nobody sees half of it
            digests.append(hashlib.blake2b(data).digest())
            begun = time.perf_counter()
            laptop.client.post("/rescan", folder="")
            laptop.wait(durable=True)
            own_s.append(time.perf_counter() - begun)
            if restic is not None:
                begun = time.perf_counter()
                restic.backup(laptop.tree)
                peer_s.append(time.perf_counter() - begun)
            edit(data, chance)
        own = disk_bytes(mesh.relay.data)
        print(f"{versions} versions of {size / MIB:.0f} MiB: {versions * size / MIB:.0f} MiB of content")
        print(f"relay: {own / MIB:.1f} MiB; until durable: median {statistics.median(own_s):.2f} s")
        if restic is not None:
            peer = disk_bytes(restic.repository)
            print(f"restic: {peer / MIB:.1f} MiB, ratio {own / peer:.3f}; backup: {statistics.median(peer_s):.2f} s")
        print(f"of the agent beside the file: {disk_bytes(laptop.home.path) / MIB:.1f} MiB")
        times(laptop, restic, digests, top, chance)


def times(laptop: Device, restic: Restic | None, digests: list[bytes], top: Path, chance: random.Random) -> None:
    path = str(laptop.tree / "file.bin")
    listing = []
    for _ in range(5):
        begun = time.perf_counter()
        listed = laptop.client.get("/log", path=path)["versions"]
        listing.append(time.perf_counter() - begun)
    assert len(listed) == len(digests), (len(listed), len(digests))
    print(f"list of {len(listed)} versions: median {statistics.median(listing) * 1000:.0f} ms")
    own, peer, wrong = [], [], 0
    snapshots = [] if restic is None else restic.snapshots()
    for number in chance.sample(range(1, len(digests) + 1), min(RESTORED, len(digests))):
        out = top / f"out {number}"
        begun = time.perf_counter()
        laptop.client.job("/restores", None, path=path, version=str(number), to=str(out))
        own.append(time.perf_counter() - begun)
        wrong += hashlib.blake2b((out / "file.bin").read_bytes()).digest() != digests[number - 1]
        if restic is not None:
            begun = time.perf_counter()
            restic.restore(snapshots[number - 1], top / f"restic out {number}")
            peer.append(time.perf_counter() - begun)
    print(f"one of {len(own)} restored: median {statistics.median(own):.2f} s, longest {max(own):.2f} s, {wrong} wrong")
    if peer:
        print(f"restic restore: median {statistics.median(peer):.2f} s")


def main() -> None:
    versions = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    size = int(sys.argv[2]) * MIB if len(sys.argv) > 2 else 10 * MIB
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as top:
        measure(Path(top), versions, size, "alone" not in sys.argv)


if __name__ == "__main__":
    main()
