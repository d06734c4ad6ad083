"""Versions that are alive and not shown, whose content only this disk may hold: a touch that an edit was put over.

Such a version shows again if what shows in its place is removed by somebody who did not know of it, and its content may
then lie nowhere in the world. So the disk that has it keeps it for as long as that can happen. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshsync.content.record import Kind
from meshsync.ids import Dot
from meshsync.sync.actions import Action, MakeLink, Remove, WriteFile, gone_by
from meshsync.sync.disk_rows import SyncedRow
from meshsync.sync.synced_tree import SyncedTree
from meshsync.sync.view import View


def spared_by(action: Action, synced: SyncedTree, view: View) -> Iterator[tuple[Dot, SyncedRow]]:
    """Yield (version, row) of each file that `action` takes off this disk and whose version may show again."""
    nodes = list(gone_by(action))
    if isinstance(action, WriteFile | MakeLink | Remove):
        nodes.append(action.node)
    for node in nodes:
        row = synced.rows.get(node)
        if row is None or row.kind is not Kind.FILE or not row.content.size:
            continue
        for name in row.versions:
            version = view.version(name)
            if version is not None and version.live and version.content == row.content and not view.is_shown(name):
                yield name, row


def is_spare(name: Dot, synced: SyncedTree, view: View) -> bool:
    """Tell whether the content of a version is still to be kept: not once it is replaced, or shown and on this disk."""
    version = view.version(name)
    if version is None or not version.live:
        return False
    face = view.shown_as(name)
    row = None if face is None else synced.rows.get(face.node)
    return row is None or row.content != version.content  # its versions name also what adds nothing to what is there
