"""The sealed list of a stored record: which chunk each of its blobs holds.

Invariant: read by members only. A wrong pair is harmless: the chunk id is checked when the blob is opened.

Bytes: epoch id (32) that seals the list ‖ blob of kind STORED holding the canonical `_List`. Blobs are named by their
position in the record's clear, ascending list of blob ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from meshsync.codec.canonical import Record, decode, encode
from meshsync.content.seal import BlobKind, seal_chunk, unseal_chunk
from meshsync.crypto.folder_keys import FolderKeys
from meshsync.errors import MalformedMessage
from meshsync.ids import ID_SIZE_BYTES, BlobId, ChunkId, EpochId
from meshsync.limits import STORED_BLOBS_MAX, STORED_EPOCHS_MAX, STORED_SEALED_BYTES_MAX

_Id = Annotated[bytes, msgspec.Meta(min_length=ID_SIZE_BYTES, max_length=ID_SIZE_BYTES)]
_Position = Annotated[int, msgspec.Meta(ge=0, lt=STORED_BLOBS_MAX)]


class _Item(Record, frozen=True):
    chunk: _Id
    blob: _Position
    epoch: Annotated[int, msgspec.Meta(ge=0, lt=STORED_EPOCHS_MAX)]
    base: _Position | None


class _List(Record, frozen=True):
    epochs: Annotated[tuple[_Id, ...], msgspec.Meta(max_length=STORED_EPOCHS_MAX)]
    items: Annotated[tuple[_Item, ...], msgspec.Meta(max_length=STORED_BLOBS_MAX)]


@dataclass(frozen=True, slots=True)
class StoredItem:
    """`blob`, sealed under `epoch`, holds `chunk`; with `base`, as a delta to the full chunk in that blob."""

    chunk: ChunkId
    blob: BlobId
    epoch: EpochId
    base: BlobId | None = None


def seal_stored_list(keys: FolderKeys, blobs: Sequence[BlobId], items: Sequence[StoredItem]) -> bytes:
    """Return the sealed list. `blobs` is the record's ascending list; every item names blobs of it.

    Raises MalformedMessage for more than STORED_BLOBS_MAX items or STORED_EPOCHS_MAX epochs, which nobody would read.
    """
    at = {blob: position for position, blob in enumerate(blobs)}
    epochs = sorted({item.epoch for item in items})
    if len(items) > STORED_BLOBS_MAX or len(epochs) > STORED_EPOCHS_MAX:
        raise MalformedMessage(f"a stored record's list of {len(items)} items under {len(epochs)} epochs")
    rows = tuple(
        _Item(item.chunk, at[item.blob], epochs.index(item.epoch), None if item.base is None else at[item.base])
        for item in sorted(items, key=lambda item: (item.chunk, item.blob))
    )
    data = encode(_List(tuple(epochs), rows))
    return keys.current + seal_chunk(keys, keys.current, BlobKind.STORED, data)


def open_stored_list(keys: FolderKeys, blobs: Sequence[BlobId], sealed: bytes) -> list[StoredItem]:
    """Return the items, ascending by chunk. `sealed` has any length; `blobs` is the record's list.

    Raises MalformedMessage (too short, ill-formed, names what is not there), AccessError (the epoch's key is not held),
    AuthenticationFailed or another IntegrityError (altered, of another kind, folder or epoch).
    """
    if len(sealed) < ID_SIZE_BYTES:
        raise MalformedMessage(f"a stored record's list of {len(sealed)} bytes names no epoch")
    epoch = EpochId(sealed[:ID_SIZE_BYTES])
    data = unseal_chunk(keys, epoch, BlobKind.STORED, sealed[ID_SIZE_BYTES:], STORED_SEALED_BYTES_MAX)
    read = decode(_List, data, STORED_SEALED_BYTES_MAX)
    try:
        return [
            StoredItem(
                ChunkId(item.chunk),
                blobs[item.blob],
                EpochId(read.epochs[item.epoch]),
                None if item.base is None else blobs[item.base],
            )
            for item in read.items
        ]
    except IndexError:
        raise MalformedMessage("a stored record's list names a blob or epoch that it does not have") from None
