"""The bytes in which a device keeps its seed: plain, or sealed with a passphrase.

Invariant: sealed bytes say by which parameters they were made, within bounds; they open with the passphrase or not at
all. Argon2id (RFC 9106) makes each guess cost the memory and time that the parameters name. Spec: docs/spec/crypto.md.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Annotated

import msgspec
from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id

from meshsync.codec.canonical import Record, decode, encode
from meshsync.crypto.hashing import derive
from meshsync.crypto.identity import SEED_SIZE_BYTES
from meshsync.crypto.sealing import OVERHEAD_BYTES, seal, unseal
from meshsync.errors import AuthenticationFailed, ConfigError, FormatUnsupported, KeysLocked, MalformedMessage
from meshsync.limits import (
    KEY_FILE_BYTES_MAX,
    PASSPHRASE_BYTES_MAX,
    PASSPHRASE_CHARS_MIN,
    PASSPHRASE_MEMORY_BYTES,
    PASSPHRASE_MEMORY_BYTES_MAX,
    PASSPHRASE_PASSES,
    PASSPHRASE_PASSES_MAX,
)

MAGIC = b"meshsync sealed key\n"
KEY_FILE_VERSION = 1
SALT_SIZE_BYTES = 16
_DOMAIN = b"meshsync/1/device key\0"


class _Sealed(Record, frozen=True):
    """`passes` and `memory` (bytes) are those of Argon2id."""

    version: int
    salt: Annotated[bytes, msgspec.Meta(min_length=SALT_SIZE_BYTES, max_length=SALT_SIZE_BYTES)]
    passes: Annotated[int, msgspec.Meta(ge=1, le=PASSPHRASE_PASSES_MAX)]
    memory: Annotated[int, msgspec.Meta(ge=8192, le=PASSPHRASE_MEMORY_BYTES_MAX)]
    sealed: Annotated[
        bytes,
        msgspec.Meta(min_length=SEED_SIZE_BYTES + OVERHEAD_BYTES, max_length=SEED_SIZE_BYTES + OVERHEAD_BYTES),
    ]


@dataclass(frozen=True, slots=True)
class Cost:
    """What one guess costs: passes over so many bytes of memory."""

    passes: int = PASSPHRASE_PASSES
    memory: int = PASSPHRASE_MEMORY_BYTES


def check_passphrase(text: str) -> bytes:
    """Return the bytes of a new passphrase, the same on every keyboard. Raises ConfigError for a bad length."""
    if len(text) < PASSPHRASE_CHARS_MIN:
        raise ConfigError(f"a passphrase has at least {PASSPHRASE_CHARS_MIN} characters", next_step="Take five words.")
    return passphrase_bytes(text)


def passphrase_bytes(text: str) -> bytes:
    """Return the bytes of a passphrase that was typed. Raises ConfigError if it is too long or no text."""
    try:
        data = unicodedata.normalize("NFC", text).encode()
    except UnicodeEncodeError as error:
        raise ConfigError("the passphrase is not UTF-8 text") from error
    if len(data) > PASSPHRASE_BYTES_MAX:
        raise ConfigError(f"a passphrase has at most {PASSPHRASE_BYTES_MAX} bytes")
    return data


def is_sealed(data: bytes) -> bool:
    """Whether a passphrase is needed for the key file with this content."""
    return data.startswith(MAGIC)


def seal_seed(seed: bytes, passphrase: bytes, salt: bytes, cost: Cost = Cost()) -> bytes:
    """Return the key file of a 64-byte `seed`. `salt` is 16 fresh random bytes. Takes the memory that `cost` names."""
    associated = _associated(KEY_FILE_VERSION, salt, cost.passes, cost.memory)
    key, nonce_key = _keys(passphrase, salt, cost.passes, cost.memory)
    sealed = seal(key, nonce_key, associated, seed)
    return MAGIC + encode(_Sealed(KEY_FILE_VERSION, salt, cost.passes, cost.memory, sealed))


def open_seed(data: bytes, passphrase: bytes) -> bytes:
    """Return the 64-byte seed in a sealed key file.

    Raises KeysLocked if it does not open, ConfigError if it is no key file or is damaged, FormatUnsupported.
    """
    try:
        kept = decode(_Sealed, data[len(MAGIC) :], KEY_FILE_BYTES_MAX)
    except MalformedMessage as error:
        raise ConfigError("the device key is damaged", next_step="Restore it from a backup.") from error
    if kept.version != KEY_FILE_VERSION:
        raise FormatUnsupported(f"a key file of version {kept.version}; this build knows {KEY_FILE_VERSION}")
    key, _ = _keys(passphrase, kept.salt, kept.passes, kept.memory)
    try:
        return unseal(key, _associated(kept.version, kept.salt, kept.passes, kept.memory), kept.sealed)
    except AuthenticationFailed as error:
        raise KeysLocked(
            "this passphrase does not open the device's key, or the key file was altered",
            next_step="Try again: meshsync up",
        ) from error


def _keys(passphrase: bytes, salt: bytes, passes: int, memory: int) -> tuple[bytes, bytes]:
    try:
        stretched = argon2id.kdf(32, passphrase, salt, opslimit=passes, memlimit=memory)
    except (CryptoError, MemoryError) as error:
        raise KeysLocked(
            f"opening the device's key takes {memory >> 20} MiB of memory, which there is not",
            next_step="End other programs, then: meshsync up",
        ) from error
    return derive(stretched, b"ms1 pass seal"), derive(stretched, b"ms1 pass nonce")


def _associated(version: int, salt: bytes, passes: int, memory: int) -> bytes:
    return _DOMAIN + version.to_bytes(8, "big") + passes.to_bytes(8, "big") + memory.to_bytes(8, "big") + salt
