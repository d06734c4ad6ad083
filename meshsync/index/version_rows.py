"""Every version the log names, and which relays have it: for history, restore and durability."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from meshsync.ids import ChainId, DeviceId, Dot, NodeId, dot_parts
from meshsync.index.database import Database
from meshsync.limits import SQL_VALUES_MAX

_COLUMNS = "v.dot, v.node, v.position, v.time_ns, v.change, v.path, v.content, v.mtime_ns"
LET_GO = 2
"""What `gone` is of a version that an owner let go of."""
CONTENTLESS = ("renamed", "deleted")
_CONTENTLESS = str(CONTENTLESS)
_NOTE_EARLY = "INSERT OR {} INTO stored_early SELECT ?1, ?2, ?3 WHERE NOT EXISTS (SELECT 1 FROM version WHERE dot = ?1)"


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One version. `position` orders a node's versions; `time_ns` is its author's clock, for display only.

    `content` is the canonical bytes of its content, `path` the path on its author's disk joined by `/`.
    """

    dot: Dot
    node: NodeId
    position: int
    time_ns: int
    change: str
    path: bytes
    content: bytes
    mtime_ns: int


class VersionRows:
    """Rows of versions. For each relay that was accounted for, the index keeps which versions it lacks.

    `revision` grows with every change of what relays have. `any_let_go`: some relay may lack a version because an owner
    let go of it.
    """

    def __init__(self, database: Database) -> None:
        self._db = database
        self.revision = 0
        ((found,),) = database.execute(
            "SELECT EXISTS (SELECT 1 FROM unstored WHERE gone = ?1)"
            " OR EXISTS (SELECT 1 FROM stored_early WHERE gone = ?1)",
            (LET_GO,),
        )
        self.any_let_go = bool(found)

    def add(self, rows: Iterable[VersionRow]) -> None:
        """Add versions; one that is there already is left as it is.

        A relay has those that it was noted to have before they were added here, and no others.
        """
        rows = list(rows)
        self._db.execute_many(
            "INSERT OR IGNORE INTO unstored (dot, relay, position, gone)"
            " SELECT ?1, a.relay, ?2, coalesce((SELECT max(s.gone) FROM stored_early s"
            " WHERE s.dot = ?1 AND (s.relay = a.relay OR s.gone = 2)), 0)"
            " FROM accounted a WHERE NOT EXISTS (SELECT 1 FROM version WHERE dot = ?1) AND NOT EXISTS"
            " (SELECT 1 FROM stored_early s WHERE s.dot = ?1 AND s.relay = a.relay AND s.gone = 0)"
            " AND NOT (?3 AND EXISTS (SELECT 1 FROM chain c JOIN entry e ON e.chain = c.number"
            " JOIN relay_seen r ON r.id = e.id WHERE c.id = ?4 AND e.seq = ?5 AND r.relay = a.relay))",
            ((row.dot, row.position, row.change in CONTENTLESS, *dot_parts(row.dot)[:2]) for row in rows),
        )
        self._db.execute_many("DELETE FROM stored_early WHERE dot = ?", ((row.dot,) for row in rows))
        self._db.execute_many(
            "INSERT OR IGNORE INTO version VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            ((r.dot, r.node, r.position, r.time_ns, r.change, r.path, r.content, r.mtime_ns) for r in rows),
        )
        self.revision += 1

    # --- what relays have -------------------------------------------------------------------------------------

    def account(self, relays: Iterable[DeviceId]) -> None:
        """Keep from now on what each of `relays` has; of one that is new here nothing is known to be there."""
        known = {relay for (relay,) in self._db.execute("SELECT relay FROM accounted")}
        for relay in relays:
            if relay not in known:
                self._db.execute("INSERT INTO accounted VALUES (?)", (relay,))
                self._db.execute(
                    "INSERT OR IGNORE INTO unstored (dot, relay, position, gone) SELECT v.dot, ?, v.position,"
                    # Let go of at each relay that there was: where one still has it, it may be wanted again.
                    " 2 * (EXISTS (SELECT 1 FROM unstored u WHERE u.dot = v.dot AND u.gone = 2) AND NOT EXISTS"
                    " (SELECT 1 FROM accounted a WHERE a.relay != ?1 AND NOT EXISTS"
                    " (SELECT 1 FROM unstored u WHERE u.dot = v.dot AND u.relay = a.relay))) FROM version v",
                    (relay,),
                )
                self.revision += 1

    def mark_stored(self, relay: DeviceId, dots: Iterable[Dot]) -> None:
        """Note that `relay` holds all content of these versions, added here or not."""
        dots = list(dots)
        self.account([relay])
        self._db.execute_many("DELETE FROM unstored WHERE dot = ? AND relay = ?", ((dot, relay) for dot in dots))
        self._db.execute_many(_NOTE_EARLY.format("REPLACE"), ((dot, relay, 0) for dot in dots))
        self.revision += 1

    def mark_lost(self, relay: DeviceId, dots: Iterable[Dot]) -> None:
        """Note that `relay` no longer holds all content of these versions, though it had acknowledged it."""
        self._db.execute_many(
            "INSERT OR IGNORE INTO unstored (dot, relay, position)"
            " SELECT dot, ?2, position FROM version WHERE dot = ?1",
            ((dot, relay) for dot in dots),
        )
        self.revision += 1

    def mark_contentless_stored(self, relay: DeviceId, ranges: Iterable[tuple[Dot, Dot]]) -> None:
        """Note that the relay's log holds these ranges of dots, ends included: what changed no content is there."""
        self.account([relay])
        self._db.execute_many(
            "DELETE FROM unstored WHERE dot BETWEEN ?2 AND ?3 AND relay = ?1 AND EXISTS"
            f" (SELECT 1 FROM version v WHERE v.dot = unstored.dot AND v.change IN {_CONTENTLESS})",
            ((relay, first, last) for first, last in ranges),
        )
        self.revision += 1

    def mark_gone(self, relay: DeviceId, dots: Iterable[Dot]) -> None:
        """Note that `relay` lacks these versions for good, unless it has them: their author has nothing of them."""
        dots = list(dots)
        self.account([relay])
        self._db.execute_many(
            "UPDATE unstored SET gone = 1 WHERE dot = ? AND relay = ? AND gone = 0", ((d, relay) for d in dots)
        )
        self._db.execute_many(_NOTE_EARLY.format("IGNORE"), ((dot, relay, 1) for dot in dots))
        self.revision += 1

    def let_go(self, relay: DeviceId, dots: Iterable[Dot], hidden: Collection[Dot]) -> None:
        """Note that `relay` keeps these versions no more, as an owner wanted it: nobody brings them there again.

        What is not `hidden` is brought again all the same, by whoever has it.
        """
        self.any_let_go = True
        for dot in dots:
            gone = LET_GO if dot in hidden else 0
            self._db.execute(
                "INSERT INTO unstored (dot, relay, position, gone) SELECT dot, ?2, position, ?3 FROM version"
                " WHERE dot = ?1 ON CONFLICT DO UPDATE SET gone = excluded.gone",
                (dot, relay, gone),
            )
            self._db.execute(_NOTE_EARLY.format("REPLACE"), (dot, relay, LET_GO))
        self.revision += 1

    def bring_no_more(self, dots: Iterable[Dot], yes: bool = True) -> None:
        """Note that these versions are to be let go of: relays that lack them are not brought them; or no longer so."""
        self.any_let_go = True
        before, after = (0, LET_GO) if yes else (LET_GO, 0)
        self._db.execute_many(
            "UPDATE unstored SET gone = ? WHERE dot = ? AND gone = ?", ((after, dot, before) for dot in dots)
        )
        self.revision += 1

    def bring_again(self, dots: Collection[Dot]) -> None:
        """Note that these versions show, whatever an owner let go of: they are brought to relays that lack them."""
        self._db.execute_many(
            "UPDATE unstored SET gone = 0 WHERE dot = ? AND gone = ?", ((dot, LET_GO) for dot in dots)
        )
        self._db.execute_many("DELETE FROM stored_early WHERE dot = ? AND gone = ?", ((dot, LET_GO) for dot in dots))
        self.revision += 1

    def owed(
        self, relay: DeviceId, chains: Sequence[ChainId], after: tuple[int, bytes], limit: int
    ) -> list[VersionRow]:
        """Return up to `limit` versions of `chains` whose content `relay` lacks, from the oldest above `after` on.

        `after` is (position, dot). Versions that their author declared gone are left out.
        """
        self.account([relay])
        return self._select(
            "FROM unstored u JOIN version v ON v.dot = u.dot WHERE u.relay = ? AND u.gone = 0"
            f" AND (u.position, u.dot) > (?, ?) AND v.change NOT IN {_CONTENTLESS}"
            f" AND substr(u.dot, 1, 32) IN ({_marks(chains)}) ORDER BY u.position, u.dot LIMIT ?",
            (relay, *after, *chains, limit),
        )

    def lacking(self, dots: Sequence[Dot]) -> dict[Dot, set[DeviceId]]:
        """Return, for those of `dots` that some relay lacks, the relays that lack them."""
        found: dict[Dot, set[DeviceId]] = {}
        for start in range(0, len(dots), SQL_VALUES_MAX):
            page = dots[start : start + SQL_VALUES_MAX]
            for dot, relay in self._db.execute(f"SELECT dot, relay FROM unstored WHERE dot IN ({_marks(page)})", page):
                found.setdefault(Dot(dot), set()).add(DeviceId(relay))
        return found

    def count_lacking(self, relays: Sequence[DeviceId], more_than: int, apart: Sequence[ChainId]) -> tuple[int, int]:
        """Return (versions that some of `relays` waits for, versions that none does), those in `apart` not counted.

        Of versions that more than `more_than` of `relays` lack.
        """
        ((owed, given_up),) = self._db.execute(
            "SELECT coalesce(sum(waits), 0), coalesce(sum(1 - waits), 0) FROM"
            f" (SELECT min(gone) = 0 AS waits FROM unstored WHERE relay IN ({_marks(relays)})"
            f" AND substr(dot, 1, 32) NOT IN ({_marks(apart)}) GROUP BY dot HAVING count(*) > ?)",
            (*relays, *apart, more_than),
        )
        return owed, given_up

    def list_lacking(
        self, relays: Sequence[DeviceId], more_than: int, chains: Collection[ChainId]
    ) -> list[tuple[Dot, int, bool]]:
        """Return (version, how many of `relays` lack it, whether one still waits for it) of `chains`.

        Of versions that more than `more_than` of `relays` lack.
        """
        return [
            (Dot(dot), lacking, bool(waits))
            for dot, lacking, waits in self._db.execute(
                f"SELECT dot, count(*), min(gone) = 0 FROM unstored WHERE relay IN ({_marks(relays)})"
                f" AND substr(dot, 1, 32) IN ({_marks(chains)}) GROUP BY dot HAVING count(*) > ?",
                (*relays, *chains, more_than),
            )
        ]

    # --- history ----------------------------------------------------------------------------------------------

    def by_node(self, node: NodeId) -> list[VersionRow]:
        """Return a node's versions, oldest first."""
        return self._select("FROM version v WHERE v.node = ? ORDER BY v.position, v.dot", (node,))

    def by_path(self, path: bytes) -> list[VersionRow]:
        """Return versions that were written at `path`, oldest first."""
        return self._select("FROM version v WHERE v.path = ? ORDER BY v.position, v.dot", (path,))

    def named(self, text: bytes, limit: int) -> list[VersionRow]:
        """Return up to `limit` versions whose path holds `text`, newest first; letters of ASCII in either case."""
        return self._select(
            "FROM version v WHERE instr(lower(v.path), lower(?)) > 0 ORDER BY v.position DESC, v.dot DESC LIMIT ?",
            (text, limit),
        )

    def get(self, dot: Dot) -> VersionRow | None:
        """Return one version, or None."""
        rows = self._select("FROM version v WHERE v.dot = ?", (dot,))
        return rows[0] if rows else None

    def count(self) -> int:
        """Return the number of versions."""
        ((total,),) = self._db.execute("SELECT count(*) FROM version")
        return int(total)

    def all(self, limit: int) -> list[VersionRow]:
        """Return up to `limit` versions, newest first."""
        return self._select("FROM version v ORDER BY v.position DESC LIMIT ?", (limit,))

    def _select(self, rest: str, values: tuple[object, ...]) -> list[VersionRow]:
        return [VersionRow(*row) for row in self._db.execute(f"SELECT {_COLUMNS} {rest}", values)]


def _marks(values: Collection[object]) -> str:
    return ", ".join("?" * len(values))
