"""Which staged file holds the beginning of which version, so that a restart goes on instead of fetching again.

Invariant: a name is only a hint; who reopens the file checks each chunk in it.
"""

from __future__ import annotations

from contextlib import suppress

from meshsync.agent.history import pack_content
from meshsync.codec.canonical import Record, decode, encode
from meshsync.content.record import Content
from meshsync.crypto.hashing import digest
from meshsync.errors import ResourceError
from meshsync.ids import NodeId
from meshsync.index.database import Database
from meshsync.index.tree_rows import TreeRows


class _Partial(Record, frozen=True):
    content: bytes
    name: bytes


class PartialRows:
    """Rows by node. Calls block."""

    def __init__(self, database: Database) -> None:
        self._rows = TreeRows(database, "partial")
        self._known = {node: decode(_Partial, data, 1024) for node, data in self._rows.all()}

    def names(self) -> set[bytes]:
        """Return the names of all staged files that are worth keeping."""
        return {row.name for row in self._known.values()}

    def get(self, node: NodeId, content: Content) -> bytes | None:
        """Return the name of the staged file that holds a part of `content` for `node`, or None."""
        row = self._known.get(node)
        return row.name if row is not None and row.content == _digest(content) else None

    def name(self, node: NodeId) -> bytes | None:
        """Return the name of the staged file that is kept for `node`, or None."""
        row = self._known.get(node)
        return None if row is None else row.name

    def set(self, node: NodeId, content: Content, name: bytes) -> None:
        """Remember the staged file of a node. Raises ResourceError: then nothing has changed."""
        row = _Partial(_digest(content), name)
        self._rows.put([(node, encode(row))])
        self._known[node] = row

    def forget(self, node: NodeId) -> None:
        """Forget the staged file of a node."""
        if self._known.pop(node, None) is not None:
            with suppress(ResourceError):  # the next start finds a name of nothing, and goes on without it
                self._rows.delete([node])


def _digest(content: Content) -> bytes:
    return digest("partial", pack_content(content))
