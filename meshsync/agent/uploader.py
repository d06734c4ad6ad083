"""Brings the content of published versions to a relay, a bounded batch at a time, and asks for the receipt.

Invariant: a blob is sealed and offered once for each chunk that no stored record names yet; the relay asks for the ones
it lacks, so nothing is sent twice; a stored record is signed only after all its blobs were acknowledged as durable, and
appended only after its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from meshsync.agent.conversation import RelayConversation
from meshsync.agent.local_chunks import LocalChunks
from meshsync.agent.replica import Replica
from meshsync.agent.stored_parts import ContentAbsent, Part, Piece, is_in_parts, parts_of, pieces_of
from meshsync.content.record import Content
from meshsync.content.seal import BlobKind, seal_chunk
from meshsync.content.stored_list import StoredItem, seal_stored_list
from meshsync.crypto.folder_keys import FolderKeys
from meshsync.crypto.hashing import blob_id
from meshsync.errors import MalformedMessage
from meshsync.ids import BlobId, ChunkId, DeviceId, Dot, RecordId, dot_parts
from meshsync.index.chunk_rows import BlobRow, ChunkRows
from meshsync.index.relay_rows import RelayRows
from meshsync.index.version_rows import VersionRow
from meshsync.limits import (
    STORED_BLOBS_MAX,
    UPLOAD_BATCH_BYTES,
    UPLOAD_PARTS_GROUPS_MAX,
    UPLOAD_PARTS_PIECES,
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
    Offer,
    Offered,
    RecordRefused,
    StoredBlobs,
    Wanted,
    refusal_error,
)


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
        relay: DeviceId,
        replica: Replica,
        relay_rows: RelayRows,
        chunks: ChunkRows,
        local: LocalChunks,
        content_of: Callable[[VersionRow], Content],
        on_receipt: Callable[[bytes], None],
    ) -> None:
        self._runtime = runtime
        self._relay = relay
        self._replica = replica
        self._relay_rows = relay_rows
        self._chunks = chunks
        self._local = local
        self._content_of = content_of
        self._on_receipt = on_receipt
        self.sent_bytes = 0

    async def upload(self, link: Link, versions: Sequence[VersionRow]) -> bool:
        """Make some of `versions` durable at the relay; return whether it is worth to go on at once.

        Those that one record can hold come first, together; of the others one is brought a bounded part further, so
        that none waits long behind a large one. A version whose content is no longer here is done by being declared
        gone, if this device wrote it; otherwise it is left for whoever holds it. Raises TransientError, AccessError,
        StorageFull, PeerError.
        """
        conversation = RelayConversation(await link.open_stream(Priority.BULK))
        try:
            await conversation.send(Attach(self._replica.folder))
            await conversation.expect(Attached)
            small, large = await self._runtime.in_thread(self._plan, versions[:UPLOAD_RECORD_VERSIONS_MAX])
            if small and await self._upload_small(conversation, small):
                return True
            for dot, content in large.items():
                if await self._upload_large(conversation, dot, content):
                    return True
            return False
        finally:
            conversation.reset()

    def _plan(self, versions: Sequence[VersionRow]) -> tuple[dict[Dot, list[Piece] | None], dict[Dot, Content]]:
        """Return the pieces of each version for one record, None where that is not known here, and the large ones."""
        small: dict[Dot, list[Piece] | None] = {}
        large: dict[Dot, Content] = {}
        count = 0
        for version in versions:
            content = self._content_of(version)
            if is_in_parts(content):
                large[version.dot] = content
                continue
            pieces = pieces_of(content, self._chunks.list_bytes)
            count += len(pieces or ())
            if count > STORED_BLOBS_MAX:
                break
            small[version.dot] = pieces
        return small, large

    async def _upload_small(self, conversation: RelayConversation, wanted: dict[Dot, list[Piece] | None]) -> bool:
        """Store versions in one record; return whether any is done."""
        items = await self._upload_pieces(conversation, [piece for pieces in wanted.values() for piece in pieces or ()])
        dots = [dot for dot, pieces in wanted.items() if _complete(pieces, items)]
        gone = [dot for dot in wanted.keys() - set(dots) if self._is_over(dot)]
        if not dots and not gone:
            return False
        stored = {piece.chunk: items[piece.chunk] for dot in dots for piece in wanted[dot] or ()}
        return await self._append(conversation, [await self._runtime.in_thread(self._make_record, stored, dots, gone)])

    async def _upload_large(self, conversation: RelayConversation, dot: Dot, content: Content) -> bool:
        """Bring one version in parts; return whether it got further."""
        try:
            part, moved = await self._store_parts(conversation, content)
        except ContentAbsent:
            if not self._is_over(dot):
                return False
            return await self._append(conversation, [self._make_record({}, gone=[dot])])
        if part is None:
            return moved
        return await self._append(conversation, [self._make_record({}, dots=[dot], parts=[part])])

    def _is_over(self, name: Dot) -> bool:
        """Whether this device wrote the version and it shows nowhere any more: it need not be stored.

        One that is shown and cannot be read now (a disk that is not mounted, a file on its way to another name) is not
        over: its content comes back, or a later look tells that it does not.
        """
        rows = self._replica.chains.rows(dot_parts(name)[0])
        if not rows or rows[0].device != self._replica.device.device:
            return False
        return not self._replica.view.is_shown(name)

    # --- a large version, part by part ------------------------------------------------------------------------

    async def _store_parts(self, conversation: RelayConversation, content: Content) -> tuple[RecordId | None, bool]:
        """Store parts that the relay does not have yet, UPLOAD_PARTS_GROUPS_MAX groups at the most.

        Returns the record of the root, None if there is more to do, and whether anything was stored. What was stored
        stays known, so that an upload that was interrupted goes on and the next version of the file stores only its
        new parts. Raises ContentAbsent if some of it is not here.
        """
        stored = partial(self._relay_rows.part, self._relay)
        parts = parts_of(content, self._chunks.list_bytes, lambda name: stored(name) is not None)
        moved = False
        for _ in range(UPLOAD_PARTS_GROUPS_MAX):
            group = await self._runtime.in_thread(_take, parts)
            if not group:
                break
            items = await self._upload_pieces(conversation, [piece for part in group for piece in part.pieces])
            if not all(_complete(part.pieces, items) for part in group):
                raise ContentAbsent
            records = await self._runtime.in_thread(self._part_records, group, items)
            if not await self._append(conversation, list(records.values())):
                break
            names = [(part, stored_id(record)) for part, record in records.items()]
            await self._runtime.in_thread(self._relay_rows.put_parts, self._relay, names)
            moved = True
        return await self._runtime.in_thread(stored, content.root), moved

    def _part_records(self, group: Sequence[Part], items: dict[ChunkId, StoredItem]) -> dict[ChunkId, bytes]:
        made: dict[ChunkId, bytes] = {}
        for part in group:
            below = []
            for name in part.lists:
                record = stored_id(made[name]) if name in made else self._relay_rows.part(self._relay, name)
                assert record is not None, "the parts below come first"
                below.append(record)
            made[part.id] = self._make_record({piece.chunk: items[piece.chunk] for piece in part.pieces}, parts=below)
        return made

    # --- blobs and records ------------------------------------------------------------------------------------

    async def _upload_pieces(
        self, conversation: RelayConversation, pieces: Sequence[Piece]
    ) -> dict[ChunkId, StoredItem]:
        """Bring what no record names yet to the relay; return where every piece is that is there."""
        fresh = {piece.chunk: piece for piece in pieces}
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

    async def _append(self, conversation: RelayConversation, records: Sequence[bytes]) -> bool:
        """Append stored records, parts first; return whether all are there. Raises what the relay refuses with.

        What the relay has lost is forgotten here, so that the next upload brings it again.
        """
        await conversation.send(Append(tuple(LogRecord(int(RecordKind.STORED), record) for record in records)))
        outcomes = (await conversation.expect(AppendResult)).outcomes
        lost: list[bytes] = []
        for record, outcome in zip(records, outcomes, strict=True):
            if isinstance(outcome, Appended | AlreadyThere):
                await self._runtime.in_thread(self._replica.log_rows.put_stored, stored_id(record), record)
                if outcome.receipt:
                    await self._runtime.in_thread(self._on_receipt, outcome.receipt)
            elif isinstance(outcome, RecordRefused):
                raise refusal_error(outcome)
            else:
                lost += outcome.ids
        if lost:
            await self._runtime.in_thread(self._forget, lost)
        return not lost

    def _forget(self, lost: list[bytes]) -> None:
        with self._replica.database.transaction():
            self._chunks.forget_blobs([BlobId(name) for name in lost])
            self._relay_rows.forget_parts(self._relay, [RecordId(name) for name in lost])

    def _make_record(
        self,
        items: dict[ChunkId, StoredItem],
        dots: Sequence[Dot] = (),
        gone: Sequence[Dot] = (),
        parts: Sequence[RecordId] = (),
    ) -> bytes:
        blobs = tuple(sorted({item.blob for item in items.values()}))
        sealed = seal_stored_list(self._replica.keys, blobs, list(items.values())) if items else b""
        return make_stored(
            self._replica.device,
            self._replica.folder,
            membership=self._replica.membership.head,
            dots=tuple(dots),
            gone=tuple(gone),
            blobs=blobs,
            parts=tuple(parts),
            sealed=sealed,
        )


def _take(parts: Iterator[Part]) -> list[Part]:
    """Return the next parts, of UPLOAD_PARTS_PIECES pieces or a little more."""
    group: list[Part] = []
    count = 0
    while count < UPLOAD_PARTS_PIECES and (part := next(parts, None)) is not None:
        group.append(part)
        count += len(part.pieces) + len(part.lists)
    return group


def _complete(pieces: Sequence[Piece] | None, items: dict[ChunkId, StoredItem]) -> bool:
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
