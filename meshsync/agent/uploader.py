"""Brings the content of published versions to a relay, a bounded batch at a time, and asks for the receipt.

Invariant: a blob is sealed and offered once for each chunk that no stored record of this relay names yet; the relay
asks for the ones it lacks, so nothing is sent twice; a stored record is signed only after all its blobs were
acknowledged as durable, and appended only after its parts. What lies no more on this device is fetched, for a relay
that was away, from one that has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from meshsync.agent.conversation import RelayConversation
from meshsync.agent.local_chunks import LocalChunks
from meshsync.agent.replica import Replica
from meshsync.agent.stored_parts import ContentAbsent, Part, Piece, is_in_parts, parts_of, pieces_of
from meshsync.content.manifest import root_node
from meshsync.content.record import Content, Kind
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
    MANIFEST_LIST_BYTES_MAX,
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
    """Uploads for one folder to one relay.

    `content_of` gives a version row's content; `on_receipt` gets receipts; `kept_elsewhere` tells which versions
    another relay of the folder has, `fetch` asks for a chunk or list of one (None if nobody gives it now).
    """

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
        kept_elsewhere: Callable[[list[Dot]], set[Dot]],
        fetch: Callable[[ChunkId, BlobKind, int], Awaitable[bytes | None]],
    ) -> None:
        self._runtime = runtime
        self._relay = relay
        self._replica = replica
        self._relay_rows = relay_rows
        self._chunks = chunks
        self._local = local
        self._content_of = content_of
        self._on_receipt = on_receipt
        self._kept_elsewhere = kept_elsewhere
        self._fetch = fetch
        self.sent_bytes = 0

    async def upload(self, link: Link, versions: Sequence[VersionRow]) -> bool:
        """Make some of `versions` durable at the relay; return whether it is worth to go on at once.

        Those that one record can hold come first, together; of the others one is brought a bounded part further, so
        that none waits long behind a large one. A version whose content is at no relay and no longer here is done by
        being declared gone, if this device wrote it; otherwise it is left for whoever holds it, and holds up none of
        the others. Raises TransientError, AccessError, StorageFull, PeerError, IntegrityError.
        """
        conversation = RelayConversation(await link.open_stream(Priority.BULK))
        try:
            await conversation.send(Attach(self._replica.folder))
            await conversation.expect(Attached)
            elsewhere = await self._runtime.in_thread(self._kept_elsewhere, [version.dot for version in versions])
            large: dict[Dot, Content] = {}
            at = 0
            while at < len(versions):
                await self._bring_lists(versions[at : at + UPLOAD_RECORD_VERSIONS_MAX], elsewhere)
                small, more, taken = await self._runtime.in_thread(self._plan, versions[at:])
                large |= more
                at += taken
                if small and await self._upload_small(conversation, small, elsewhere):
                    return True
            for dot, content in large.items():
                if await self._upload_large(conversation, dot, content, dot in elsewhere):
                    return True
            return False
        finally:
            conversation.reset()

    def _plan(self, versions: Sequence[VersionRow]) -> tuple[dict[Dot, list[Piece] | None], dict[Dot, Content], int]:
        """Return the pieces of each version for one record, None where that is not known here, and the large ones.

        The last value is how many of `versions` these are, at least one.
        """
        small: dict[Dot, list[Piece] | None] = {}
        large: dict[Dot, Content] = {}
        count = 0
        for taken, version in enumerate(versions[:UPLOAD_RECORD_VERSIONS_MAX]):
            content = self._content_of(version)
            if is_in_parts(content):
                large[version.dot] = content
                continue
            pieces = pieces_of(content, self._chunks.list_bytes)
            count += len(pieces or ())
            if small and count > STORED_BLOBS_MAX:
                return small, large, taken
            small[version.dot] = pieces
        return small, large, min(len(versions), UPLOAD_RECORD_VERSIONS_MAX)

    async def _bring_lists(self, versions: Sequence[VersionRow], elsewhere: set[Dot]) -> None:
        """Fetch the lists of versions that one record can hold and that another relay has."""
        for version in versions:
            content = self._content_of(version)
            if version.dot not in elsewhere or is_in_parts(content):
                continue
            root = root_node(content) if content.kind is Kind.FILE else None
            if root is not None and root.level:
                await self._bring_list(root.id)

    async def _bring_list(self, name: ChunkId) -> bool:
        """Fetch a manifest list unless it is here; return whether it is then."""
        if await self._runtime.in_thread(self._chunks.list_bytes, name) is not None:
            return True
        data = await self._fetch(name, BlobKind.MANIFEST, MANIFEST_LIST_BYTES_MAX)
        if data is None:
            return False
        await self._runtime.in_thread(self._keep_list, name, data)
        return True

    def _keep_list(self, name: ChunkId, data: bytes) -> None:
        with self._replica.database.transaction():
            self._chunks.put_lists([(name, data)])

    async def _upload_small(
        self, conversation: RelayConversation, wanted: dict[Dot, list[Piece] | None], elsewhere: set[Dot]
    ) -> bool:
        """Store versions in one record; return whether any is done."""
        pieces = [piece for pieces in wanted.values() for piece in pieces or ()]
        kept = {piece.chunk for dot in elsewhere for piece in wanted.get(dot) or ()}
        items = await self._upload_pieces(conversation, pieces, kept)
        dots = [dot for dot, pieces in wanted.items() if _complete(pieces, items)]
        gone = [dot for dot in wanted.keys() - set(dots) - elsewhere if self._is_over(dot)]
        if not dots and not gone:
            return False
        stored = {piece.chunk: items[piece.chunk] for dot in dots for piece in wanted[dot] or ()}
        return await self._append(conversation, [await self._runtime.in_thread(self._make_record, stored, dots, gone)])

    async def _upload_large(self, conversation: RelayConversation, dot: Dot, content: Content, elsewhere: bool) -> bool:
        """Bring one version in parts; return whether it got further. `elsewhere`: another relay has it."""
        try:
            part, moved = await self._store_parts(conversation, content, elsewhere)
        except ContentAbsent:
            if elsewhere or not self._is_over(dot):
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

    async def _store_parts(
        self, conversation: RelayConversation, content: Content, elsewhere: bool
    ) -> tuple[RecordId | None, bool]:
        """Store parts that the relay does not have yet, UPLOAD_PARTS_GROUPS_MAX groups at the most.

        Returns the record of the root, None if there is more to do, and whether anything was stored. What was stored
        stays known, so that an upload that was interrupted goes on and the next version of the file stores only its
        new parts. Raises ContentAbsent if some of it is neither here nor, where it is `elsewhere`, given by others.
        """
        stored = partial(self._relay_rows.part, self._relay)
        moved = False
        for _ in range(UPLOAD_PARTS_GROUPS_MAX):
            parts = parts_of(content, self._chunks.list_bytes, lambda name: stored(name) is not None)
            try:
                group = await self._runtime.in_thread(_take, parts)
            except ContentAbsent as absent:
                if not elsewhere or absent.wanted is None or not await self._bring_list(absent.wanted):
                    raise
                moved = True
                continue
            if not group:
                break
            pieces = [piece for part in group for piece in part.pieces]
            items = await self._upload_pieces(
                conversation, pieces, {piece.chunk for piece in pieces} if elsewhere else set()
            )
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
        self, conversation: RelayConversation, pieces: Sequence[Piece], elsewhere: set[ChunkId]
    ) -> dict[ChunkId, StoredItem]:
        """Bring what no record names yet to the relay; return where every piece is that is there.

        Of those that are not here, `elsewhere` are fetched.
        """
        fresh = {piece.chunk: piece for piece in pieces}
        known = await self._runtime.in_thread(self._chunks.blobs, self._relay, list(fresh))
        items = {chunk: StoredItem(chunk, row.blob, row.epoch) for chunk, row in known.items()}
        keys = self._replica.keys
        for batch in _batches([piece for chunk, piece in fresh.items() if chunk not in known]):
            sealed = await self._runtime.in_thread(self._seal, keys, batch)
            here = {item.piece.chunk for item in sealed}
            sealed += await self._fetched(
                keys, [piece for piece in batch if piece.chunk in elsewhere and piece.chunk not in here]
            )
            await self._offer(conversation, sealed)
            rows = [(item.piece.chunk, BlobRow(item.blob, keys.current, len(item.data))) for item in sealed]
            await self._runtime.in_thread(self._keep_blobs, rows)
            items.update((chunk, StoredItem(chunk, row.blob, row.epoch)) for chunk, row in rows)
        return items

    def _keep_blobs(self, rows: list[tuple[ChunkId, BlobRow]]) -> None:
        with self._replica.database.transaction():
            self._chunks.put_blobs(self._relay, rows)

    async def _fetched(self, keys: FolderKeys, pieces: list[Piece]) -> list[_SealedBlob]:
        """Seal what others give of `pieces`."""
        given = await asyncio.gather(*(self._fetch(piece.chunk, piece.kind, piece.size) for piece in pieces))
        found = [(piece, data) for piece, data in zip(pieces, given, strict=True) if data is not None]
        return await self._runtime.in_thread(lambda: [_sealed(keys, piece, data) for piece, data in found])

    def _seal(self, keys: FolderKeys, batch: list[Piece]) -> list[_SealedBlob]:
        """Seal the pieces that are still here."""
        sealed = []
        here = self._local.find_chunks([piece.chunk for piece in batch if piece.kind is BlobKind.CHUNK])
        for piece in batch:
            data = here.get(piece.chunk) or self._local.find(piece.chunk, piece.kind)
            if data is not None:
                sealed.append(_sealed(keys, piece, data))
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
        return not await self._append_all(conversation, records)

    async def _append_all(self, conversation: RelayConversation, records: Sequence[bytes]) -> list[bytes]:
        """Append as `_append` does; return the blobs and parts that the relay has lost."""
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
        return lost

    async def append_again(
        self, conversation: RelayConversation, items: Mapping[ChunkId, StoredItem], dots: Sequence[Dot]
    ) -> list[BlobId]:
        """Store another record for `dots`, whose `items` are there; return which of them are not: then it is not taken.

        Raises as `upload`.
        """
        record = await self._runtime.in_thread(self._make_record, dict(items), dots)
        return [BlobId(blob) for blob in await self._append_all(conversation, [record])]

    def _forget(self, lost: list[bytes]) -> None:
        with self._replica.database.transaction():
            self._chunks.forget_blobs(self._relay, [BlobId(name) for name in lost])
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


def _sealed(keys: FolderKeys, piece: Piece, data: bytes) -> _SealedBlob:
    blob = seal_chunk(keys, keys.current, piece.kind, data)
    return _SealedBlob(piece, blob_id(blob), blob)


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
