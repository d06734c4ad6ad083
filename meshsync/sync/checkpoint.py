"""What of the view a checkpoint keeps (`semantics.md` 3.6).

Invariant: a view restored from a checkpoint is equal to the whole one for every entry whose author had applied all that
the checkpoint's vector covers, and keeps every move of a directory since genesis.
"""

from __future__ import annotations

from meshsync.ids import ROOT, Dot, NodeId
from meshsync.sync.ancestors import ancestors
from meshsync.sync.node_rows import NodeRow, PlacementRow, export_rows
from meshsync.sync.view import View


def checkpoint(view: View) -> list[NodeRow]:
    """Return the rows that have to be kept once every author has applied all that the view's vector covers.

    Versions that are gone are left out, except the nearest ancestors of live ones; so are nodes that hold nothing,
    except directories that a move or a kept node names.
    """
    live = {version.dot for version in view.versions.values() if version.live}
    kept_versions = set(live)
    for name in live:
        kept_versions.update(earlier.dot for earlier in ancestors(view.versions[name], view.versions))
    kept_nodes = _kept_nodes(view, kept_versions)
    return [_pruned(row, kept_versions, live) for row in export_rows(view) if NodeId(row.node) in kept_nodes]


def _kept_nodes(view: View, versions: set[Dot]) -> set[NodeId]:
    kept: set[NodeId] = set()
    pending: list[NodeId] = []
    for node in view.nodes.values():
        holds = node.faces or any(version.dot in versions for version in node.puts)
        if node.id != ROOT and (holds or node.live or (node.moves and node.directory)):
            pending.append(node.id)
    while pending:
        record = view.nodes.get(pending.pop())
        if record is None or record.id in kept or record.id == ROOT:
            continue
        kept.add(record.id)
        placements = [*record.moves] if record.directory else []
        placements += [p for p in (record.origin, record.placed, record.tree) if p is not None]
        pending += [placement.parent for placement in placements]
        pending += [face.parent for face in record.faces]
        pending += [] if record.kept is None else [record.kept.parent]
    return kept


def _pruned(row: NodeRow, versions: set[Dot], live: set[Dot]) -> NodeRow:
    newest = max((move.stamp.time, move.stamp.device, move.stamp.dot) for move in row.moves) if row.moves else None
    moves = []
    for move in row.moves:
        carries = tuple(name for name in move.carries if name in live)
        is_newest = (move.stamp.time, move.stamp.device, move.stamp.dot) == newest
        if row.directory or carries or is_newest:
            moves.append(PlacementRow(move.stamp, move.parent, move.name, move.path, carries))
    puts = tuple(put for put in row.puts if put.stamp.dot in versions)
    return NodeRow(
        row.node,
        row.directory,
        row.origin,
        row.origin_executable,
        tuple(moves),
        row.kept,
        row.attr,
        puts,
        row.stands_for,
    )
