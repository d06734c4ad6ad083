"""Sixty digits by which two people compare two devices: equal on both only if each holds the other's real key.

Invariant: a pure function of the two device keys, the same whoever asks. Each key gives thirty digits, about 99 bits;
the hash is repeated, so that looking for a key with chosen digits costs that much more.
Source: the numeric fingerprint of Signal (T. Perrin, M. Marlinspike), with BLAKE3 for SHA-512.
"""

from __future__ import annotations

from meshsync.crypto.hashing import digest
from meshsync.ids import DeviceId

ROUNDS = 5200
_KIND = "safety-number"
_VERSION = b"\x00\x01"
_GROUP_BYTES, _GROUPS, _GROUP_DIGITS = 5, 6, 5


def safety_number(one: DeviceId, other: DeviceId) -> str:
    """Return the number of two devices: twelve groups of five digits with a space between them."""
    first, second = sorted((_digits(one), _digits(other)))
    return f"{first} {second}"


def fingerprint(device: DeviceId) -> str:
    """Return the device's whole key in groups of four hex digits, to be read out."""
    text = device.hex()
    return " ".join(text[at : at + 4] for at in range(0, len(text), 4))


def _digits(device: DeviceId) -> str:
    value = digest(_KIND, _VERSION + device)
    for _ in range(ROUNDS - 1):
        value = digest(_KIND, value + device)
    groups = (value[at : at + _GROUP_BYTES] for at in range(0, _GROUPS * _GROUP_BYTES, _GROUP_BYTES))
    return " ".join(f"{int.from_bytes(group, 'big') % 10**_GROUP_DIGITS:0{_GROUP_DIGITS}}" for group in groups)
