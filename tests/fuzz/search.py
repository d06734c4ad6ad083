"""A search without a compiler's help: mutations of seeds, and of inputs that were taken."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.fuzz.mutate import mutate
from tests.fuzz.target import Target, check, check_memory

_KEPT_MAX = 200  # taken inputs from which others are made
_WEIGHED = 64  # one input in so many is looked at for memory, which is slow


@dataclass
class Counts:
    """`tried` inputs, of which `taken` were parsed to a value; `peak_bytes` is the most that a weighed one held."""

    tried: int = 0
    taken: int = 0
    peak_bytes: int = 0


def inputs(target: Target, chance: random.Random, kept: list[bytes]) -> Iterator[bytes]:
    """Yield the seeds, then mutations of them and of `kept`, without end."""
    yield from target.seeds
    while True:
        yield mutate(chance.choice(kept if kept and chance.random() < 0.5 else target.seeds), chance, target.seeds)


def search(target: Target, seed: int, goes_on: Callable[[int], bool]) -> Counts:
    """Try inputs as long as `goes_on(number tried)`. The same seed tries the same. Raises Finding."""
    chance, kept, counts = random.Random(f"{target.name} {seed}"), [], Counts()
    for data in inputs(target, chance, kept):
        if not goes_on(counts.tried):
            break
        if check(target, data):
            counts.taken += 1
            if len(kept) < _KEPT_MAX:
                kept.append(data)
            else:
                kept[chance.randrange(_KEPT_MAX)] = data
        if counts.tried % _WEIGHED == 0:
            counts.peak_bytes = max(counts.peak_bytes, check_memory(target, data))
        counts.tried += 1
    return counts


def for_seconds(seconds: float) -> Callable[[int], bool]:
    """Return a `goes_on` that ends after `seconds` of real time."""
    end = time.monotonic() + seconds
    return lambda tried: time.monotonic() < end
