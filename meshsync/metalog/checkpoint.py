"""The envelope of a checkpoint: which entries it covers, and which sealed blobs hold the live state.

Invariant: the state is exactly what full replay of the covered entries gives; every member can check that, and a dot
under the vector that is not in the state is gone (`semantics.md` 3.6). The state itself stays sealed here.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from meshsync import limits
from meshsync.crypto.identity import DeviceKeys
from meshsync.ids import BlobId, EpochId, FolderId, RecordId
from meshsync.metalog.fields import RECORD_VERSION, Blob, ChainHead, Epoch, LogId, RelaySeen, check_ascending
from meshsync.metalog.signed import Statement, open_statement, sign_statement

SIGNATURE_KIND = "checkpoint"


class Checkpoint(Statement, frozen=True):
    """`device`, a writer, states what the entries up to `vector` add up to.

    `vector` lists the newest covered entry of each branch, ascending. `state` lists the blobs of the sealed state, in
    the order of its pieces: their ids are its hash. They are sealed under `epoch` and hold, beside the live state, the
    rows (`chain.Row`) of the covered entries. `relay_seen` tells from where each relay's log goes on.
    """

    membership: LogId
    epoch: Epoch
    vector: Annotated[tuple[ChainHead, ...], msgspec.Meta(min_length=1, max_length=limits.HEADS_MAX)]
    relay_seen: Annotated[tuple[RelaySeen, ...], msgspec.Meta(max_length=limits.FOLDER_RELAYS_MAX)]
    state: Annotated[tuple[Blob, ...], msgspec.Meta(min_length=1, max_length=limits.CHECKPOINT_STATE_BLOBS_MAX)]


def make_checkpoint(
    keys: DeviceKeys,
    folder: FolderId,
    *,
    membership: RecordId,
    epoch: EpochId,
    vector: tuple[ChainHead, ...],
    state: tuple[BlobId, ...],
    relay_seen: tuple[RelaySeen, ...] = (),
) -> bytes:
    """Return the signed checkpoint. `vector` and `relay_seen` come in any order, `state` in that of its pieces."""
    checkpoint = Checkpoint(
        RECORD_VERSION,
        folder,
        keys.device,
        membership,
        epoch,
        tuple(sorted(vector)),
        tuple(sorted(relay_seen)),
        state,
    )
    return sign_statement(keys, SIGNATURE_KIND, checkpoint)


def open_checkpoint(data: bytes, folder: FolderId) -> Checkpoint:
    """Return the verified checkpoint; the caller checks that `device` may write.

    Raises MalformedMessage, FormatUnsupported, SignatureInvalid, IntegrityError (another folder).
    """
    checkpoint = open_statement(data, SIGNATURE_KIND, Checkpoint, folder, limits.CHECKPOINT_BYTES_MAX)
    check_ascending(checkpoint.vector, "the heads of a checkpoint")
    check_ascending(tuple(seen.relay for seen in checkpoint.relay_seen), "the relays of a checkpoint")
    return checkpoint
