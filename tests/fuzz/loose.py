"""MessagePack of any shape: for targets where only what is sealed or signed rightly reaches the parser."""

from __future__ import annotations

from typing import Any

import msgspec

from meshsync.errors import MalformedMessage

_ERRORS = (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError)


def loose(data: bytes) -> Any:
    """Return the value in `data`. Raises MalformedMessage if there is none: then the input reaches no parser."""
    try:
        return msgspec.msgpack.decode(data)
    except _ERRORS as error:
        raise MalformedMessage("no value") from error


def packed(value: Any) -> bytes:
    """Return the bytes of a value that `loose` gave, or part of one. Raises MalformedMessage."""
    try:
        return msgspec.msgpack.encode(value)
    except _ERRORS as error:
        raise MalformedMessage("no value") from error


def items(value: Any, *kinds: type) -> list[Any]:
    """Return `value` if it is a list of items of just these kinds. Raises MalformedMessage."""
    if not isinstance(value, list) or len(value) != len(kinds) or not all(map(isinstance, value, kinds)):
        raise MalformedMessage("another shape")
    return value
