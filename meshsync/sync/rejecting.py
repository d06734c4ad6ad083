"""What a user's `reject` publishes: what lies on this disk, again, in place of what others did (`semantics.md` 4.8).

Invariant: pure; ordinary operations, as if the user had saved each file again after seeing the others' change: each
put names the versions that lay on this disk and those that it overrules, so both stay in the history.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from meshsync.content.record import Attr, Kind, Put
from meshsync.ids import NodeId
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


def _put(draft: Draft, path: Path, row: SyncedRow, view: View) -> None:
    face, name = view.face(row.node), draft.next
    overruled = () if face is None else face.versions
    replaces = tuple(dict.fromkeys((*row.versions, *overruled)))
    op = Put(row.node, row.content, row.executable, row.mtime_ns, replaces, row.parent, row.name, path)
    draft.add(op, (replace(row, versions=(name,)),))
    if row.kind is Kind.FILE and face is not None and face.executable != row.executable:
        draft.add(Attr(row.node, row.executable))
