"""The synced tree and the intents, by node, as canonical bytes that `sync` gives and takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from meshsync.ids import NodeId
from meshsync.index.database import Database


class TreeRows:
    """One table of node → bytes; used for `synced`, `intent` and `partial`."""

    def __init__(self, database: Database, table: str) -> None:
        assert table in ("synced", "intent", "partial")
        self._db = database
        self._put = f"INSERT INTO {table} VALUES (?, ?) ON CONFLICT DO UPDATE SET row = excluded.row"
        self._delete = f"DELETE FROM {table} WHERE node = ?"
        self._delete_of = f"DELETE FROM {table} WHERE node = ? OR (node > ? AND node < ? AND length(node) = ?)"
        self._page = f"SELECT node, row FROM {table} WHERE node >= ? ORDER BY node LIMIT 1000"

    def put(self, rows: Iterable[tuple[NodeId, bytes]]) -> None:
        """Set rows."""
        self._db.execute_many(self._put, rows)

    def delete(self, nodes: Iterable[NodeId]) -> None:
        """Remove rows; unknown nodes are passed over."""
        self._db.execute_many(self._delete, ((node,) for node in nodes))

    def delete_numbered(self, nodes: Iterable[NodeId], number_bytes: int) -> None:
        """Remove rows of these nodes, and of each node followed by a number of `number_bytes`."""
        ends = (b"\xff" * (number_bytes + 1), number_bytes)
        self._db.execute_many(self._delete_of, ((node, node, node + ends[0], len(node) + ends[1]) for node in nodes))

    def all(self) -> Iterator[tuple[NodeId, bytes]]:
        """Yield all rows in order of node."""
        start = b""
        while rows := self._db.execute(self._page, (start,)):
            for node, row in rows:
                yield NodeId(node), row
            start = rows[-1][0] + b"\0"
