"""Bytes as text that people copy: Crockford's base 32 in lower case, with a checksum.

Invariant: one value has one text; a change within 32 bits, such as one mistyped character, is noticed (CRC-32).
Source: D. Crockford, "Base 32", 2019 (the alphabet without i, l, o, u); bits are packed as in RFC 4648.
"""

from __future__ import annotations

import base64
import binascii

from meshsync.errors import MalformedMessage

CHECKSUM_SIZE_BYTES = 4

_RFC = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_CROCKFORD = b"0123456789abcdefghjkmnpqrstvwxyz"
_TO_TEXT = bytes.maketrans(_RFC, _CROCKFORD)
_TO_RFC = bytes.maketrans(_CROCKFORD, _RFC)


def to_text(kind: str, data: bytes) -> str:
    """Return `data` and its checksum in the domain `kind`, a fixed word of the format, as one word."""
    raw = data + _checksum(kind, data)
    return base64.b32encode(raw).rstrip(b"=").translate(_TO_TEXT).decode("ascii")


def from_text(kind: str, text: str, size_max: int) -> bytes:
    """Return the bytes, at most `size_max`, that `to_text` made `text` of. Raises MalformedMessage for another text."""
    if len(text) > (size_max + CHECKSUM_SIZE_BYTES) * 8 // 5 + 1:
        raise MalformedMessage("the text is too long")
    characters = text.encode("utf-8", "surrogatepass")
    if characters.translate(None, _CROCKFORD):
        raise MalformedMessage("the text has a character that does not occur in it")
    padded = characters.translate(_TO_RFC) + b"=" * (-len(characters) % 8)
    try:
        raw = base64.b32decode(padded)
    except binascii.Error as error:
        raise MalformedMessage("the text has a wrong length") from error
    data = raw[:-CHECKSUM_SIZE_BYTES]
    if len(raw) < CHECKSUM_SIZE_BYTES or to_text(kind, data) != text:
        raise MalformedMessage("the text was mistyped or cut off: its checksum does not match")
    return data


def _checksum(kind: str, data: bytes) -> bytes:
    return binascii.crc32(kind.encode() + b"\0" + data).to_bytes(CHECKSUM_SIZE_BYTES, "big")
