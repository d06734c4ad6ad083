"""What has to be said of the synced rows before anything is planned: finished applies, adopted content.

Invariant: nothing here is the user's doing, so nothing of it is published (`semantics.md` 4.4, 4.5, 4.7).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from meshsync.content.record import Content, Kind
from meshsync.ids import NodeId
from meshsync.sync.ancestors import ancestors
from meshsync.sync.disk_rows import Intent, LocalRow, SyncedRow, parked_id, parked_number
from meshsync.sync.listing import Shown
from meshsync.sync.local_tree import LocalTree
from meshsync.sync.node import Version
from meshsync.sync.synced_tree import Group, SyncedTree
from meshsync.sync.view import View


def finished_intents(intents: Iterable[Intent], local: LocalTree, parked: Mapping[int, int]) -> list[SyncedRow]:
    """Return the rows that a crash kept apply from recording: an object lies exactly where it was to go.

    `parked` maps the numbers in the control directory to inodes. Put the rows into the synced tree before `match`, or
    the user would be taken for the author of what apply did.
    """
    rows: list[SyncedRow] = []
    for intent in intents:
        there = None if intent.path is None else local.at(intent.path)
        is_there = there is not None and there.stat.inode == intent.inode
        for row in intent.rows:
            number = parked_number(row.parent)
            is_true = row.stat is not None and parked.get(number) == row.stat.inode if number is not None else is_there
            if is_true:
                rows.append(row if row.stat is not None or there is None else seen_row(row, there))
    return rows


def made_row(number: int, content: Content, mtime_ns: int) -> SyncedRow:
    """Return what stands in an intent for an object that apply makes out of the tree, as the parked `number`."""
    place = parked_id(number)
    return SyncedRow(place, (), None, place, b"", b"", None, 0, content, False, mtime_ns, None)


def made_parked(intents: Iterable[Intent]) -> dict[int, Intent]:
    """Return number → intent of what apply was to make out of the tree: it can be made again, and is nobody's work."""
    made = [(parked_number(row.node), intent) for intent in intents for row in intent.rows[:1]]
    return {number: intent for number, intent in made if number is not None}


def seen_row(old: SyncedRow, row: LocalRow) -> SyncedRow:
    """Return `old` with the stat of `row`, the same object.

    An mtime that was not seen before stands as what was asked for, so that apply sets the shown one: nobody knows
    whether the file system keeps times more coarsely or the user touched the file in between.
    """
    is_known = row.kind is not Kind.FILE or (old.stat is not None and old.stat.mtime_ns == row.stat.mtime_ns)
    return replace(old, mtime_ns=old.mtime_ns if is_known else row.stat.mtime_ns, stat=row.stat)


def lost_parked(synced: SyncedTree, present: Collection[int]) -> list[NodeId]:
    """Return the nodes that lie parked by their rows, under a number that is not `present` in the control directory.

    Remove their rows before `match`: the plan brings them back, and nobody is told of a removal.
    """
    return [node for number, nodes in synced.parked().items() if number not in present for node in nodes]


def known_descendant(rows: Group, row: LocalRow, view: View, on_disk: Collection[NodeId]) -> SyncedRow | None:
    """Return the synced row of a file whose new content is a known version that came after the one on record.

    Such content is that version, however it got there, unless it is that of a conflict copy among the nodes `on_disk`.
    None if there is none.
    """
    base = {name for old in rows for name in old.versions}
    for old in rows:
        for version in _versions(view, old.node, row.content):
            if _is_copy_here(version, old.node, view, on_disk):
                return None
            if base & {earlier.dot for earlier in ancestors(version, view.versions)}:
                return _taken(old, version, row)
    return None


def joined_file(shown: Shown, row: LocalRow, view: View, on_disk: Collection[NodeId]) -> SyncedRow | None:
    """Return the synced row of a file found where the view shows a node that this disk never had.

    Equal to any version of the node, it is that version, unless it is that of a conflict copy among the nodes
    `on_disk`; None if it equals none. One that was removed and not replaced is over: who has its content again means
    what lies there, for what else is shown came from somebody else.
    """
    for face in shown.faces:
        for version in _versions(view, face.node, row.content):
            if _is_copy_here(version, face.node, view, on_disk):
                return None
            if not (version.live or version.replaced):
                continue
            old = synced_row(shown, face.node, 0, row)
            return _taken(old, version, row)
    return None


def joined_directory(shown: Shown, row: LocalRow) -> list[SyncedRow]:
    """Return the synced rows of a directory found where the view shows one that this disk never had."""
    return [synced_row(shown, node, order, row) for order, node in enumerate(shown.nodes)]


def synced_row(shown: Shown, node: NodeId, order: int, row: LocalRow | None = None) -> SyncedRow:
    """Return the row of `node` once `shown` is on disk, with the stat of `row` if that is it already."""
    face = next(face for face in shown.faces if face.node == node)
    return SyncedRow(
        node,
        face.versions,
        face.placement,
        face.parent,
        shown.name,
        face.name,
        face.copy_of,
        order,
        shown.content,
        shown.executable if row is None else row.executable,
        shown.face.mtime_ns if row is None else row.stat.mtime_ns,
        None if row is None else row.stat,
    )


def is_removed(row: SyncedRow, view: View) -> bool:
    """Tell whether everything on record of `row` is known to the view, so that its absence there is a witness.

    A version that is live is shown elsewhere; one that is dead was named by a drop or a put; one that is forgotten is
    under a checkpoint's vector. Only a version of an entry that the view lacks gives no right to remove anything.
    """
    return all(name in view.versions or view.covers(name) for name in row.versions)


def _versions(view: View, node: NodeId, content: Content) -> list[Version]:
    """Return the known versions of `node` with `content`: live ones first, then the latest."""
    record = view.nodes.get(node)
    found = [] if record is None else [v for v in {*record.puts, *record.live} if v.content == content]
    return sorted(found, key=lambda version: (version.live, version.stamp), reverse=True)


def _is_copy_here(version: Version, node: NodeId, view: View, on_disk: Collection[NodeId]) -> bool:
    """Tell whether `version` of `node` is shown as a conflict copy that this disk has.

    Then a file of its content at the node's path is a second one that its user made, or the copy itself that he moved.
    Taken for the copy's version it would be replaced as known to be there, while the copy goes its own ways.
    """
    face = view.shown_as(version.dot)
    return face is not None and face.node != node and face.node in on_disk


def _taken(old: SyncedRow, version: Version, row: LocalRow) -> SyncedRow:
    assert row.kind is not Kind.DIRECTORY
    return replace(old, versions=(version.dot,), content=row.content, mtime_ns=row.stat.mtime_ns, stat=row.stat)
