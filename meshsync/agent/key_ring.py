"""How this device comes by a folder's keys: from its boxes in the membership chain, kept in one file of its own.

Invariant: an epoch's key is held only if it matches the commitment that a signed entry states.
"""

from __future__ import annotations

from meshsync.codec.canonical import Record, decode, encode
from meshsync.crypto.envelope import unbox
from meshsync.crypto.folder_keys import FolderKeys, open_bundle, unwrap_epoch
from meshsync.crypto.hashing import derive
from meshsync.crypto.sealing import seal, unseal
from meshsync.errors import AccessError, IntegrityError, MalformedMessage
from meshsync.ids import EpochId, FolderId, short
from meshsync.limits import FOLDER_KEYS_BYTES_MAX
from meshsync.metalog.membership import Membership

_NAME_DOMAIN = b"meshsync/1/name\0"
_PERSON_MARK = "\0"  # no name that a user types holds it


class _Kept(Record, frozen=True):
    version: int
    folder: bytes
    secret: bytes
    current: bytes
    epochs: tuple[tuple[bytes, bytes], ...]


def pack_keys(keys: FolderKeys) -> bytes:
    """Return the bytes in which a device keeps a folder's keys."""
    epochs = tuple(sorted((bytes(epoch), key) for epoch, key in keys.epochs.items()))
    return encode(_Kept(1, keys.folder, keys.secret, keys.current, epochs))


def unpack_keys(data: bytes) -> FolderKeys:
    """Return the keys in `data`. Raises MalformedMessage, CommitmentMismatch."""
    kept = decode(_Kept, data, FOLDER_KEYS_BYTES_MAX)
    epochs = {EpochId(epoch): key for epoch, key in kept.epochs}
    return FolderKeys(FolderId(kept.folder), kept.secret, epochs, EpochId(kept.current))


def keys_from_boxes(membership: Membership, recipient: bytes, box_secret: bytes) -> FolderKeys:
    """Return all keys that `recipient` (a device or a ticket's key) can open with its 32-byte X25519 secret.

    Raises AccessError if there is no box for it, MalformedMessage or IntegrityError if the current epoch's does not
    open to what the chain commits to, or none does: then an owner gave members different keys.
    """
    boxes = membership.key_boxes(recipient)
    if not boxes:
        raise AccessError("the folder's keys were not given to this device", folder=short(membership.folder))
    keys: FolderKeys | None = None
    for box in boxes:
        try:
            opened = open_bundle(membership.folder, box.epoch, membership.genesis.secret, unbox(box_secret, box.sealed))
        except (IntegrityError, MalformedMessage):
            if box.epoch == membership.epoch or (keys is None and box is boxes[-1]):
                raise
            continue
        keys = opened if keys is None else keys.with_epoch(opened.epochs[box.epoch], make_current=False)
    assert keys is not None
    return with_history(keys, membership)


def with_history(keys: FolderKeys, membership: Membership) -> FolderKeys:
    """Return `keys` with every earlier epoch that the membership chain wraps under one of them."""
    pending = list(keys.epochs)
    while pending:
        epoch = pending.pop()
        for wrapped in membership.wrapped.get(epoch, ()):
            if wrapped.epoch not in keys.epochs:
                old = unwrap_epoch(keys.epochs[epoch], wrapped.sealed, keys.folder, wrapped.epoch)
                keys = keys.with_epoch(old, make_current=False)
                pending.append(wrapped.epoch)
    return keys


def merged(old: FolderKeys, new: FolderKeys) -> FolderKeys:
    """Return the keys of both; `new`'s current epoch stays current."""
    for epoch, key in old.epochs.items():
        if epoch not in new.epochs:
            new = new.with_epoch(key, make_current=False)
    return new


def seal_name(secret: bytes, name: str) -> bytes:
    """Return a folder's or device's display name, sealed with the folder's secret."""
    return seal(
        derive(secret, b"ms1 name"),
        derive(secret, b"ms1 name nonce"),
        _NAME_DOMAIN,
        name.encode(errors="replace")[:255],
    )


def device_label(name: str, person: str) -> str:
    """Return what a device's entry seals as its name: its own, and its person's if there is one.

    Each is cut so that both fit.
    """
    parts = (name, person) if person else (name,)
    cut = (part.replace(_PERSON_MARK, "").encode(errors="replace")[:127].decode(errors="ignore") for part in parts)
    return _PERSON_MARK.join(cut)


def open_label(secret: bytes, sealed: bytes) -> tuple[str, str]:
    """Return a device's name and its person's, each "" if it is not told."""
    name, _, person = open_name(secret, sealed).partition(_PERSON_MARK)
    return name, person


def open_name(secret: bytes, sealed: bytes) -> str:
    """Return a sealed name, or "" if there is none or it does not open: a name is decoration."""
    if not sealed:
        return ""
    try:
        return unseal(derive(secret, b"ms1 name"), _NAME_DOMAIN, sealed).decode(errors="replace")
    except IntegrityError:
        return ""
