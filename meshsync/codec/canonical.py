"""Canonical bytes: MessagePack of frozen, array-like `msgspec.Struct`s, one encoding per value.

Invariant: `decode` accepts exactly the bytes that `encode` produces for the value it returns, so a hash or signature
over the bytes is a hash or signature over the value.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import cache
from typing import Any, TypeVar, cast

import msgspec

from meshsync.errors import MalformedMessage

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()


class Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of everything that is hashed, signed or sent. Fields are encoded by position."""


def encode(value: object) -> bytes:
    """Return the canonical bytes of `value`, a `Record` or a list, tuple, bytes, int, bool or None of such."""
    return _encoder.encode(value)


def decode(kind: type[T], data: bytes | bytearray | memoryview, size_max: int) -> T:
    """Return the value of type `kind` that `data` encodes.

    `size_max` bounds `data` in bytes. Raises MalformedMessage on anything else than the canonical bytes of such a
    value: too long, truncated, trailing bytes, wrong types or lengths, nesting, longer forms of the same value.
    """
    if len(data) > size_max:
        raise MalformedMessage(f"{_name(kind)} of {len(data)} bytes exceeds the bound of {size_max} bytes")
    try:
        value: T = _decoder(cast(Hashable, kind)).decode(data)
    except (
        msgspec.DecodeError,
        msgspec.ValidationError,
        RecursionError,
        OverflowError,
        UnicodeDecodeError,
    ) as error:
        raise MalformedMessage(f"not a {_name(kind)}: {error}") from error
    if _encoder.encode(value) != data:
        raise MalformedMessage(f"not the canonical bytes of a {_name(kind)}")
    return value


def _name(kind: object) -> str:
    return getattr(kind, "__name__", str(kind))


@cache
def _decoder(kind: Hashable) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder[Any](kind)
