"""Deltas inside one chunk when only the receiver holds the base: content-defined pieces named by short hashes.

Invariant: `rebuild(base, …)` of `difference(hashes of base, target)` is `target` unless two pieces share a hash, which
the caller finds by the chunk id. Idea: rsync (Tridgell and Mackerras, 1996), cut points in place of a rolling search.

Delta bytes: a sequence of tokens, each u32 little endian. Top bit 1: copy `count` pieces (low 11 bits) of the base from
piece `index` on (20 bits above). Top bit 0: that many literal bytes follow.
"""

from __future__ import annotations

import struct
from typing import TypeAlias

from blake3 import blake3
from pyfastcdc import FastCDC

from meshsync import limits
from meshsync.errors import MalformedMessage

Buffer: TypeAlias = bytes | bytearray | memoryview

HASH_SIZE_BYTES = 8
_COPY = 1 << 31
_INDEX_SHIFT = 11
_COUNT_MAX = (1 << _INDEX_SHIFT) - 1
_TOKEN = struct.Struct("<I")


def cut_pieces(data: Buffer) -> list[memoryview]:
    """Return consecutive views that make up `data`, about PIECE_SIZE_BYTES_MEAN each, cut by content."""
    if not data:
        return []
    cutter = FastCDC(
        avg_size=limits.PIECE_SIZE_BYTES_MEAN,
        min_size=limits.PIECE_SIZE_BYTES_MIN,
        max_size=limits.PIECE_SIZE_BYTES_MAX,
    )
    view = memoryview(data)
    return [view[piece.offset : piece.offset + piece.length] for piece in cutter.cut_buf(view)]


def _hash(key: bytes, piece: Buffer) -> bytes:
    return blake3(piece, key=key).digest(HASH_SIZE_BYTES)


def piece_hashes(key: bytes, base: Buffer) -> bytes:
    """Return the 8-byte hashes of the pieces of `base`, joined; `key` has 32 bytes."""
    return b"".join(_hash(key, piece) for piece in cut_pieces(base))


def difference(key: bytes, hashes: bytes, target: Buffer) -> bytes:
    """Return the delta that turns the base with these piece hashes into `target`.

    Raises MalformedMessage if `hashes` is not a whole number of hashes within PIECE_HASHES_BYTES_MAX.
    """
    if len(hashes) % HASH_SIZE_BYTES or len(hashes) > limits.PIECE_HASHES_BYTES_MAX:
        raise MalformedMessage(f"{len(hashes)} bytes of piece hashes")
    known = {hashes[i : i + HASH_SIZE_BYTES]: i // HASH_SIZE_BYTES for i in range(0, len(hashes), HASH_SIZE_BYTES)}
    out: list[Buffer] = []
    literal: list[memoryview] = []
    run_start = run_count = 0

    def flush_run() -> None:
        if run_count:
            out.append(_TOKEN.pack(_COPY | run_start << _INDEX_SHIFT | run_count))

    def flush_literal() -> None:
        if literal:
            out.append(_TOKEN.pack(sum(map(len, literal))))
            out.extend(literal)
            literal.clear()

    for piece in cut_pieces(target):
        index = known.get(_hash(key, piece))
        if index is None:
            flush_run()
            run_count = 0
            literal.append(piece)
        elif run_count and index == run_start + run_count and run_count < _COUNT_MAX:
            run_count += 1
        else:
            flush_literal()
            flush_run()
            run_start, run_count = index, 1
    flush_run()
    flush_literal()
    return b"".join(out)


def rebuild(base: Buffer, delta: Buffer, size_max: int) -> bytes:
    """Return the target. Raises MalformedMessage if `delta` is ill-formed or makes more than `size_max` bytes."""
    pieces = cut_pieces(base)
    view = memoryview(delta)
    out: list[memoryview] = []
    at = total = 0
    while at < len(view):
        if at + 4 > len(view):
            raise MalformedMessage("a piece delta ends inside a token")
        (token,) = _TOKEN.unpack_from(view, at)
        at += 4
        if token & _COPY:
            start, count = (token ^ _COPY) >> _INDEX_SHIFT, token & _COUNT_MAX
            if start + count > len(pieces):
                raise MalformedMessage("a piece delta names a piece that the base does not have")
            run = pieces[start : start + count]
        else:
            if at + token > len(view):
                raise MalformedMessage("a piece delta ends inside its literal bytes")
            run = [view[at : at + token]]
            at += token
        total += sum(map(len, run))
        if total > size_max:
            raise MalformedMessage(f"a piece delta makes more than {size_max} bytes")
        out.extend(run)
    return b"".join(out)
