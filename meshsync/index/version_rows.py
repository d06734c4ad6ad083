"""Every version the log names: for history, restore and durability."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meshsync.ids import ChainId, Dot, NodeId
from meshsync.index.database import Database


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One version. `position` orders a node's versions; `time_ns` is its author's clock, for display only.

    `content` is the canonical bytes of its content, `path` the path on its author's disk joined by `/`. `durable` is 1
    once a relay's receipt covers it, else 0.
    """

    dot: Dot
    node: NodeId
    position: int
    time_ns: int
    change: str
    path: bytes
    content: bytes
    mtime_ns: int
    durable: int


class VersionRows:
    """Rows of versions."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, rows: Iterable[VersionRow]) -> None:
        """Add versions; one that is there already is left as it is."""
        self._db.execute_many(
            "INSERT OR IGNORE INTO version VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            ((r.dot, r.node, r.position, r.time_ns, r.change, r.path, r.content, r.mtime_ns, r.durable) for r in rows),
        )

    def mark_durable(self, dots: Iterable[Dot]) -> None:
        """Note that a relay holds all content of these versions."""
        self._db.execute_many("UPDATE version SET durable = 1 WHERE dot = ?", ((dot,) for dot in dots))

    def mark_contentless_durable(self, ranges: Iterable[tuple[Dot, Dot]]) -> None:
        """Note that the log holds these ranges of dots, ends included: what changed no content is durable."""
        self._db.execute_many(
            "UPDATE version SET durable = 1 WHERE dot BETWEEN ? AND ? AND change IN ('renamed', 'deleted')", ranges
        )

    def by_node(self, node: NodeId) -> list[VersionRow]:
        """Return a node's versions, oldest first."""
        return self._select("WHERE node = ? ORDER BY position, dot", (node,))

    def by_path(self, path: bytes) -> list[VersionRow]:
        """Return versions that were written at `path`, oldest first."""
        return self._select("WHERE path = ? ORDER BY position, dot", (path,))

    def get(self, dot: Dot) -> VersionRow | None:
        """Return one version, or None."""
        rows = self._select("WHERE dot = ?", (dot,))
        return rows[0] if rows else None

    def to_store(self, chains: Sequence[ChainId], limit: int) -> list[VersionRow]:
        """Return up to `limit` versions of these chains whose content no receipt covers, oldest first."""
        marks = ", ".join("?" * len(chains))
        where = f"WHERE durable = 0 AND change NOT IN ('renamed', 'deleted') AND substr(dot, 1, 32) IN ({marks})"
        return self._select(f"{where} ORDER BY position LIMIT ?", (*chains, limit))

    def count(self) -> tuple[int, int]:
        """Return (versions, versions that are not durable)."""
        ((total,),) = self._db.execute("SELECT count(*) FROM version")
        ((pending,),) = self._db.execute("SELECT count(*) FROM version WHERE durable = 0")
        return total, pending

    def all(self, limit: int) -> list[VersionRow]:
        """Return up to `limit` versions, newest first."""
        return self._select("ORDER BY position DESC LIMIT ?", (limit,))

    def _select(self, where: str, values: tuple[object, ...]) -> list[VersionRow]:
        rows = self._db.execute(
            "SELECT dot, node, position, time_ns, change, path, content, mtime_ns, durable FROM version " + where,
            values,
        )
        return [VersionRow(*row) for row in rows]
