"""Brings the content of published versions to a relay, a bounded batch at a time, and asks for the receipt.

Invariant: a blob is sealed and offered once for each chunk that no stored record names yet; the relay asks for the ones
it lacks, so nothing is sent twice; a stored record is signed only after all its blobs were acknowledged as durable.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from meshsync.agent.conversation import RelayConversation
from meshsync.agent.local_chunks import LocalChunks
from meshsync.agent.replica import Replica
from meshsync.content.manifest import expand, root_node
from meshsync.content.record import Content, Kind
from meshsync.content.seal import BlobKind, seal_chunk
from meshsync.content.stored_list import StoredItem, seal_stored_list
from meshsync.crypto.folder_keys import FolderKeys
from meshsync.crypto.hashing import blob_id
from meshsync.errors import MalformedMessage
from meshsync.ids import BlobId, ChunkId, Dot
from meshsync.index.chunk_rows import BlobRow, ChunkRows
from meshsync.index.version_rows import VersionRow
from meshsync.limits import (
    STORED_BLOBS_MAX,
    UPLOAD_BATCH_BYTES,
    UPLOAD_RECORD_VERSIONS_MAX,
    WANT_ITEMS_MAX,
)
from meshsync.metalog.record_log import LogRecord, RecordKind
from meshsync.metalog.stored import make_stored, stored_id
from meshsync.runtime import Runtime
from meshsync.transport.base import Link, Priority
from meshsync.wire.relay_messages import (
    AlreadyThere,
    Append,
    Appended,
    AppendResult,
    Attach,
    Attached,
    BlobUpload,
    MissingBlobs,
    Offer,
    Offered,
    RecordRefused,
    StoredBlobs,
    Wanted,
    refusal_error,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Piece:
    """One chunk or list of a version."""

    chunk: ChunkId
    kind: BlobKind
    size: int


@dataclass(frozen=True, slots=True)
class _SealedBlob:
    piece: Piece
    blob: BlobId
    data: bytes


class Uploader:
    """Uploads for one folder to one relay. `content_of` gives a version row's content; `on_receipt` gets receipts."""

    def __init__(
        self,
        runtime: Runtime,
        replica: Replica,
        chunks: ChunkRows,
        local: LocalChunks,
        content_of: Callable[[VersionRow], Content],
        on_receipt: Callable[[bytes], None],
    ) -> None:
        self._runtime = runtime
        self._replica = replica
        self._chunks = chunks
        self._local = local
        self._content_of = content_of
        self._on_receipt = on_receipt
        self.sent_bytes = 0

    async def upload(self, link: Link, versions: Sequence[VersionRow]) -> int:
        """Make as many of `versions` durable at the relay as one record takes; return how many are done.

        A version whose content is no longer here is done by being declared gone, if this device wrote it; otherwise it
        is left for whoever holds it. Raises TransientError, AccessError, StorageFull, PeerError.
        """
        conversation = RelayConversation(await link.open_stream(Priority.BULK))
        try:
            await conversation.send(Attach(self._replica.folder))
            await conversation.expect(Attached)
            wanted = await self._runtime.in_thread(self._plan, versions[:UPLOAD_RECORD_VERSIONS_MAX])
            items = await self._upload_pieces(conversation, wanted)
            dots = [dot for dot, pieces in wanted.items() if _complete(pieces, items)]
            gone = [dot for dot, pieces in wanted.items() if not _complete(pieces, items) and self._is_own(dot)]
            needed = {piece.chunk for dot in dots for piece in wanted[dot] or ()}
            if not dots and not gone:
                return 0
            stored = await self._store(conversation, dots, gone, {chunk: items[chunk] for chunk in needed})
            return len(dots) + len(gone) if stored else 0
        finally:
            conversation.reset()

    def _plan(self, versions: Sequence[VersionRow]) -> dict[Dot, list[Piece] | None]:
        """Return what each version is made of, None if that is not known here; as many as one record takes."""
        wanted: dict[Dot, list[Piece] | None] = {}
        count = 0
        for version in versions:
            pieces = self._pieces(self._content_of(version))
            count += len(pieces or ())
            if count > STORED_BLOBS_MAX:
                if not wanted:
                    log.warning("a version of %d chunks is too large to be stored in one record", count)
                break
            wanted[version.dot] = pieces
        return wanted

    def _is_own(self, version: Dot) -> bool:
        rows = self._replica.chains.rows(version[:32])  # type: ignore[arg-type]
        return bool(rows) and rows[0].device == self._replica.device.device

    def _pieces(self, content: Content) -> list[Piece] | None:
        """Return all lists and chunks of a content, None if a list is not here."""
        if content.kind is not Kind.FILE:
            return []
        root = root_node(content)
        pieces: list[Piece] = []
        pending = [root] if root is not None else []
        while pending:
            node = pending.pop()
            if node.level == 0:
                pieces.append(Piece(node.id, BlobKind.CHUNK, node.size))
                continue
            data = self._chunks.list_bytes(node.id)
            if data is None:
                return None
            pieces.append(Piece(node.id, BlobKind.MANIFEST, len(data)))
            pending.extend(reversed(expand(node, data)))
        return pieces

    async def _upload_pieces(
        self, conversation: RelayConversation, wanted: dict[Dot, list[Piece] | None]
    ) -> dict[ChunkId, StoredItem]:
        """Bring what no record names yet to the relay; return where every piece is that is there."""
        fresh = {piece.chunk: piece for pieces in wanted.values() for piece in pieces or ()}
        known = await self._runtime.in_thread(self._chunks.blobs, list(fresh))
        items = {chunk: StoredItem(chunk, row.blob, row.epoch) for chunk, row in known.items()}
        keys = self._replica.keys
        for batch in _batches([piece for chunk, piece in fresh.items() if chunk not in known]):
            sealed = await self._runtime.in_thread(self._seal, keys, batch)
            await self._offer(conversation, sealed)
            rows = [(item.piece.chunk, BlobRow(item.blob, keys.current, len(item.data))) for item in sealed]
            await self._runtime.in_thread(self._keep_blobs, rows)
            items.update((chunk, StoredItem(chunk, row.blob, row.epoch)) for chunk, row in rows)
        return items

    def _keep_blobs(self, rows: list[tuple[ChunkId, BlobRow]]) -> None:
        with self._replica.database.transaction():
            self._chunks.put_blobs(rows)

    def _seal(self, keys: FolderKeys, batch: list[Piece]) -> list[_SealedBlob]:
        """Seal the pieces that are still here."""
        sealed = []
        here = self._local.find_chunks([piece.chunk for piece in batch if piece.kind is BlobKind.CHUNK])
        for piece in batch:
            data = here.get(piece.chunk) or self._local.find(piece.chunk, piece.kind)
            if data is not None:
                blob = seal_chunk(keys, keys.current, piece.kind, data)
                sealed.append(_SealedBlob(piece, blob_id(blob), blob))
        return sealed

    async def _offer(self, conversation: RelayConversation, sealed: list[_SealedBlob]) -> None:
        await conversation.send(Offer(tuple(Offered(item.blob, len(item.data)) for item in sealed)))
        wanted = await conversation.expect(Wanted)
        for position in wanted.positions:
            if position >= len(sealed):
                raise MalformedMessage("the relay wants a blob that was not offered")
            await conversation.send(BlobUpload(position, sealed[position].data))
            self.sent_bytes += len(sealed[position].data)
        done = await conversation.expect(StoredBlobs)
        if done.corrupt or done.count != len(wanted.positions):
            raise MalformedMessage("the relay did not store what was sent")

    async def _store(
        self, conversation: RelayConversation, dots: list[Dot], gone: list[Dot], items: dict[ChunkId, StoredItem]
    ) -> bool:
        """Append the stored record; return False if the relay asks for more first."""
        record = await self._runtime.in_thread(self._make_record, dots, gone, items)
        await conversation.send(Append((LogRecord(int(RecordKind.STORED), record),)))
        outcome = (await conversation.expect(AppendResult)).outcomes[0]
        if isinstance(outcome, Appended | AlreadyThere):
            await self._runtime.in_thread(self._replica.log_rows.put_stored, stored_id(record), record)
            if outcome.receipt:
                await self._runtime.in_thread(self._on_receipt, outcome.receipt)
            return True
        if isinstance(outcome, MissingBlobs):
            # The relay collected or lost blobs that a record named: seal and offer them again.
            missing = {BlobId(blob) for blob in outcome.ids}
            chunks = [item.chunk for item in items.values() if item.blob in missing]
            await self._runtime.in_thread(self._chunks.forget_blobs, chunks)
            return bool(chunks)
        if isinstance(outcome, RecordRefused):
            raise refusal_error(outcome)
        return False

    def _make_record(self, dots: list[Dot], gone: list[Dot], items: dict[ChunkId, StoredItem]) -> bytes:
        blobs = tuple(sorted({item.blob for item in items.values()}))
        sealed = seal_stored_list(self._replica.keys, blobs, list(items.values())) if items else b""
        return make_stored(
            self._replica.device,
            self._replica.folder,
            membership=self._replica.membership.head,
            dots=tuple(dots),
            gone=tuple(gone),
            blobs=blobs,
            sealed=sealed,
        )


def _complete(pieces: list[Piece] | None, items: dict[ChunkId, StoredItem]) -> bool:
    return pieces is not None and all(piece.chunk in items for piece in pieces)


def _batches(pieces: list[Piece]) -> Iterator[list[Piece]]:
    batch: list[Piece] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += piece.size
        if size >= UPLOAD_BATCH_BYTES or len(batch) >= WANT_ITEMS_MAX:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
