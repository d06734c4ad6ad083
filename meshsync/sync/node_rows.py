"""The view's state as rows, one for each node, for the index and for checkpoints.

Invariant: a view restored from rows and vector is equal to the one that gave them, for every entry that comes later.
Rows are canonical bytes; spec: docs/spec/view.md 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from meshsync.codec.canonical import Record, decode, encode
from meshsync.content.record import Content, Kind
from meshsync.errors import MalformedMessage
from meshsync.ids import ROOT, ChainId, ChunkId, DeviceId, Dot, NodeId
from meshsync.limits import NODE_ROW_BYTES_MAX
from meshsync.sync.node import DIRECTORY, Claim, Kept, Node, Placement, Version
from meshsync.sync.stamp import Stamp
from meshsync.sync.view import View


class StampRow(Record, frozen=True):
    """A `Stamp`."""

    time: int
    device: bytes
    dot: bytes


class ContentRow(Record, frozen=True):
    """A `Content`."""

    kind: Kind
    size: int
    root: bytes
    depth: int
    target: bytes


class ClaimRow(Record, frozen=True):
    """One dropped node and the directories above it in the drop: (node, since), the node first."""

    chain: tuple[tuple[bytes, StampRow], ...]


class VersionRow(Record, frozen=True):
    """A `Version`, kept with the node where it was put."""

    stamp: StampRow
    owner: bytes
    content: ContentRow
    executable: bool
    mtime_ns: int
    replaces: tuple[bytes, ...]
    parent: bytes
    name: bytes
    path: tuple[bytes, ...]
    replaced: bool
    live: bool
    claims: tuple[ClaimRow, ...]
    touches: tuple[bytes, ...]


class PlacementRow(Record, frozen=True):
    """A `Placement`."""

    stamp: StampRow
    parent: bytes
    name: bytes
    path: tuple[bytes, ...]
    carries: tuple[bytes, ...]


class KeptRow(Record, frozen=True):
    """A `Kept`."""

    stamp: StampRow
    placed: bytes | None
    parent: bytes
    name: bytes


class NodeRow(Record, frozen=True):
    """All that the view keeps of one node. `stands_for` is set for a directory that stands for a bare path."""

    node: bytes
    directory: bool
    origin: PlacementRow | None
    origin_executable: bool | None
    moves: tuple[PlacementRow, ...]
    kept: KeptRow | None
    attr: tuple[StampRow, bool] | None
    puts: tuple[VersionRow, ...]
    stands_for: tuple[bytes, bytes] | None


def node_row(view: View, node: NodeId) -> NodeRow | None:
    """Return the row of a node that `View.apply` named as changed, None if the view keeps nothing of it."""
    record = view.nodes.get(node)
    if record is None or node == ROOT:
        return None
    stands_for = None
    if record.tree is not None and not record.directory:
        stands_for = record.tree.parent, record.tree.name
    return NodeRow(
        node,
        record.directory,
        None if record.origin is None else _placement_row(record.origin),
        record.origin_executable,
        tuple(map(_placement_row, record.moves)),
        None
        if record.kept is None
        else KeptRow(_stamp_row(record.kept.stamp), record.kept.placed, record.kept.parent, record.kept.name),
        None if record.attr is None else (_stamp_row(record.attr[0]), record.attr[1]),
        tuple(map(_version_row, record.puts)),
        stands_for,
    )


def pack_row(row: NodeRow) -> bytes:
    """Return the canonical bytes of a row."""
    return encode(row)


def unpack_row(data: bytes) -> NodeRow:
    """Return the row that `data` encodes. Raises MalformedMessage."""
    return decode(NodeRow, data, NODE_ROW_BYTES_MAX)


def export_rows(view: View) -> Iterator[NodeRow]:
    """Yield the rows of all nodes, in order of node."""
    for node in sorted(view.nodes):
        row = node_row(view, node)
        if row is not None:
            yield row


def restore(rows: Iterable[NodeRow], vector: Mapping[ChainId, int]) -> View:
    """Return the view that `rows` were taken from when its vector was `vector`."""
    nodes: list[Node] = []
    versions: list[Version] = []
    for row in rows:
        node, puts = _node(row)
        nodes.append(node)
        versions += puts
    view = View()
    view.restore(nodes, versions, vector)
    return view


# --- rows from values ----------------------------------------------------------------------------------------


def _stamp_row(stamp: Stamp) -> StampRow:
    return StampRow(stamp.time, stamp.device, stamp.dot)


def _placement_row(placement: Placement) -> PlacementRow:
    return PlacementRow(
        _stamp_row(placement.stamp),
        placement.parent,
        placement.name,
        placement.path,
        tuple(sorted(placement.carries)),
    )


def _claim_row(claim: Claim | None) -> ClaimRow:
    chain: list[tuple[bytes, StampRow]] = []
    while claim is not None:
        chain.append((claim.node, _stamp_row(claim.since)))
        claim = claim.above
    return ClaimRow(tuple(chain))


def _version_row(version: Version) -> VersionRow:
    content = version.content
    return VersionRow(
        _stamp_row(version.stamp),
        version.owner,
        ContentRow(content.kind, content.size, content.root, content.depth, content.target),
        version.executable,
        version.mtime_ns,
        version.replaces,
        version.parent,
        version.name,
        version.path,
        version.replaced,
        version.live,
        tuple(map(_claim_row, version.claims)),
        version.touches,
    )


# --- values from rows ----------------------------------------------------------------------------------------


def _stamp(row: StampRow) -> Stamp:
    return Stamp(row.time, DeviceId(row.device), Dot(row.dot))


def _placement(row: PlacementRow) -> Placement:
    carries = frozenset(map(Dot, row.carries))
    return Placement(_stamp(row.stamp), NodeId(row.parent), row.name, row.path, carries)


def _claim(row: ClaimRow) -> Claim:
    claim: Claim | None = None
    for node, since in reversed(row.chain):
        claim = Claim(NodeId(node), _stamp(since), claim)
    if claim is None:
        raise MalformedMessage("a drop's claim names no node")
    return claim


def _version(row: VersionRow, node: NodeId) -> Version:
    held = Content(row.content.kind, row.content.size, ChunkId(row.content.root), row.content.depth)
    if row.content.target:
        held = Content(row.content.kind, target=row.content.target)
    version = Version(
        _stamp(row.stamp),
        node,
        DIRECTORY if held == DIRECTORY else held,
        row.executable,
        row.mtime_ns,
        tuple(map(Dot, row.replaces)),
        NodeId(row.parent),
        row.name,
        row.path,
    )
    version.owner, version.replaced, version.live = NodeId(row.owner), row.replaced, row.live
    version.claims = tuple(map(_claim, row.claims))
    version.touches = tuple(map(NodeId, row.touches))
    return version


def _node(row: NodeRow) -> tuple[Node, list[Version]]:
    node = Node(NodeId(row.node))
    node.directory = row.directory
    node.origin = None if row.origin is None else _placement(row.origin)
    node.origin_executable = row.origin_executable
    node.moves = tuple(map(_placement, row.moves))
    node.placed = max(node.moves, key=lambda move: move.stamp) if node.moves else None
    if row.kept is not None:
        placed = None if row.kept.placed is None else Dot(row.kept.placed)
        node.kept = Kept(_stamp(row.kept.stamp), placed, NodeId(row.kept.parent), row.kept.name)
    node.attr = None if row.attr is None else (_stamp(row.attr[0]), row.attr[1])
    node.puts = tuple(_version(put, node.id) for put in row.puts)
    if row.stands_for is not None:
        parent, name = row.stands_for
        node.tree = Placement(Stamp(0, DeviceId(b""), Dot(b"")), NodeId(parent), name, (), frozenset())
    return node, list(node.puts)
