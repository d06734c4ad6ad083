"""Real input trees and their comparison.

Invariant: `compare_trees` reads both trees without following links, and an empty answer means equal in names, types,
bytes, exec bits, mtimes and link targets. The control directory is not part of a tree.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import stat
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CONTROL_DIRECTORY = b".meshsync"
MIB = 1 << 20
SMALL_MEAN_BYTES = 30_000
SMALL_SIGMA = 1.0  # of the log-normal: a tenth of the files hold half of the bytes
SMALL_MU = 9.809  # log(SMALL_MEAN_BYTES) - SMALL_SIGMA**2 / 2


@dataclass(frozen=True)
class Found:
    """What lies at one path."""

    kind: str
    executable: bool = False
    mtime_ns: int = 0
    content: bytes = b""  # digest of a file, target of a link


def standard_library(target: Path) -> None:
    """Copy the machine's Python library, with symbolic links and empty directories."""
    source = Path(sysconfig.get_path("stdlib"))
    shutil.copytree(
        source, target, symlinks=True, ignore=shutil.ignore_patterns("site-packages", "__pycache__", "test")
    )
    for name in ("empty", "empty/inside", "also empty"):
        (target / name).mkdir()
    (target / "link to a file").symlink_to("os.py")
    (target / "link to a directory").symlink_to("json")
    (target / "link to nothing").symlink_to("../nowhere/at all")
    (target / "run.sh").write_text("#!/bin/sh\n")
    (target / "run.sh").chmod(0o755)


def small_files(target: Path, count: int = 10_000, seed: int = 1) -> int:
    """Make `count` files with log-normal sizes of mean 30 KB in 100 directories; return their bytes in all."""
    generator, total = random.Random(seed), 0
    for number in range(count):
        directory = target / f"{number % 100:02}"
        directory.mkdir(parents=True, exist_ok=True)
        size = min(int(generator.lognormvariate(SMALL_MU, SMALL_SIGMA)), 4 * MIB)
        (directory / f"{number}.bin").write_bytes(generator.randbytes(size))
        total += size
    return total


def incompressible(target: Path, size_bytes: int = 1 << 30, seed: int = 2) -> None:
    """Make one file of random bytes."""
    generator = random.Random(seed)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        for start in range(0, size_bytes, MIB):
            file.write(generator.randbytes(min(MIB, size_bytes - start)))


def compare_trees(one: Path, other: Path, limit: int = 20) -> list[str]:
    """Return at most `limit` differences between two trees, as sentences; empty if they are equal."""
    left, right = observe(one), observe(other)
    found = [f"only in {one}: {path!r}" for path in left.keys() - right.keys()]
    found += [f"only in {other}: {path!r}" for path in right.keys() - left.keys()]
    for path in left.keys() & right.keys():
        if left[path] != right[path]:
            found.append(f"{path!r}: {_difference(left[path], right[path])}")
    return sorted(found)[:limit]


def observe(root: Path) -> dict[bytes, Found]:
    """Return everything below `root` by relative path."""
    base = os.fsencode(root)
    return {os.path.relpath(path, base): _look(path) for path in _walk(base, top=True)}


def _walk(directory: bytes, *, top: bool = False) -> Iterator[bytes]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if top and entry.name == CONTROL_DIRECTORY:
                continue
            yield entry.path
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path)


def _look(path: bytes) -> Found:
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        return Found("link", content=os.readlink(path))
    if stat.S_ISDIR(found.st_mode):
        return Found("directory")
    if not stat.S_ISREG(found.st_mode):
        return Found("special")
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "blake2b").digest()
    return Found("file", bool(found.st_mode & stat.S_IXUSR), found.st_mtime_ns, digest)


def _difference(left: Found, right: Found) -> str:
    names = ("kind", "executable", "mtime_ns", "content")
    return ", ".join(name for name in names if getattr(left, name) != getattr(right, name)) + " differ"
