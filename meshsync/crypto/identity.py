"""A device's keys: one Ed25519 key that names and signs, one X25519 key that receives folder keys."""

from __future__ import annotations

from nacl.bindings import crypto_scalarmult_base
from nacl.signing import SigningKey

from meshsync.crypto.signing import message
from meshsync.errors import ConfigError
from meshsync.ids import DeviceId

SEED_SIZE_BYTES = 64


class DeviceKeys:
    """The secret keys of this device. Invariant: `device` and `box_public` never change for one seed."""

    def __init__(self, seed: bytes) -> None:
        """Take 64 secret bytes: the Ed25519 seed, then the X25519 secret. Raises ConfigError on another length."""
        if len(seed) != SEED_SIZE_BYTES:
            raise ConfigError(f"a device key has {SEED_SIZE_BYTES} bytes, not {len(seed)}")
        self.seed = seed
        self._signing = SigningKey(seed[:32])
        self.device = DeviceId(bytes(self._signing.verify_key))
        self.box_secret = seed[32:]
        self.box_public = crypto_scalarmult_base(self.box_secret)

    def sign(self, kind: str, data: bytes) -> bytes:
        """Return the 64-byte signature of `data` in the domain `kind`."""
        return self._signing.sign(message(kind, data)).signature

    def __repr__(self) -> str:
        return f"DeviceKeys({self.device[:5].hex()}…)"
