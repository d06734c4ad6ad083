"""What an entry means to a user who reads the history: one row for each version, removal and rename.

Invariant: rows are computed from the entry and from the view just before it. Which rows there are, and of what content,
does not depend on the order in which entries arrive; of something that is shown no more, only the path may.
"""

from __future__ import annotations

from collections.abc import Sequence

from meshsync.codec.canonical import Record, decode, encode
from meshsync.content.record import Attr, Content, Drop, Kind, Mark, Op, Place, Put
from meshsync.ids import ROOT, ChainId, ChunkId, Dot, NodeId, dot
from meshsync.index.version_rows import VersionRow
from meshsync.limits import LINK_TARGET_BYTES_MAX, PATH_DEPTH_MAX
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


def version_rows(view: View, chain: ChainId, seq: int, time: int, time_ns: int, ops: Sequence[Op]) -> list[VersionRow]:
    """Return the rows of entry `seq` of `chain`, which is about to enter `view`.

    `time` is its Lamport time, `time_ns` its author's.
    """
    rows: list[VersionRow] = []
    for index, op in enumerate(ops):
        name = dot(chain, seq, index)
        position = time << _POSITION_SHIFT | index
        if isinstance(op, Put):
            node = NodeId(name) if op.node is None else op.node
            change = "edited" if op.replaces else "created"
            rows.append(_row(name, node, position, time_ns, change, op.path, op.content, op.mtime_ns))
        elif isinstance(op, Place):
            held = _held(view, op.node, op.carries)
            if held is not None:
                rows.append(_row(name, op.node, position, time_ns, "renamed", op.path, *held))
        elif isinstance(op, Drop):
            rows.extend(_dropped(view, name, position, time_ns, op))
        else:
            assert isinstance(op, Attr | Mark)
    return rows


def _dropped(view: View, name: Dot, position: int, time_ns: int, op: Drop) -> list[VersionRow]:
    """A drop is one operation: its row is that of what the user removed, the first item."""
    item = op.items[0]
    held = _held(view, item.node, item.versions)
    path = view.path_of(item.node) or _last_path(view, item.node)
    return [] if held is None else [_row(name, item.node, position, time_ns, "deleted", path, *held)]


def _held(view: View, node: NodeId, versions: Sequence[Dot]) -> tuple[Content, int] | None:
    """Return content and mtime of what lay on the author's disk, whether it is still shown or not.

    None only if a checkpoint has forgotten it: the history must not depend on the order in which entries arrive.
    """
    record = view.nodes.get(node)
    known = [version for each in versions if (version := view.version(each)) is not None]
    known = known or ([] if record is None else list(record.puts))
    if not known:
        return None
    newest = max(known, key=lambda version: version.stamp)
    return newest.content, newest.mtime_ns


def _last_path(view: View, node: NodeId) -> tuple[bytes, ...]:
    """Return the path at which a node was that is shown no more; of a conflict copy, b"" for its name."""
    names: list[bytes] = []
    while node != ROOT and len(names) < PATH_DEPTH_MAX:
        record = view.nodes.get(node)
        at = None if record is None else record.tree or record.base
        if at is None:
            break
        names.append(at.name)
        node = at.parent
    return tuple(reversed(names))


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
    return VersionRow(name, node, position, time_ns, change, b"/".join(path), pack_content(content), mtime_ns)
