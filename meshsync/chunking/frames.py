"""Zstandard frames (RFC 8878), made with reused contexts and opened under a hard cap.

Invariant: opening a frame never produces or reserves more bytes than the caller allows, whatever the frame says.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import TypeAlias

from meshsync.errors import DecompressionBomb, IntegrityError
from meshsync.limits import COMPRESSORS_IDLE_MAX, ZSTD_LEVEL

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Buffer: TypeAlias = bytes | bytearray | memoryview

_WINDOW_LOG_MIN = 10  # the smallest window that a frame can have

# A new context costs three times what compressing a chunk does. A deque's pop and append are atomic, so a context is
# never used by two threads, and none is waited for.
_idle: deque[zstd.ZstdCompressor] = deque(maxlen=COMPRESSORS_IDLE_MAX)


def compress(data: Buffer) -> bytes:
    """Return one frame that declares its size. Safe from any thread; bytes differ between zstd builds."""
    try:
        compressor = _idle.pop()
    except IndexError:
        compressor = zstd.ZstdCompressor(ZSTD_LEVEL)
    frame = compressor.compress(data, zstd.ZstdCompressor.FLUSH_FRAME)
    _idle.append(compressor)
    return frame


def compress_against(base: Buffer, data: Buffer) -> bytes:
    """Return one frame that declares its size and opens only with the same `base` as raw prefix."""
    return zstd.compress(data, ZSTD_LEVEL, zstd_dict=_prefix(base))


def decompress(frame: Buffer, size_max: int, base: Buffer | None = None) -> bytes:
    """Return what `frame`, exactly one frame, holds: at most `size_max` bytes.

    `base` is the raw prefix it was made with. Raises DecompressionBomb if it declares no size or one beyond
    `size_max`, or needs more memory than that; IntegrityError if it is broken, unfinished or followed by anything.
    """
    size = _declared_size(frame)
    if size is None or size > size_max:
        raise DecompressionBomb(f"a frame declares {size} bytes where {size_max} are allowed")
    window = size + (0 if base is None else len(base))
    options = {int(zstd.DecompressionParameter.window_log_max): max(_WINDOW_LOG_MIN, window.bit_length())}
    try:
        opener = zstd.ZstdDecompressor(zstd_dict=None if base is None else _prefix(base), options=options)
        data = opener.decompress(frame, max_length=size + 1)
        if not opener.eof and len(data) <= size:  # the last block may be empty
            data += opener.decompress(b"", max_length=1)
    except (zstd.ZstdError, EOFError) as error:
        raise IntegrityError("a compressed frame is broken") from error
    if not opener.eof or len(data) != size or opener.unused_data:
        raise IntegrityError("a compressed frame is unfinished, lies about its size or has bytes after it")
    return data


def _declared_size(frame: Buffer) -> int | None:
    try:
        return zstd.get_frame_info(frame).decompressed_size
    except zstd.ZstdError as error:
        raise IntegrityError("not a compressed frame") from error


def _prefix(base: Buffer) -> tuple[zstd.ZstdDict, int]:
    return zstd.ZstdDict(base, is_raw=True).as_prefix
