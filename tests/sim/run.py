"""Run many seeds: `python -m tests.sim.run --seeds 0-1999 --workers 2`.

Prints seeds per second; of each seed that fails, what is wrong and the shrunk history. Exits 1 if any failed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import sys
import time
from collections.abc import Sequence
from functools import partial

from tests.sim.acts import Plan, draw, with_restores
from tests.sim.shrink import shrink
from tests.sim.world import run

PROGRESS = 5_000
"""Seeds after which a long run says how far it is."""


def kind_of(problem: str) -> str:
    """Return a problem without the names and numbers that differ from run to run."""
    return re.sub(r"[0-9]+|b'[^']*'|b\"[^\"]*\"", "", problem)[:40]


def explain(plan: Plan) -> str:
    """Return a failing plan, shrunk, as text for people."""
    kind = kind_of(run(plan).problem)
    small = shrink(plan, lambda tried: kind_of(run(tried).problem) == kind)
    outcome = run(small)
    acts = [f"  {act}" for act in (*small.before, *small.acts, *small.after)]
    story = [f"  {line}" for line in outcome.story]
    return "\n".join([outcome.problem, "Shrunk:", *acts, "What happened:", *story, repr(small)])


def plan_of(seed: int, *, restores: bool) -> Plan:
    """Return the plan of a seed; with `restores` an index comes back from a backup in it."""
    return with_restores(draw(seed)) if restores else draw(seed)


def try_seed(seed: int, *, restores: bool) -> tuple[int, str]:
    """Run one seed; return it with what is wrong, empty if nothing."""
    try:
        return seed, run(plan_of(seed, restores=restores)).problem
    except Exception as error:  # noqa: BLE001 a mistake of the simulation must name its seed too
        return seed, f"the simulation failed: {error!r}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0-1999", help="FIRST-LAST, or one seed")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--explained", type=int, default=3, help="failures whose history is shrunk")
    parser.add_argument("--restores", action="store_true", help="in each an index comes back from a backup")
    chosen = parser.parse_args(arguments)
    first, _, last = chosen.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    started = time.perf_counter()
    failed: list[tuple[int, str]] = []
    trying = partial(try_seed, restores=chosen.restores)
    with multiprocessing.get_context("spawn").Pool(chosen.workers) as pool:
        for count, (seed, problem) in enumerate(pool.imap_unordered(trying, seeds, chunksize=8), 1):
            if count % PROGRESS == 0:
                print(f"{count} seeds, {len(failed)} failed", flush=True)
            if problem:
                failed.append((seed, problem))
                print(f"seed {seed}: {problem[:300]}", flush=True)
    took = time.perf_counter() - started
    print(f"{len(seeds)} seeds in {took:.1f} s, {len(seeds) / took:.1f} seeds/s, {len(failed)} failed")
    for seed, _ in sorted(failed)[: chosen.explained]:
        print(f"\nseed {seed}: {explain(plan_of(seed, restores=chosen.restores))}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
