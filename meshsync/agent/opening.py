"""Opening what a source sent. Invariant: bytes that come out hash to the chunk id that was asked for."""

from __future__ import annotations

from collections.abc import Callable

from meshsync.agent.fetcher import Sealed
from meshsync.chunking.pieces import rebuild
from meshsync.content.chunk_ids import check_chunk
from meshsync.content.seal import BlobKind, unseal_chunk
from meshsync.crypto.folder_keys import FolderKeys
from meshsync.limits import CHUNK_SIZE_BYTES_MAX, MANIFEST_LIST_BYTES_MAX


def open_answer(keys: Callable[[], FolderKeys], answer: Sealed) -> bytes:
    """Return the plaintext of an answer, checked against its chunk id. Blocks; run it in a thread.

    Raises IntegrityError if it does not open or is another chunk, MalformedMessage if a delta is ill-formed.
    """
    need = answer.need
    current = keys()
    size_max = CHUNK_SIZE_BYTES_MAX if need.kind is BlobKind.CHUNK else MANIFEST_LIST_BYTES_MAX
    if answer.form == 1 and need.base is not None:
        delta = unseal_chunk(current, answer.epoch, BlobKind.DELTA, answer.blob, size_max)
        data = rebuild(need.base, delta, size_max)
    else:
        data = unseal_chunk(current, answer.epoch, need.kind, answer.blob, size_max)
    check_chunk(current, need.kind, need.chunk, data)
    return data
