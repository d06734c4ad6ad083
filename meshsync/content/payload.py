"""The bytes inside a seal: encoding (u8) ‖ body length (u32) ‖ body ‖ zeros up to a Padmé length.

Invariant: a payload has exactly the length that padding gives its body, so the only freedom of whoever made it is
whether and how the body was compressed. Spec: docs/spec/content.md 2.
"""

from __future__ import annotations

import struct

from meshsync.chunking.frames import compress, decompress
from meshsync.content.padding import padded_size
from meshsync.crypto.hashing import Buffer
from meshsync.errors import IntegrityError

_HEADER = struct.Struct(">BI")
_RAW, _ZSTD = 0, 1


def pack(plaintext: Buffer) -> bytes:
    """Return the payload of `plaintext`, compressed only if that makes the padded length smaller."""
    encoding, body = _RAW, plaintext
    frame = compress(plaintext)
    if padded_size(_HEADER.size + len(frame)) < padded_size(_HEADER.size + len(plaintext)):
        encoding, body = _ZSTD, frame
    used = _HEADER.size + len(body)
    return b"".join((_HEADER.pack(encoding, len(body)), body, bytes(padded_size(used) - used)))


def unpack(payload: bytes, size_max: int) -> bytes:
    """Return the plaintext, at most `size_max` bytes.

    Raises IntegrityError on any other form, DecompressionBomb if it would be longer.
    """
    if len(payload) < _HEADER.size:
        raise IntegrityError("a payload is too short for its header")
    encoding, size = _HEADER.unpack_from(payload)
    used = _HEADER.size + size
    if used > len(payload) or len(payload) != padded_size(used) or payload[used:] != bytes(len(payload) - used):
        raise IntegrityError("a payload's length or padding is wrong")
    if encoding == _ZSTD:
        return decompress(memoryview(payload)[_HEADER.size : used], size_max)
    if encoding != _RAW or size > size_max:
        raise IntegrityError(f"a payload of encoding {encoding} with {size} bytes where {size_max} are allowed")
    return payload[_HEADER.size : used]


def payload_size_max(size_max: int) -> int:
    """Return the length in bytes that no payload of at most `size_max` bytes of plaintext exceeds."""
    return padded_size(_HEADER.size + size_max)
