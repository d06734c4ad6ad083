"""Content-defined cut points: FastCDC (Xia et al., "The Design of Fast Content-Defined Chunking", IEEE TPDS 2020).

Invariant: where a file is cut depends on its bytes, the folder's seed and the parameters of genesis, never on how the
bytes arrive. The native build is required: the pure Python one is 200 times slower.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from pyfastcdc import FastCDC

from meshsync.errors import ConfigError, FormatUnsupported
from meshsync.limits import CHUNK_SIZE_BYTES_MAX, CUTTERS_CACHED_MAX, CUTTING_SIZE_BYTES_MIN

Buffer: TypeAlias = bytes | bytearray | memoryview

if not FastCDC.__module__.startswith("pyfastcdc.cy"):
    raise ConfigError(
        "pyfastcdc is installed without its native build", next_step="Install it from a wheel: pip install pyfastcdc"
    )

# Level 2 of the paper's normalisation: measured on random data with a mean of 64 KiB, the spread of sizes halves
# against level 1 and no chunk is cut by the maximum, which would make cuts depend on where the chunk began.
_NORMALIZATION: Final = 2


@dataclass(frozen=True, slots=True)
class CutParams:
    """Chunk sizes in bytes, from genesis: `min <= mean <= max`, `mean` a power of two.

    Every chunk but a file's last has at least `min`. The measured mean is a little above `mean` (74 KiB for 64 KiB).
    Raises FormatUnsupported where this build cannot cut with them.
    """

    min: int
    mean: int
    max: int

    def __post_init__(self) -> None:
        ordered = CUTTING_SIZE_BYTES_MIN <= self.min <= self.mean <= self.max <= CHUNK_SIZE_BYTES_MAX
        if not ordered or self.mean & (self.mean - 1) or self.mean < 256 or self.max < 1024:
            raise FormatUnsupported(f"chunks of {self.min}/{self.mean}/{self.max} bytes cannot be cut by this build")


def cut(data: Buffer, seed: int, params: CutParams) -> list[int]:
    """Return the lengths in bytes of the chunks of `data`, a whole file; they add up to its size. Empty: no chunk.

    `seed` is FolderKeys.cut_seed, in [1, 2^63).
    """
    return [chunk.length for chunk in _chunker(seed, params).cut_buf(data)]


class Cutter:
    """Cuts one file that arrives in windows. Holds at most one chunk of `params.max` bytes, less one, between calls."""

    def __init__(self, seed: int, params: CutParams) -> None:
        self._chunker = _chunker(seed, params)
        self._max = params.max
        self._tail = b""

    def feed(self, window: Buffer, last: bool = False) -> Iterator[memoryview]:
        """Yield the chunks that are certain after `window`; with `last`, all that remain.

        Take every chunk before the next call. The views are into `window`, or into a copy of the kept tail and
        `window`, and stay valid as long as that memory is left alone. Windows of several chunks make few copies.
        """
        data = memoryview(b"".join((self._tail, window)) if self._tail else window)
        start = 0
        # A cut is certain once a chunk of the largest size is in sight: later bytes cannot change it.
        certain = len(data) if last else len(data) - self._max + 1
        for chunk in self._chunker.cut_buf(data) if certain > 0 else ():
            if chunk.offset >= certain:
                break
            start = chunk.offset + chunk.length
            yield chunk.data
        self._tail = bytes(data[start:])


@lru_cache(maxsize=CUTTERS_CACHED_MAX)
def _chunker(seed: int, params: CutParams) -> FastCDC:
    """Return a chunker; `cut_buf` only reads it, so one serves all threads."""
    return FastCDC(params.mean, min_size=params.min, max_size=params.max, normalized_chunking=_NORMALIZATION, seed=seed)
