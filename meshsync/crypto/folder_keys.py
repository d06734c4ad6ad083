"""A folder's keys: one secret for life and one key per epoch, and how both travel.

Invariant: every epoch id held is the commitment of its key, so two members that name one epoch hold one key.
Keys are derived with keyed BLAKE2b, once for each half of the folder id, so that no key serves two folders or uses.
Spec: docs/spec/crypto.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from meshsync.crypto.hashing import derive
from meshsync.crypto.sealing import seal, unseal
from meshsync.errors import AccessError, CommitmentMismatch, MalformedMessage
from meshsync.ids import ID_SIZE_BYTES, EpochId, FolderId, short

KEY_SIZE_BYTES = 32
BUNDLE_SIZE_BYTES = 1 + 2 * KEY_SIZE_BYTES

_BUNDLE_VERSION = b"\x01"
_WRAP_DOMAIN = b"meshsync/1/wrap\0"


@dataclass(frozen=True)
class FolderKeys:
    """All that a member needs to read a folder. Equal keys are equal values; `repr` shows no secret.

    `secret` (32 bytes, for life) keys chunk ids and cut points; `epochs` maps each known epoch to its 32-byte key;
    new blobs are sealed under `current`. Raises CommitmentMismatch if an epoch's id is not its key's commitment.
    """

    folder: FolderId
    secret: bytes = field(repr=False)
    epochs: Mapping[EpochId, bytes] = field(repr=False)
    current: EpochId
    _derived: dict[tuple[bytes, EpochId], bytes] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_SIZE_BYTES or self.current not in self.epochs:
            raise MalformedMessage("folder keys need a 32-byte secret and the current epoch's key")
        object.__setattr__(self, "epochs", dict(self.epochs))
        for epoch, key in self.epochs.items():
            if commitment(key) != epoch:
                raise CommitmentMismatch(f"a key does not match epoch {short(epoch)}", folder=short(self.folder))

    @cached_property
    def chunk_key(self) -> bytes:
        """32 bytes: keys the ids of data chunks."""
        return _for_folder(self.secret, b"chunk id", self.folder)

    @cached_property
    def manifest_key(self) -> bytes:
        """32 bytes: keys the ids of manifest lists."""
        return _for_folder(self.secret, b"manifest id", self.folder)

    @cached_property
    def piece_key(self) -> bytes:
        """32 bytes: keys the short hashes of pieces in deltas between members."""
        return _for_folder(self.secret, b"piece", self.folder)

    @cached_property
    def cut_seed(self) -> int:
        """Seed of the cut points, in [1, 2^63): zero would mean the chunker's public table, more it does not take."""
        return int.from_bytes(_for_folder(self.secret, b"cut points", self.folder)[:8], "big") >> 1 or 1

    def discovery_key(self, epoch: EpochId) -> bytes:
        """Return the 32-byte key of discovery tags in `epoch`. Raises AccessError if its key is not held."""
        return self._of_epoch(b"discovery", epoch)

    def seal_key(self, epoch: EpochId) -> bytes:
        """Return the 32-byte key that encrypts blobs of `epoch`. Raises AccessError if its key is not held."""
        return self._of_epoch(b"seal", epoch)

    def nonce_key(self, epoch: EpochId) -> bytes:
        """Return the 32-byte key of synthetic nonces in `epoch`. Raises AccessError if its key is not held."""
        return self._of_epoch(b"nonce", epoch)

    def with_epoch(self, epoch_key: bytes, make_current: bool) -> FolderKeys:
        """Return these keys with one more epoch, to seal under if `make_current`."""
        epoch = commitment(epoch_key)
        return FolderKeys(
            self.folder, self.secret, {**self.epochs, epoch: epoch_key}, epoch if make_current else self.current
        )

    def _of_epoch(self, purpose: bytes, epoch: EpochId) -> bytes:
        derived = self._derived.get((purpose, epoch))
        if derived is None:
            key = self.epochs.get(epoch)
            if key is None:
                raise AccessError(f"this device has no key of epoch {short(epoch)}", folder=short(self.folder))
            derived = self._derived[purpose, epoch] = _for_folder(key, purpose, self.folder)
        return derived


def commitment(epoch_key: bytes) -> EpochId:
    """Return the id of the epoch whose 32-byte key is `epoch_key`. Raises MalformedMessage on another key length.

    It does not depend on the folder id, because the first epoch's stands in the genesis entry whose hash that id is.
    """
    if len(epoch_key) != KEY_SIZE_BYTES:
        raise MalformedMessage(f"an epoch key has {KEY_SIZE_BYTES} bytes, not {len(epoch_key)}")
    return EpochId(derive(epoch_key, b"ms1 epoch id"))


def secret_commitment(secret: bytes) -> bytes:
    """Return 32 bytes for the genesis entry that bind the owner to one folder secret.

    It does not depend on the folder id, which is a hash of that entry.
    """
    return derive(secret, b"ms1 secret id")


def pack_bundle(keys: FolderKeys) -> bytes:
    """Return the 65 bytes that a box carries to a member: version, folder secret, current epoch key."""
    return _BUNDLE_VERSION + keys.secret + keys.epochs[keys.current]


def open_bundle(folder: FolderId, epoch: EpochId, secret_id: bytes, bundle: bytes) -> FolderKeys:
    """Return the keys that `bundle` delivers, current at `epoch`, which the signed rekey entry states.

    `secret_id` is the commitment in the genesis entry. Raises MalformedMessage on another form, CommitmentMismatch if
    the epoch key is not that of `epoch` or the secret not that of `secret_id`: then an owner gave members different
    keys.
    """
    if len(bundle) != BUNDLE_SIZE_BYTES or bundle[:1] != _BUNDLE_VERSION:
        raise MalformedMessage("not a key bundle", folder=short(folder))
    secret, epoch_key = bundle[1 : 1 + KEY_SIZE_BYTES], bundle[1 + KEY_SIZE_BYTES :]
    if secret_commitment(secret) != secret_id:
        raise CommitmentMismatch("a folder secret does not match the genesis", folder=short(folder))
    return FolderKeys(folder, secret, {epoch: epoch_key}, epoch)


def wrap_epoch(new_key: bytes, old_key: bytes, folder: FolderId) -> bytes:
    """Return `old_key` sealed under `new_key` (72 bytes), to stand in the rekey entry."""
    return seal(
        _for_folder(new_key, b"wrap", folder), _for_folder(new_key, b"wrap nonce", folder), _wrapping(folder), old_key
    )


def unwrap_epoch(new_key: bytes, wrapped: bytes, folder: FolderId, old_epoch: EpochId) -> bytes:
    """Return the 32-byte key of `old_epoch` from a rekey entry of the epoch whose key is `new_key`.

    Raises AuthenticationFailed if `wrapped` is not sealed under `new_key`, CommitmentMismatch if it holds another key.
    """
    old_key = unseal(_for_folder(new_key, b"wrap", folder), _wrapping(folder), wrapped)
    if len(old_key) != KEY_SIZE_BYTES or commitment(old_key) != old_epoch:
        raise CommitmentMismatch(f"the wrapped key is not that of epoch {short(old_epoch)}", folder=short(folder))
    return old_key


def _wrapping(folder: FolderId) -> bytes:
    return _WRAP_DOMAIN + folder


def _for_folder(key: bytes, purpose: bytes, folder: FolderId) -> bytes:
    """Return the 32-byte key for `purpose` (at most 12 bytes), bound to all 32 bytes of the folder id."""
    if len(folder) != ID_SIZE_BYTES:
        raise MalformedMessage(f"a folder id has {ID_SIZE_BYTES} bytes, not {len(folder)}")
    person = b"ms1 " + purpose
    half = ID_SIZE_BYTES // 2
    return derive(derive(key, person, folder[:half]), person, folder[half:])
