"""Where chunks are: ranges of the user's own files, manifest lists, blobs named by stored records.

Invariant: a range is a hint. Who reads it checks the chunk id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meshsync.ids import BlobId, ChunkId, DeviceId, EpochId, NodeId
from meshsync.index.database import Database
from meshsync.limits import RANGES_PER_CHUNK_MAX, SQL_VALUES_MAX


@dataclass(frozen=True, slots=True)
class Range:
    """`size` bytes at `offset` of the file that is node `node`."""

    node: NodeId
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class BlobRow:
    """The blob of a relay that holds a chunk, sealed under `epoch`; `size` in sealed bytes, 0 if unknown."""

    blob: BlobId
    epoch: EpochId
    size: int


class ChunkRows:
    """Chunk locations of one folder."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def set_file(self, node: NodeId, chunks: Iterable[tuple[ChunkId, int]]) -> None:
        """Record the chunks of a whole file as (id, size in bytes) in order, in place of what was recorded."""
        number = self._forget(node)
        if number is None:
            number = self._db.insert("INSERT INTO file (node) VALUES (?)", (node,))
        rows = []
        offset = 0
        for chunk, size in chunks:
            rows.append((chunk, number, offset, size))
            offset += size
        self._db.execute_many("INSERT INTO chunk VALUES (?, ?, ?, ?)", rows)

    def remove_file(self, node: NodeId) -> None:
        """Forget the chunks of a file."""
        if self._forget(node) is not None:
            self._db.execute("DELETE FROM file WHERE node = ?", (node,))

    def _forget(self, node: NodeId) -> int | None:
        rows = self._db.execute("SELECT number FROM file WHERE node = ?", (node,))
        if not rows:
            return None
        self._db.execute("DELETE FROM chunk WHERE file = ?", rows[0])
        return int(rows[0][0])

    def files_named(self, mark: bytes) -> list[NodeId]:
        """Return the recorded files whose names end with `mark`."""
        rows = self._db.execute("SELECT node FROM file WHERE substr(node, -?) = ?", (len(mark), mark))
        return [NodeId(bytes(node)) for (node,) in rows]

    def file_chunks(self, node: NodeId) -> list[tuple[ChunkId, int]]:
        """Return (id, size) of the file's chunks in order; empty if none are recorded."""
        return [
            (ChunkId(chunk), size)
            for chunk, size in self._db.execute(
                "SELECT c.id, c.size FROM chunk c JOIN file f ON f.number = c.file WHERE f.node = ? ORDER BY c.offset",
                (node,),
            )
        ]

    def ranges_of(self, chunks: Sequence[ChunkId]) -> dict[ChunkId, list[Range]]:
        """Return the places in the user's files where each of `chunks` should be; unknown ones are left out.

        Of each file one, the first: a file that repeats a chunk and holds it no more hides no other file.
        """
        found: dict[ChunkId, list[Range]] = {}
        for start in range(0, len(chunks), SQL_VALUES_MAX):
            page = chunks[start : start + SQL_VALUES_MAX]
            marks = ",".join("?" * len(page))
            for chunk, node, offset, size in self._db.execute(
                "SELECT c.id, f.node, min(c.offset), c.size FROM chunk c JOIN file f ON f.number = c.file"
                f" WHERE c.id IN ({marks}) GROUP BY c.id, f.number ORDER BY f.number",
                page,
            ):
                places = found.setdefault(ChunkId(chunk), [])
                if len(places) < RANGES_PER_CHUNK_MAX:
                    places.append(Range(NodeId(node), offset, size))
        return found

    def put_lists(self, lists: Iterable[tuple[ChunkId, bytes]]) -> None:
        """Keep manifest lists by id."""
        self._db.execute_many("INSERT OR IGNORE INTO list VALUES (?, ?)", lists)

    def list_bytes(self, chunk: ChunkId) -> bytes | None:
        """Return a manifest list, or None."""
        rows = self._db.execute("SELECT data FROM list WHERE id = ?", (chunk,))
        return bytes(rows[0][0]) if rows else None

    def put_blobs(self, relay: DeviceId, rows: Iterable[tuple[ChunkId, BlobRow]]) -> None:
        """Record which blob of `relay` holds a chunk; a later record wins."""
        self._db.execute_many(
            "INSERT INTO blob VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET blob = excluded.blob,"
            " epoch = excluded.epoch, size = excluded.size",
            ((chunk, relay, row.blob, row.epoch, row.size) for chunk, row in rows),
        )

    def held_in(self, relay: DeviceId, blobs: Sequence[BlobId]) -> set[ChunkId]:
        """Return the chunks that are known to be in these blobs of `relay`."""
        found: set[ChunkId] = set()
        for start in range(0, len(blobs), SQL_VALUES_MAX):
            page = blobs[start : start + SQL_VALUES_MAX]
            marks = ",".join("?" * len(page))
            rows = self._db.execute(f"SELECT chunk FROM blob WHERE relay = ? AND blob IN ({marks})", (relay, *page))
            found.update(ChunkId(chunk) for (chunk,) in rows)
        return found

    def forget_blobs(self, relay: DeviceId, blobs: Sequence[BlobId]) -> None:
        """Forget which chunks these blobs of `relay` hold."""
        for start in range(0, len(blobs), SQL_VALUES_MAX):
            page = blobs[start : start + SQL_VALUES_MAX]
            marks = ",".join("?" * len(page))
            self._db.execute(f"DELETE FROM blob WHERE relay = ? AND blob IN ({marks})", (relay, *page))

    def some_blobs(self, relay: DeviceId, start: bytes, limit: int) -> list[BlobId]:
        """Return up to `limit` blobs of `relay`, of the chunks from the id `start` on and then from the lowest."""
        found: dict[BlobId, None] = {}
        for condition in (">=", "<"):
            for (blob,) in self._db.execute(
                f"SELECT blob FROM blob WHERE chunk {condition} ? AND relay = ? ORDER BY chunk LIMIT ?",
                (start, relay, limit - len(found)),
            ):
                found[BlobId(blob)] = None
        return list(found)

    def blobs(self, relay: DeviceId, chunks: Sequence[ChunkId]) -> dict[ChunkId, BlobRow]:
        """Return the blobs of `relay` that are known to hold any of `chunks`."""
        found: dict[ChunkId, BlobRow] = {}
        for start in range(0, len(chunks), SQL_VALUES_MAX):
            page = chunks[start : start + SQL_VALUES_MAX]
            marks = ",".join("?" * len(page))
            for chunk, blob, epoch, size in self._db.execute(
                f"SELECT chunk, blob, epoch, size FROM blob WHERE chunk IN ({marks}) AND relay = ?", (*page, relay)
            ):
                found[ChunkId(chunk)] = BlobRow(BlobId(blob), EpochId(epoch), size)
        return found
