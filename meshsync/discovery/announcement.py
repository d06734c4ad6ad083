"""The text record of an announcement: version, nonce, tags. No device, folder or user is named in it.

Invariant: whatever the record holds, parsing gives at most DISCOVERY_TAGS_MAX tags or a reason to ignore it.
TXT: `v` = "1", `n` = nonce (8 bytes), `a` and `b` = up to 24 tags each, concatenated (RFC 6763 allows 255 bytes).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from meshsync.discovery.base import Reason
from meshsync.discovery.tags import NONCE_SIZE_BYTES, TAG_SIZE_BYTES
from meshsync.limits import DISCOVERY_ADDRESSES_MAX, DISCOVERY_TAGS_MAX

_TAGS_PER_KEY = 24
_TAG_KEYS = (b"a", b"b")


@dataclass(frozen=True, slots=True)
class Announcement:
    """What an announcement says: a nonce and tags (8 bytes each)."""

    nonce: bytes
    tags: tuple[bytes, ...]


def write_txt(nonce: bytes, tags: Sequence[bytes]) -> dict[bytes, bytes]:
    """Return the TXT properties of an announcement with at most DISCOVERY_TAGS_MAX tags."""
    assert len(nonce) == NONCE_SIZE_BYTES and len(tags) <= DISCOVERY_TAGS_MAX
    properties = {b"v": b"1", b"n": nonce}
    for at, key in enumerate(_TAG_KEYS):
        part = tags[at * _TAGS_PER_KEY : (at + 1) * _TAGS_PER_KEY]
        if part:
            properties[key] = b"".join(part)
    return properties


def parse_txt(properties: Mapping[bytes, bytes | None]) -> Announcement | Reason:
    """Return what TXT properties from the network say, or why to ignore them. Unknown keys are skipped."""
    if properties.get(b"v") != b"1":
        return Reason.OTHER_VERSION
    nonce = properties.get(b"n") or b""
    joined = b"".join(properties.get(key) or b"" for key in _TAG_KEYS)
    count, rest = divmod(len(joined), TAG_SIZE_BYTES)
    if len(nonce) != NONCE_SIZE_BYTES or rest or count > DISCOVERY_TAGS_MAX:
        return Reason.MALFORMED
    return Announcement(nonce, tuple(joined[at : at + TAG_SIZE_BYTES] for at in range(0, len(joined), TAG_SIZE_BYTES)))


def dialable(addresses: Iterable[str], port: int | None) -> tuple[str, ...]:
    """Return 'ip:port' strings of the addresses that can be dialled, at most DISCOVERY_ADDRESSES_MAX, in order."""
    if port is None or not 1 <= port <= 0xFFFF:
        return ()
    result: list[str] = []
    for text in addresses:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        if address.is_multicast or address.is_unspecified or text == "255.255.255.255":
            continue
        result.append(f"[{text}]:{port}" if address.version == 6 else f"{text}:{port}")
        if len(result) == DISCOVERY_ADDRESSES_MAX:
            break
    return tuple(result)
