"""What a user's `reject` publishes: what lies on this disk, again, in place of what others did (`semantics.md` 4.8);
and the removal of what a rejection could not bring back, once its user gives it up.

Invariant: pure; ordinary operations, as if the user had saved each file again after seeing the others' change: each
put names the versions that lay on this disk and those that it overrules, so both stay in the history.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from meshsync.content.record import Attr, Drop, Dropped, Kind, Put
from meshsync.ids import NodeId
from meshsync.limits import SYNC_ITEMS_PER_DROP_MAX
from meshsync.sync.disk_rows import Path, SyncedRow
from meshsync.sync.draft import Draft
from meshsync.sync.synced_tree import SyncedTree
from meshsync.sync.view import View


def restoring(synced: SyncedTree, view: View, nodes: Collection[NodeId]) -> Draft:
    """Return the draft after which the view shows `nodes` as they lie on this disk, as far as they have a path."""
    draft = Draft()
    rows: list[tuple[Path, SyncedRow]] = []
    for node in nodes:
        path = synced.path_of(node)
        if path:
            rows.append((path, synced.rows[node]))
    for path, row in sorted(rows, key=lambda item: (len(item[0]), item[0], item[1].order)):
        _put(draft, path, row, view)
    return draft


def giving_up(view: View, nodes: Collection[NodeId]) -> Draft:
    """Return the draft that removes `nodes`, whose content nobody has: as if the user had removed what is shown."""
    draft = Draft()
    faces = [face for node in sorted(nodes) if (face := view.face(node)) is not None]
    items = [Dropped(face.node, face.versions, face.placement, -1) for face in faces]
    for at in range(0, len(items), SYNC_ITEMS_PER_DROP_MAX):
        draft.add(Drop(tuple(items[at : at + SYNC_ITEMS_PER_DROP_MAX])))
    return draft


def _put(draft: Draft, path: Path, row: SyncedRow, view: View) -> None:
    face, name = view.face(row.node), draft.next
    overruled = () if face is None else face.versions
    replaces = tuple(dict.fromkeys((*row.versions, *overruled)))
    op = Put(row.node, row.content, row.executable, row.mtime_ns, replaces, row.parent, row.name, path)
    draft.add(op, (replace(row, versions=(name,)),))
    if row.kind is Kind.FILE and face is not None and face.executable != row.executable:
        draft.add(Attr(row.node, row.executable))
