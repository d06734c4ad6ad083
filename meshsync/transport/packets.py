"""The parts of QUIC packets that a server reads and writes before there is a connection.

Invariant: nothing here keeps state, so what a stranger sends costs one answer of smaller size at most.
Source: RFC 8999 (invariants), RFC 9000 17.2 (long headers), RFC 9001 5.8 (retry integrity).
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from meshsync.crypto.hashing import keyed
from meshsync.errors import MalformedMessage
from meshsync.limits import RETRY_TOKEN_LIFETIME_S

Address = tuple[str, int] | tuple[str, int, int, int]
"""A socket address as the socket module gives it: (host, port) or (host, port, flow, scope)."""

CONNECTION_ID_SIZE_BYTES: Final = 8
INITIAL_SIZE_BYTES_MIN: Final = 1200
_VERSION: Final = 1
_ID_SIZE_BYTES_MAX: Final = 20
_LONG: Final = 0x80
_TYPE_INITIAL: Final = 0x00
_TYPE_RETRY: Final = 0x30
_TYPE_MASK: Final = 0x30
_RETRY_CIPHER: Final = AESGCM(bytes.fromhex("be0c690b9f66575a1d766b54e368c84e"))  # RFC 9001, 5.8
_RETRY_NONCE: Final = bytes.fromhex("461599d35d632bf2239825bb")
_TOKEN_HEAD: Final = struct.Struct(">QB")
_MAC_SIZE_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Initial:
    """The clear part of a client's first packet."""

    destination: bytes
    source: bytes
    token: bytes


def destination_id(datagram: bytes) -> bytes | None:
    """Return the connection id that a datagram is for, None if it is too short to have one."""
    if len(datagram) < 1 + CONNECTION_ID_SIZE_BYTES:
        return None
    if not datagram[0] & _LONG:
        return datagram[1 : 1 + CONNECTION_ID_SIZE_BYTES]
    if len(datagram) < 6 or len(datagram) < 6 + datagram[5]:
        return None
    return datagram[6 : 6 + datagram[5]]


def parse_initial(datagram: bytes) -> Initial | None:
    """Return the clear part of a version 1 Initial, None if the datagram starts with anything else."""
    if len(datagram) < INITIAL_SIZE_BYTES_MIN or datagram[0] & (_LONG | _TYPE_MASK) != _LONG | _TYPE_INITIAL:
        return None
    if int.from_bytes(datagram[1:5], "big") != _VERSION:
        return None
    destination_end = 6 + datagram[5]
    source_end = destination_end + 1 + datagram[destination_end]
    if datagram[5] > _ID_SIZE_BYTES_MAX or datagram[5] < 8 or datagram[destination_end] > _ID_SIZE_BYTES_MAX:
        return None
    size_of_length = 1 << (datagram[source_end] >> 6)
    token_start = source_end + size_of_length
    length = int.from_bytes(datagram[source_end:token_start], "big") & ((1 << (8 * size_of_length - 2)) - 1)
    if token_start + length > len(datagram):
        return None
    return Initial(
        datagram[6:destination_end],
        datagram[destination_end + 1 : source_end],
        datagram[token_start : token_start + length],
    )


def encode_retry(initial: Initial, source: bytes, token: bytes) -> bytes:
    """Return the Retry packet that answers `initial` and asks its sender to come back with `token` to id `source`."""
    packet = b"".join(
        (
            struct.pack(">BI", _LONG | 0x40 | _TYPE_RETRY, _VERSION),
            bytes([len(initial.source)]),
            initial.source,
            bytes([len(source)]),
            source,
            token,
        )
    )
    return packet + retry_integrity_tag(initial.destination, packet)


def retry_integrity_tag(original: bytes, packet: bytes) -> bytes:
    """Return the 16 bytes that end the Retry `packet` for a client that first addressed the id `original`."""
    return _RETRY_CIPHER.encrypt(_RETRY_NONCE, b"", bytes([len(original)]) + original + packet)


class RetryTokens:
    """Makes and checks the tokens by which a client shows that it receives at its address. Keyed, stateless."""

    def __init__(self, key: bytes) -> None:
        """`key` has 32 random bytes, fresh for each endpoint."""
        self._key = key

    def make(self, address: Address, original: bytes, retry_source: bytes, now: float) -> bytes:
        """Return the token for the client at `address` that first addressed the id `original`."""
        body = _TOKEN_HEAD.pack(int(now * 1000), len(original)) + original
        return body + self._mac(body, address, retry_source)

    def check(self, address: Address, destination: bytes, token: bytes, now: float) -> bytes:
        """Return the id that the client first addressed. Raises MalformedMessage on a token that is not for it now."""
        body, mac = token[:-_MAC_SIZE_BYTES], token[-_MAC_SIZE_BYTES:]
        fits = _TOKEN_HEAD.size <= len(body) <= _TOKEN_HEAD.size + _ID_SIZE_BYTES_MAX
        if not fits or not hmac.compare_digest(self._mac(body, address, destination), mac):
            raise MalformedMessage("not a retry token of this endpoint for this address")
        made_ms, size = _TOKEN_HEAD.unpack_from(body)
        if not 0 <= now - made_ms / 1000 <= RETRY_TOKEN_LIFETIME_S + 0.001:
            raise MalformedMessage("an expired retry token")
        return body[_TOKEN_HEAD.size : _TOKEN_HEAD.size + size]

    def _mac(self, body: bytes, address: Address, retry_source: bytes) -> bytes:
        host = address[0].encode()
        return keyed(
            self._key, bytes([len(host)]) + host + struct.pack(">HB", address[1], len(body)) + body + retry_source
        )
