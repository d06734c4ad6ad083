"""What an entry means to a user who reads the history: one row for each version, removal and rename.

Invariant: rows are computed from the entry and from the view just before it, so a replay gives the same rows.
"""

from __future__ import annotations

from meshsync.codec.canonical import Record, decode, encode
from meshsync.content.record import Attr, Content, Drop, Kind, Op, Place, Put
from meshsync.ids import ChunkId, Dot, NodeId
from meshsync.index.version_rows import VersionRow
from meshsync.limits import LINK_TARGET_BYTES_MAX
from meshsync.metalog.entry import OpenedEntry
from meshsync.sync.view import View

_POSITION_SHIFT = 16  # operations of one entry are fewer than 65,536


class _Content(Record, frozen=True):
    kind: int
    size: int
    root: bytes
    depth: int
    target: bytes


def pack_content(content: Content) -> bytes:
    """Return the bytes in which the index keeps a content."""
    return encode(_Content(int(content.kind), content.size, content.root, content.depth, content.target))


def unpack_content(data: bytes) -> Content:
    """Return the content that `pack_content` gave. Raises MalformedMessage."""
    kept = decode(_Content, data, LINK_TARGET_BYTES_MAX + 256)
    return Content(Kind(kept.kind), kept.size, ChunkId(kept.root), kept.depth, kept.target)


def version_rows(view: View, entry: OpenedEntry, time: int, time_ns: int, ops: list[Op]) -> list[VersionRow]:
    """Return the rows of an entry that is about to enter `view`; `time` is its Lamport time, `time_ns` its author's."""
    rows: list[VersionRow] = []
    for index, op in enumerate(ops):
        name = entry.dot(index)
        position = time << _POSITION_SHIFT | index
        if isinstance(op, Put):
            node = NodeId(name) if op.node is None else op.node
            change = "edited" if op.replaces else "created"
            rows.append(_row(name, node, position, time_ns, change, op.path, op.content, op.mtime_ns))
        elif isinstance(op, Place):
            face = view.face(op.node)
            if face is not None:
                rows.append(_row(name, op.node, position, time_ns, "renamed", op.path, face.content, face.mtime_ns))
        elif isinstance(op, Drop):
            rows.extend(_dropped(view, name, position, time_ns, op))
        else:
            assert isinstance(op, Attr)
    return rows


def _dropped(view: View, name: Dot, position: int, time_ns: int, op: Drop) -> list[VersionRow]:
    """A drop is one operation: its row is that of what the user removed, the first item."""
    item = op.items[0]
    face = view.face(item.node)
    path = view.path_of(item.node)
    if face is None or path is None:
        return []
    return [_row(name, item.node, position, time_ns, "deleted", path, face.content, face.mtime_ns)]


def _row(
    name: Dot,
    node: NodeId,
    position: int,
    time_ns: int,
    change: str,
    path: tuple[bytes, ...],
    content: Content,
    mtime_ns: int,
) -> VersionRow:
    return VersionRow(name, node, position, time_ns, change, b"/".join(path), pack_content(content), mtime_ns, 0)
