"""What a folder keeps in its index beside the log: synced rows, intents, chunk locations. Calls block.

Invariant: a synced row and the chunk locations of its file are written in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from meshsync.agent.history import pack_content, unpack_content
from meshsync.agent.observer import Hashed
from meshsync.agent.staged import Staged
from meshsync.codec.canonical import Record, decode, encode
from meshsync.content.record import Kind
from meshsync.ids import Dot, NodeId
from meshsync.index.chunk_rows import ChunkRows
from meshsync.index.database import Database
from meshsync.index.tree_rows import TreeRows
from meshsync.limits import SYNCED_ROW_BYTES_MAX
from meshsync.sync.disk_rows import Intent, Path, Stat, SyncedRow

_NUMBER_BYTES = 2
"""After the node in the key of its second and further intents."""


class _Row(Record, frozen=True):
    versions: tuple[bytes, ...]
    placement: bytes | None
    parent: bytes
    name: bytes
    natural: bytes | None
    copy_of: bytes | None
    order: int
    content: bytes
    executable: bool
    mtime_ns: int
    stat: Stat | None


class _Intent(Record, frozen=True):
    path: tuple[bytes, ...] | None
    inode: int
    rows: tuple[tuple[bytes, bytes], ...]


def pack_row(row: SyncedRow) -> bytes:
    """Return the bytes of a synced row, its node left out."""
    return encode(
        _Row(
            row.versions,
            row.placement,
            row.parent,
            row.name,
            None if row.natural == row.name else row.natural,
            row.copy_of,
            row.order,
            pack_content(row.content),
            row.executable,
            row.mtime_ns,
            row.stat,
        )
    )


def unpack_row(node: NodeId, data: bytes) -> SyncedRow:
    """Return the row that `pack_row` gave. Raises MalformedMessage."""
    row = decode(_Row, data, SYNCED_ROW_BYTES_MAX)
    return SyncedRow(
        node,
        tuple(map(Dot, row.versions)),
        None if row.placement is None else Dot(row.placement),
        NodeId(row.parent),
        row.name,
        row.name if row.natural is None else row.natural,
        None if row.copy_of is None else NodeId(row.copy_of),
        row.order,
        unpack_content(row.content),
        row.executable,
        row.mtime_ns,
        row.stat,
    )


class FolderStore:
    """Reads and writes the disk side of one folder's index."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.chunks = ChunkRows(database)
        self._synced = TreeRows(database, "synced")
        self._intents = TreeRows(database, "intent")

    def synced(self) -> list[SyncedRow]:
        """Return all synced rows."""
        return [unpack_row(node, data) for node, data in self._synced.all()]

    def intents(self) -> list[Intent]:
        """Return the intents of applies that were begun and not recorded."""
        found = []
        for _, data in self._intents.all():
            kept = decode(_Intent, data, SYNCED_ROW_BYTES_MAX)
            rows = tuple(unpack_row(NodeId(node), row) for node, row in kept.rows)
            found.append(Intent(kept.path, kept.inode, rows))
        return found

    def intend(self, intents: Sequence[tuple[Path | None, int, tuple[SyncedRow, ...]]]) -> None:
        """Record what is about to be put in place, of one node several times if it passes through several places."""
        intended = [intent for intent in intents if intent[2]]
        if not intended:
            return
        with self.database.transaction():
            self.forget_intents({rows[0].node for _, _, rows in intended})
            counts: dict[NodeId, int] = {}
            for path, inode, rows in intended:
                node = rows[0].node
                number = counts[node] = counts.get(node, -1) + 1
                key = NodeId(node + number.to_bytes(_NUMBER_BYTES, "big")) if number else node
                data = encode(_Intent(path, inode, tuple((bytes(row.node), pack_row(row)) for row in rows)))
                self._intents.put([(key, data)])

    def forget_intents(self, nodes: Iterable[NodeId]) -> None:
        """Remove intents that were carried out or given up."""
        self._intents.delete_numbered(nodes, _NUMBER_BYTES)

    def keep_rows(
        self,
        rows: Iterable[SyncedRow],
        gone: Iterable[NodeId],
        hashed: Mapping[NodeId, Hashed | Staged],
    ) -> None:
        """Write synced rows, forget nodes, and set the chunk locations of the files in `hashed`."""
        with self.database.transaction():
            kept = list(rows)
            self._synced.put((row.node, pack_row(row)) for row in kept)
            for row in kept:
                content = hashed.get(row.node)
                if row.kind is not Kind.FILE:
                    self.chunks.remove_file(row.node)  # it may have been one
                elif content is not None and row.order == 0:
                    self.chunks.set_file(row.node, content.chunks)
                    self.chunks.put_lists(content.lists)
            for node in gone:
                self._synced.delete([node])
                self.chunks.remove_file(node)
