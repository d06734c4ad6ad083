"""Run many random histories on the model: `python tests/model/run_histories.py --count 20000 --seed 1`.

Exits 1 and prints the seed of the first history that breaks a rule.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.model.histories import check_values, run_history, settle


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--devices", type=int, default=0, help="0 takes 2 or 3, by the seed")
    parser.add_argument("--steps", type=int, default=24)
    args = parser.parse_args()
    for seed in range(args.seed, args.seed + args.count):
        try:
            history = run_history(seed, args.devices or 2 + seed % 2, args.steps, copies=seed % 4 == 3)
            check_values(history, settle(history))
        except AssertionError as error:
            print(f"seed {seed}: {error}")
            return 1
    print(f"{args.count} histories from seed {args.seed}: no value lost, no deletion undone, one tree everywhere")
    return 0


if __name__ == "__main__":
    sys.exit(main())
