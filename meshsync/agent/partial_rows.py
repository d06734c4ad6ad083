"""Which staged file holds a part of which node's content, so that the next fetch goes on instead of beginning anew.

Invariant: a name is only a hint; who reopens the file checks each chunk in it.
"""

from __future__ import annotations

from contextlib import suppress

from meshsync.errors import ResourceError
from meshsync.ids import NodeId
from meshsync.index.database import Database
from meshsync.index.tree_rows import TreeRows


class PartialRows:
    """Names of staged files by node. Calls block."""

    def __init__(self, database: Database) -> None:
        self._rows = TreeRows(database, "partial")
        self._known = dict(self._rows.all())

    def names(self) -> set[bytes]:
        """Return the names of all staged files that are worth keeping."""
        return set(self._known.values())

    def name(self, node: NodeId) -> bytes | None:
        """Return the name of the staged file that is kept for `node`, or None."""
        return self._known.get(node)

    def set(self, node: NodeId, name: bytes) -> None:
        """Remember the staged file of a node. Raises ResourceError: then nothing has changed."""
        if self._known.get(node) != name:
            self._rows.put([(node, name)])
            self._known[node] = name

    def forget(self, node: NodeId) -> None:
        """Forget the staged file of a node."""
        if self._known.pop(node, None) is not None:
            with suppress(ResourceError):  # the next start finds a name of nothing, and goes on without it
                self._rows.delete([node])
