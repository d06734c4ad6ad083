"""Ed25519 signatures (RFC 8032, libsodium) over domain-separated bytes exactly as sent."""

from __future__ import annotations

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from meshsync.errors import SignatureInvalid
from meshsync.ids import DeviceId, short

SIGNATURE_SIZE_BYTES = 64


def message(kind: str, data: bytes) -> bytes:
    """Return the bytes that are signed: the domain `meshsync/1/<kind>`, a zero byte, `data`."""
    return b"meshsync/1/" + kind.encode() + b"\0" + data


def sign(seed: bytes, kind: str, data: bytes) -> bytes:
    """Return the 64-byte signature of `data` by the key with the 32-byte `seed`."""
    return SigningKey(seed).sign(message(kind, data)).signature


def verify(device: DeviceId, kind: str, data: bytes, signature: bytes) -> None:
    """Return if `signature` is `device`'s over `data`; raise SignatureInvalid otherwise."""
    try:
        VerifyKey(device).verify(message(kind, data), signature)
    except (BadSignatureError, ValueError, TypeError) as error:
        raise SignatureInvalid(f"the signature of a {kind} does not verify", device=short(device)) from error
