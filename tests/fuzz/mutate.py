"""Inputs near others: bytes changed, and values changed inside MessagePack that stays well-formed.

Invariant: the same random numbers make the same input.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import msgspec

from tests.fuzz.target import SIZE_MAX

_NUMBERS = (0, 1, 2, 255, 256, 999, 1000, 2**31 - 1, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, -1, -(2**31), -(2**63))
_BYTES = (b"", b"\0", b"x" * 31, b"x" * 32, b"x" * 33, b"x" * 44, b"y" * 64, b"..", b"a/b", b"\xff" * 32, bytes(1000))
_TEXTS = ("", "x", "../..", "\0", "\u202e", "é" * 300, "0", "1e999", "nan", "\ud800")
_VALUES: tuple[Any, ...] = (*_NUMBERS, *_BYTES, *_TEXTS[:-1], None, True, False, [], [[]], {}, 1.5)
_RUNS = (b"\x00", b"\xff", b"\x91", b"\xdd\xff\xff\xff\xff", b"[", b"{", b"*", b"**/", b"-", b"9", b"\\", b"%")


def mutate(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    """Return an input made of `data`, and perhaps of `others`, by one to four changes."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        data = (_value_changed(data, chance) if chance.random() < 0.6 else None) or _bytes_changed(data, chance, others)
    return data[:SIZE_MAX]


def _bytes_changed(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    at = chance.randint(0, len(data))
    to = min(len(data), at + chance.choice((1, 2, 4, 8, 32, 200)))
    match chance.randrange(8):
        case 0:
            return data[:at] + chance.randbytes(chance.choice((1, 2, 4, 8))) + data[to:]
        case 1:
            return data[:at]
        case 2:
            return data[:at] + data[to:]
        case 3:
            return data[:to] + data[at:]
        case 4:
            return data[:at] + chance.choice(_RUNS) * chance.choice((1, 2, 8, 100, 5000)) + data[at:]
        case 5:
            other = chance.choice(others)
            return data[:at] + other[chance.randint(0, len(other)) :]
        case 6:
            return data[:at] + chance.choice(_TEXTS).encode("utf-8", "surrogatepass") + data[to:]
        case _:
            flipped = bytearray(data or b"\0")
            flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
            return bytes(flipped)


def _value_changed(data: bytes, chance: random.Random) -> bytes | None:
    """Return the MessagePack value in `data` with one part changed, None if there is none in it."""
    try:
        value = msgspec.msgpack.decode(data)
        return msgspec.msgpack.encode(_changed(value, chance))
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError):
        return None


def _changed(value: Any, chance: random.Random) -> Any:
    if isinstance(value, list) and value and chance.random() < 0.85:
        return _list_changed(value, chance)
    if isinstance(value, int) and chance.random() < 0.5:
        return value + chance.choice((-1, 1, 2, 256))
    if isinstance(value, bytes) and value and chance.random() < 0.5:
        return _bytes_changed(value, chance, [value])
    return chance.choice(_VALUES)


def _list_changed(value: list[Any], chance: random.Random) -> list[Any]:
    at = chance.randrange(len(value))
    made = list(value)
    match chance.randrange(10):
        case 0:
            del made[at]
        case 1:
            made.insert(at, value[chance.randrange(len(value))])
        case 2:
            made[at] = value[chance.randrange(len(value))]
        case 3:
            made[at : at + 1] = [value[at]] * chance.choice((2, 3, 20, 1001))
        case _:
            made[at] = _changed(value[at], chance)
    return made
