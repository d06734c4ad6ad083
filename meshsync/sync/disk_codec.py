"""Synced rows and intents as bytes, for the index.

Invariant: one row has one encoding, the canonical one; anything else is refused.
"""

from __future__ import annotations

from meshsync.codec.canonical import Record, decode, encode
from meshsync.content.record import Content, Kind
from meshsync.ids import ChunkId, Dot, NodeId
from meshsync.limits import NODE_ROW_BYTES_MAX
from meshsync.sync.disk_rows import Intent, Stat, SyncedRow


class _Row(Record, frozen=True):
    node: bytes
    versions: tuple[bytes, ...]
    placement: bytes | None
    parent: bytes
    name: bytes
    natural: bytes
    copy_of: bytes | None
    order: int
    content: tuple[Kind, int, bytes, int, bytes]
    executable: bool
    mtime_ns: int
    stat: Stat | None


class _Intent(Record, frozen=True):
    path: tuple[bytes, ...] | None
    inode: int
    rows: tuple[_Row, ...]


def pack_synced(row: SyncedRow) -> bytes:
    """Return the canonical bytes of a synced row."""
    return encode(_to(row))


def unpack_synced(data: bytes) -> SyncedRow:
    """Return the row that `data` encodes. Raises MalformedMessage."""
    return _from(decode(_Row, data, NODE_ROW_BYTES_MAX))


def pack_intent(intent: Intent) -> bytes:
    """Return the canonical bytes of an intent."""
    return encode(_Intent(intent.path, intent.inode, tuple(map(_to, intent.rows))))


def unpack_intent(data: bytes) -> Intent:
    """Return the intent that `data` encodes. Raises MalformedMessage."""
    row = decode(_Intent, data, NODE_ROW_BYTES_MAX)
    return Intent(row.path, row.inode, tuple(map(_from, row.rows)))


def _to(row: SyncedRow) -> _Row:
    content = row.content
    return _Row(
        row.node,
        row.versions,
        row.placement,
        row.parent,
        row.name,
        row.natural,
        row.copy_of,
        row.order,
        (content.kind, content.size, content.root, content.depth, content.target),
        row.executable,
        row.mtime_ns,
        row.stat,
    )


def _from(row: _Row) -> SyncedRow:
    kind, size, root, depth, target = row.content
    return SyncedRow(
        NodeId(row.node),
        tuple(map(Dot, row.versions)),
        None if row.placement is None else Dot(row.placement),
        NodeId(row.parent),
        row.name,
        row.natural,
        None if row.copy_of is None else NodeId(row.copy_of),
        row.order,
        Content(kind, size, ChunkId(root), depth, target),
        row.executable,
        row.mtime_ns,
        row.stat,
    )
