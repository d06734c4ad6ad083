"""The difference between two chunks: a Zstandard frame with the old chunk as raw prefix.

Invariant: a delta is only a shorter way to say a chunk; whoever applies one checks the chunk id of the result.
"""

from __future__ import annotations

from meshsync.chunking.frames import Buffer, compress, compress_against, decompress
from meshsync.limits import DELTA_BASE_BYTES_MIN


def make(base: Buffer, target: Buffer) -> bytes:
    """Return bytes from which `apply` with the same `base` gives `target`; about 50 bytes for a small edit.

    Worth sending only if shorter than `target`: the caller compares.
    """
    return compress(target) if len(base) < DELTA_BASE_BYTES_MIN else compress_against(base, target)


def apply(base: Buffer, delta: Buffer, size_max: int) -> bytes:
    """Return the target, at most `size_max` bytes.

    Raises DecompressionBomb if it would be longer, IntegrityError if `delta` is broken. A wrong `base` gives an error
    or wrong bytes: check the chunk id.
    """
    return decompress(delta, size_max, None if len(base) < DELTA_BASE_BYTES_MIN else base)
