"""Fuzz parsers: `python -m tests.fuzz.run --target NAME --seconds N`.

With atheris installed (`pip install -e '.[fuzz]'`) the search is guided by coverage; without it, or with `--blind`, it
is the one of the ordinary tests. `--target all` takes one target after the other, each in a process of its own.
`--input FILE` tries one input. Prints the number of inputs for each target; ends with 1 and the input at a finding.
"""

from __future__ import annotations

import argparse
import importlib.util
import mmap
import os
import random
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

RSS_MIB_MAX = 1024  # of the whole process: imports, coverage tables and the corpus take about 300
INPUT_SECONDS_MAX = 20  # for an input that hangs; a slow one is found by `target.check`

_COUNTS = struct.Struct("=QQ")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="all", help="one of the names that --list prints, or all")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--blind", action="store_true", help="without coverage")
    parser.add_argument("--corpus", default="", help="directory that keeps inputs of guided searches")
    parser.add_argument("--input", default="", help="a file with one input to try")
    parser.add_argument("--list", action="store_true", help="print the names of all targets")
    options = parser.parse_args(arguments)
    guided = not options.blind and not options.input and importlib.util.find_spec("atheris") is not None
    if options.list or options.target == "all":
        return _all(options, sys.argv[1:] if arguments is None else list(arguments))
    return _guided(options) if guided else _blind(options)


def _all(options: argparse.Namespace, arguments: list[str]) -> int:
    from tests.fuzz.targets import TARGETS

    if options.list:
        print("\n".join(TARGETS))
        return 0
    failed = []
    for name in TARGETS:
        command = [sys.executable, "-m", "tests.fuzz.run", *arguments, "--target", name]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    print("findings:", ", ".join(failed) or "none")
    return 1 if failed else 0


def _blind(options: argparse.Namespace) -> int:
    from tests.fuzz.search import for_seconds, search
    from tests.fuzz.target import Finding, check
    from tests.fuzz.targets import TARGETS

    target = TARGETS[options.target]
    try:
        if options.input:
            print("taken" if check(target, Path(options.input).read_bytes()) else "refused")
            return 0
        counts = search(target, options.seed, for_seconds(options.seconds))
    except Finding as finding:
        print(finding)
        return 1
    print(f"{target.name}: {counts.tried} inputs, {counts.taken} taken, at most {counts.peak_bytes >> 10} KiB held")
    return 0


def _guided(options: argparse.Namespace) -> int:
    import atheris

    with atheris.instrument_imports(include=["meshsync", "relay"]):
        from tests.fuzz.mutate import mutate
        from tests.fuzz.target import SIZE_MAX, check
        from tests.fuzz.targets import TARGETS

    target = TARGETS[options.target]
    directory = Path(options.corpus or tempfile.mkdtemp(prefix="meshsync-fuzz-")) / target.name
    directory.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(target.seeds):
        (directory / f"seed-{number}").write_bytes(data)
    counts = mmap.mmap(-1, _COUNTS.size)  # shared with the process that searches, and ends without coming back

    def one(data: bytes) -> None:
        tried, taken = _COUNTS.unpack(counts[:])
        counts[:] = _COUNTS.pack(tried + 1, taken)
        if check(target, data):
            counts[:] = _COUNTS.pack(tried + 1, taken + 1)

    def changed(data: bytes, size_max: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if chance.random() < 0.5:
            return atheris.Mutate(data, size_max)  # type: ignore[no-any-return]
        return mutate(data, chance, target.seeds)[:size_max]

    flags = [
        f"-max_total_time={max(1, round(options.seconds))}",
        f"-seed={options.seed}",
        f"-max_len={SIZE_MAX}",
        f"-timeout={INPUT_SECONDS_MAX}",
        f"-rss_limit_mb={RSS_MIB_MAX}",
        f"-artifact_prefix={directory}/finding-",
        "-verbosity=0",
        "-print_final_stats=0",
    ]
    atheris.Setup([sys.argv[0], *flags, str(directory)], one, custom_mutator=changed)
    child = os.fork()
    if child == 0:
        atheris.Fuzz()
    failed = os.waitpid(child, 0)[1] != 0
    tried, taken = _COUNTS.unpack(counts[:])
    print(f"{target.name}: {tried} inputs, {taken} taken, guided by coverage; inputs in {directory}", flush=True)
    os._exit(failed)  # what atheris does at the end of an interpreter that did not search may not come back


if __name__ == "__main__":
    sys.exit(main())
