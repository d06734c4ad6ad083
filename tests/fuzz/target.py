"""What is fuzzed: a parser, what it may raise, and bytes to begin with; and the check of one input.

Invariant: a target keeps nothing from one input to the next, so a finding is its bytes alone.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass

SIZE_MAX = 256 * 1024  # bytes of one input: as much as most parsers take before they refuse by length
SECONDS_MAX = 2.0  # of one thread's time for one input, on a slow machine
PEAK_BYTES_MAX = 64 << 20  # of Python objects alive at once while one input is parsed


@dataclass(frozen=True)
class Target:
    """`parse` takes any bytes, and returns or raises one of `errors`; it asserts what must hold of what it returns.

    `seeds` are inputs that reach far into the parser.
    """

    name: str
    parse: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]


class Finding(Exception):
    """`data` makes `target` do what it may not."""

    def __init__(self, target: Target, data: bytes, why: str) -> None:
        super().__init__(f"{target.name}: {why}\n{len(data)} bytes: {data[:2000].hex()}")
        self.data = data


def check(target: Target, data: bytes) -> bool:
    """Give one input; return whether it was taken. Raises Finding."""
    start = time.thread_time()
    taken = True
    try:
        target.parse(data)
    except target.errors:
        taken = False
    except Exception as error:  # every other type that comes out is a finding
        raise Finding(target, data, f"raised {error!r}") from error
    spent = time.thread_time() - start
    if spent > SECONDS_MAX:
        raise Finding(target, data, f"took {spent:.1f} s")
    return taken


def check_memory(target: Target, data: bytes) -> int:
    """Give one input as `check` does; return the most bytes that lived at once. Raises Finding. Slow."""
    tracemalloc.start()
    try:
        check(target, data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    if peak > PEAK_BYTES_MAX:
        raise Finding(target, data, f"held {peak >> 20} MiB")
    return peak
