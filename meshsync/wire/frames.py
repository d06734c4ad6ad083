"""Framing of a stream: u32 length (big endian, of type and body) ‖ u8 type ‖ body.

Invariant: a decoder never holds more than one frame of at most `size_max` bytes plus the bytes of one `feed`.
"""

from __future__ import annotations

import struct
from typing import Final

from meshsync.errors import MalformedMessage, PeerOverran

_HEADER: Final = struct.Struct(">IB")
HEADER_SIZE_BYTES: Final = _HEADER.size
_LENGTH_SIZE_BYTES: Final = 4


def frame_header(kind: int, size: int) -> bytes:
    """Return the 5 bytes that go before a body of `size` bytes of type `kind` (0 to 255)."""
    return _HEADER.pack(size + 1, kind)


def encode_frame(kind: int, body: bytes | bytearray | memoryview) -> bytes:
    """Return one whole frame of type `kind` (0 to 255)."""
    return b"".join((_HEADER.pack(len(body) + 1, kind), body))


class FrameDecoder:
    """Cuts a byte stream into frames, whatever the boundaries of the pieces that are fed.

    A frame inside one piece is copied once, a frame that spans pieces three times, so the cost is linear in the bytes
    received however small the pieces are.
    """

    def __init__(self, size_max: int) -> None:
        """`size_max` bounds the body of a frame, in bytes."""
        self.size_max = size_max
        self._partial = bytearray()  # one buffer, not a list of pieces: a piece of one byte must cost one byte
        self._need = HEADER_SIZE_BYTES

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Take the next bytes of the stream; return the frames (type, body) that they complete, in order.

        Raises PeerOverran as soon as a header announces a body above `size_max`, MalformedMessage on a frame without a
        type. The stream is useless after either.
        """
        if self._partial:
            self._partial += data
            if len(self._partial) < self._need:
                return []
            data = bytes(self._partial)
            self._partial.clear()
        return self._cut(data)

    @property
    def at_boundary(self) -> bool:
        """Whether the bytes fed so far end with a whole frame."""
        return not self._partial

    def _cut(self, data: bytes) -> list[tuple[int, bytes]]:
        frames: list[tuple[int, bytes]] = []
        offset, total = 0, len(data)
        self._need = HEADER_SIZE_BYTES
        while total - offset >= HEADER_SIZE_BYTES:
            length, kind = _HEADER.unpack_from(data, offset)
            self._check(length)
            end = offset + _LENGTH_SIZE_BYTES + length
            if end > total:
                self._need = end - offset
                break
            frames.append((kind, data[offset + HEADER_SIZE_BYTES : end]))
            offset = end
        if offset < total:
            self._partial += memoryview(data)[offset:]
        return frames

    def _check(self, length: int) -> None:
        if length == 0:
            raise MalformedMessage("a frame without a type")
        if length - 1 > self.size_max:
            raise PeerOverran(f"a frame of {length - 1} bytes exceeds the bound of {self.size_max} bytes")
