"""Merging two changed texts by what each changed of their common base: diff3, line by line. Pure.

Invariant: every line of the result was in one of the three texts; where only one side changed, its change is taken, and
nothing is decided where both changed the same lines differently. Time and memory are bounded by MERGE_DISTANCE_MAX.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meshsync.limits import MERGE_BYTES_MAX, MERGE_DISTANCE_MAX

_ABSENT = -1
Lines = Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Merge:
    """The merged text. Each of the `clashes` stands in it between markers, with both sides and the base."""

    text: bytes
    clashes: int


def is_text(data: bytes) -> bool:
    """Return whether `data` can be merged: no byte 0 in it, and at most MERGE_BYTES_MAX bytes."""
    return len(data) <= MERGE_BYTES_MAX and b"\0" not in data


def merge(base: bytes, mine: bytes, theirs: bytes, names: tuple[bytes, bytes] = (b"mine", b"theirs")) -> Merge | None:
    """Return `mine` and `theirs` merged; None if one of them differs from `base` in more than MERGE_DISTANCE_MAX lines.

    `names` stand at the markers of what clashes.
    """
    old, one, other = (_lines(text) for text in (base, mine, theirs))
    in_one, in_other = _matches(old, one), _matches(old, other)
    if in_one is None or in_other is None:
        return None
    parts: list[bytes] = []
    clashes = at = at_one = at_other = 0
    while at < len(old) or at_one < len(one) or at_other < len(other):
        end = at
        while end < len(old) and (in_one[end] == _ABSENT or in_other[end] == _ABSENT):
            end += 1
        end_one, end_other = (in_one[end], in_other[end]) if end < len(old) else (len(one), len(other))
        was, here, there = old[at:end], one[at_one:end_one], other[at_other:end_other]
        if here in (was, there):
            parts += there
        elif there == was:
            parts += here
        else:
            parts += _marked(was, here, there, names)
            clashes += 1
        if end < len(old):
            parts.append(old[end])
        at, at_one, at_other = end + 1, end_one + 1, end_other + 1
    return Merge(b"".join(parts), clashes)


def _lines(text: bytes) -> list[bytes]:
    """Split after each line feed, and nowhere else: a lone carriage return is part of its line."""
    lines = [line + b"\n" for line in text.split(b"\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def _marked(was: Lines, here: Lines, there: Lines, names: tuple[bytes, bytes]) -> list[bytes]:
    sides = ((b"<<<<<<< " + names[0], here), (b"||||||| base", was), (b"=======", there))
    marked = []
    for marker, lines in sides:
        marked += [marker + b"\n", *lines]
        if lines and not lines[-1].endswith(b"\n"):
            marked.append(b"\n")
    return [*marked, b">>>>>>> " + names[1] + b"\n"]


def _matches(old: Lines, new: Lines) -> list[int] | None:
    """Return for each line of `old` the line of `new` that it became, or _ABSENT; None if too many differ."""
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    tail = 0
    while tail < min(len(old), len(new)) - start and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    between = _shortest(old[start : len(old) - tail], new[start : len(new) - tail])
    if between is None:
        return None
    middle = [_ABSENT if at == _ABSENT else start + at for at in between]
    return [*range(start), *middle, *range(len(new) - tail, len(new))]


def _shortest(old: Lines, new: Lines) -> list[int] | None:
    """Match lines along a shortest edit script (Myers, "An O(ND) difference algorithm", 1986)."""
    reach = _Reach([0, 0, 0])  # diagonal → how far in `old` a path of so many edits gets
    steps: list[_Reach] = []
    for distance in range(MERGE_DISTANCE_MAX + 1):
        steps.append(reach)
        following = _Reach([0] * (2 * distance + 5))
        for diagonal in range(-distance, distance + 1, 2):
            x = reach.step(diagonal, distance)[0]
            while x < len(old) and x - diagonal < len(new) and old[x] == new[x - diagonal]:
                x += 1
            following[diagonal] = x
            if x >= len(old) and x - diagonal >= len(new):
                return _trace(steps, len(old), len(new))
        reach = following
    return None


class _Reach:
    """A list with indices below zero as well."""

    def __init__(self, values: list[int]) -> None:
        self._values = values
        self._zero = len(values) // 2

    def __getitem__(self, diagonal: int) -> int:
        return self._values[self._zero + diagonal]

    def __setitem__(self, diagonal: int, x: int) -> None:
        self._values[self._zero + diagonal] = x

    def step(self, diagonal: int, distance: int) -> tuple[int, bool]:
        """Return where edit number `distance` enters `diagonal`, and whether it puts a line of `new` in."""
        if diagonal == -distance or (diagonal != distance and self[diagonal - 1] < self[diagonal + 1]):
            return self[diagonal + 1], True
        return self[diagonal - 1] + 1, False


def _trace(steps: list[_Reach], x: int, y: int) -> list[int]:
    found = [_ABSENT] * x
    for distance in range(len(steps) - 1, -1, -1):
        entered, put_in = steps[distance].step(x - y, distance)
        while x > entered:
            x, y = x - 1, y - 1
            found[x] = y
        x, y = (x, y - 1) if put_in else (x - 1, y)
    return found
