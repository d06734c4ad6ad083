"""The index keeps what a transaction wrote, and nothing of one that failed."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.errors import FormatUnsupported, IndexCorrupt, StorageFull
from meshsync.ids import BlobId, ChainId, ChunkId, DeviceId, Dot, EntryId, EpochId, NodeId, RecordId, dot
from meshsync.index.chunk_rows import BlobRow, ChunkRows, Range
from meshsync.index.database import Database
from meshsync.index.log_rows import EntryRow, LogRows
from meshsync.index.meta import Meta
from meshsync.index.relay_rows import RelayCursor, RelayRows
from meshsync.index.safeguard_rows import ChangeRow, HoldRow, SafeguardRows
from meshsync.index.tree_rows import TreeRows
from meshsync.index.version_rows import VersionRow, VersionRows

RELAY = DeviceId(b"r" * 32)
NODE = NodeId(b"n" * 44)


def entry(chain: str, seq: int, time: int) -> EntryRow:
    name = f"{chain}{seq}".encode().ljust(32)
    return EntryRow(
        EntryId(name),
        ChainId(chain.encode().ljust(32)),
        DeviceId(b"d" * 32),
        seq,
        time,
        b"p",
        b"env" + name,
        b"sig",
        b"load",
    )


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "index.sqlite3")


def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    meta = Meta(database)
    meta.set("root", b"/before")
    with pytest.raises(RuntimeError), database.transaction():
        meta.set("root", b"/after")
        with database.transaction():
            meta.set("other", b"1")
        raise RuntimeError
    assert (meta.get("root"), meta.get("other")) == (b"/before", None)
    database.close()


def test_what_was_written_is_there_after_opening_again(database: Database) -> None:
    log = LogRows(database)
    rows = [entry("a", 1, 1), entry("b", 1, 2), entry("a", 2, 3)]
    with database.transaction():
        log.append_entries(rows)
        log.append_entries(rows[:1])
    database.close()
    again = Database(database.path)
    assert list(LogRows(again).entries()) == rows
    assert LogRows(again).entry(rows[2].id) == rows[2]
    assert [link[2] for link in LogRows(again).entry_links()] == [1, 1, 2]
    again.close()


def test_a_newer_format_is_refused_and_left_alone(database: Database) -> None:
    database.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(FormatUnsupported, match="format 99"):
        Database(database.path)


def test_an_index_of_the_first_format_gets_the_tables_it_lacks_and_keeps_its_rows(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "old", isolation_level=None)
    old.executescript(THIRD_FORMAT)  # which has the tables of the first one, among others
    old.execute("INSERT INTO meta VALUES ('root', ?)", (b"/here",))
    old.execute("PRAGMA user_version=1")
    old.close()
    again = Database(tmp_path / "old")
    assert Meta(again).get("root") == b"/here"
    assert SafeguardRows(again).holds() == []
    again.close()


def test_holds_and_what_counts_come_back_as_they_were_put(database: Database) -> None:
    rows = SafeguardRows(database)
    hold = HoldRow("3f9a01", "apply", "deletion", DeviceId(b"d" * 32), "MASS_DELETION", 7, 200, 300)
    counted = ChangeRow("apply", "deletion", DeviceId(b"d" * 32), NODE, released=False)
    released = ChangeRow("apply", "deletion", DeviceId(b"d" * 32), NODE, released=True)
    rows.put_hold(hold)
    rows.put_changes([counted, released])
    assert (rows.holds(), rows.changes()) == ([hold], [released])
    rows.forget_changes([counted])
    assert rows.changes() == [released]
    rows.forget_changes([released])
    rows.end_hold("3f9a01")
    assert (rows.holds(), rows.changes()) == ([], [])


def test_a_damaged_index_is_reported_as_such(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite3"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(IndexCorrupt):
        Database(path)


def test_a_killed_writer_loses_only_what_it_had_not_committed(database: Database, tmp_path: Path) -> None:
    Meta(database).set("done", b"1")
    raw = sqlite3.connect(database.path, isolation_level=None)
    raw.execute("BEGIN IMMEDIATE")
    raw.execute("INSERT INTO meta VALUES ('open', x'01')")
    copies = {}
    for suffix in ("", "-wal", "-shm"):
        source = Path(f"{database.path}{suffix}")
        if source.exists():
            copies[suffix] = source.read_bytes()
    raw.execute("ROLLBACK")
    raw.close()
    database.close()
    for suffix, data in copies.items():
        (tmp_path / f"crashed.sqlite3{suffix}").write_bytes(data)
    crashed = Database(tmp_path / "crashed.sqlite3")
    assert (Meta(crashed).get("done"), Meta(crashed).get("open")) == (b"1", None)
    assert crashed.check() == []
    crashed.close()


def test_chunk_ranges_follow_the_newest_content_of_a_file(database: Database) -> None:
    chunks = ChunkRows(database)
    one, two, three = (ChunkId(bytes([i]) * 32) for i in (1, 2, 3))
    chunks.set_file(NODE, [(one, 10), (two, 20), (one, 10)])
    assert chunks.ranges_of([one]) == {one: [Range(NODE, 0, 10)]}
    chunks.set_file(NODE, [(three, 5), (two, 20)])
    assert chunks.ranges_of([one, two]) == {two: [Range(NODE, 5, 20)]}
    assert chunks.file_chunks(NODE) == [(three, 5), (two, 20)]
    chunks.remove_file(NODE)
    assert chunks.file_chunks(NODE) == []
    database.close()


def test_blobs_are_found_for_more_chunks_than_one_statement_takes(database: Database) -> None:
    chunks = ChunkRows(database)
    rows = {ChunkId(i.to_bytes(32, "big")): BlobRow(BlobId(b"b" * 32), EpochId(b"e" * 32), i) for i in range(1200)}
    chunks.put_blobs(RELAY, rows.items())
    assert chunks.blobs(RELAY, [*rows, ChunkId(b"?" * 32)]) == rows
    assert chunks.blobs(DeviceId(b"q" * 32), list(rows)) == {}, "another relay may have none of them"
    database.close()


def test_a_relay_is_offered_exactly_what_its_log_lacks(database: Database) -> None:
    log, relays = LogRows(database), RelayRows(database)
    log.append_membership(0, RecordId(b"m0"), b"genesis")
    log.append_membership(1, RecordId(b"m1"), b"invite")
    rows = [entry("a", 1, 1), entry("a", 2, 2)]
    log.append_entries(rows)
    relays.advance(RELAY, RelayCursor(2, b"head", b"signed"), [RecordId(b"m0"), RecordId(rows[0].id)])
    assert relays.unseen_membership(RELAY) == [b"invite"]
    assert [row[0] for row in relays.unseen_entries(RELAY, 10)] == [rows[1].id]
    assert relays.cursor(RELAY) == RelayCursor(2, b"head", b"signed")
    database.close()


A, B = RELAY, DeviceId(b"q" * 32)
CHAINS = [ChainId(bytes([number]) * 32) for number in (1, 2, 3)]


def test_an_entry_whose_first_writing_was_undone_is_there_after_the_second(database: Database) -> None:
    log = LogRows(database)
    first = entry("a", 1, 1)
    with pytest.raises(KeyError), database.transaction():
        log.append_entries([first])
        raise KeyError("the transaction is undone")
    assert list(log.entries()) == []
    log.append_entries([first])
    assert list(LogRows(database).entries()) == [first]
    database.close()


def versions_of(database: Database, *changes: str) -> tuple[VersionRows, list[VersionRow]]:
    """One version for each of `changes`, each on a chain of its own."""
    versions = VersionRows(database)
    rows = [
        VersionRow(Dot(bytes([i]) * 44), NODE, i, i, change, b"a/b", b"c", 0) for i, change in enumerate(changes, 1)
    ]
    versions.add(rows)
    versions.add(rows)
    return versions, rows


def test_versions_are_listed_by_node_and_become_stored_at_one_relay_after_the_other(database: Database) -> None:
    versions, rows = versions_of(database, "created", "edited")
    versions.account([A, B])
    versions.mark_stored(A, [rows[0].dot])
    assert versions.by_node(NODE) == rows and versions.count() == 2
    assert versions.lacking([row.dot for row in rows]) == {rows[0].dot: {B}, rows[1].dot: {A, B}}
    assert versions.owed(A, CHAINS, (-1, b""), 10) == [rows[1]]
    assert versions.owed(A, CHAINS[:1], (-1, b""), 10) == []
    assert versions.owed(B, CHAINS, (-1, b""), 10) == rows
    assert versions.owed(B, CHAINS, (rows[0].position, rows[0].dot), 10) == rows[1:]
    versions.mark_stored(A, [rows[1].dot])
    assert versions.count_lacking([A, B], 1, []) == (0, 0), "one relay of two has each"
    assert versions.count_lacking([A, B], 0, []) == (2, 0), "the other lacks both"
    database.close()


def test_a_relay_that_is_new_lacks_every_version_and_a_version_that_is_new_is_at_no_relay(database: Database) -> None:
    versions, rows = versions_of(database, "created")
    versions.account([A])
    versions.mark_stored(A, [rows[0].dot])
    later = VersionRow(Dot(b"\2" * 44), NODE, 2, 2, "edited", b"a/b", b"c", 0)
    versions.add([rows[0], later])
    versions.account([A, B])
    assert versions.owed(A, CHAINS, (-1, b""), 10) == [later]
    assert versions.owed(B, CHAINS, (-1, b""), 10) == [rows[0], later]
    database.close()


def test_a_version_that_is_gone_is_owed_to_nobody_and_is_not_taken_for_stored(database: Database) -> None:
    versions, rows = versions_of(database, "created", "edited")
    versions.account([A, B])
    versions.mark_stored(B, [rows[1].dot])
    for relay in (A, B):
        versions.mark_gone(relay, [row.dot for row in rows])
    assert versions.owed(A, CHAINS, (-1, b""), 10) == [] == versions.owed(B, CHAINS, (-1, b""), 10)
    assert versions.lacking([rows[1].dot]) == {rows[1].dot: {A}}, "what a relay has, it has"
    assert versions.count_lacking([A, B], 1, []) == (0, 1)
    assert versions.count_lacking([A, B], 1, CHAINS) == (0, 0)
    assert versions.list_lacking([A, B], 1, CHAINS) == [(rows[0].dot, 2, False)]
    versions.mark_stored(A, [rows[0].dot])
    assert versions.count_lacking([A, B], 1, []) == (0, 0), "somebody had it after all"
    database.close()


def test_what_changed_no_content_is_at_a_relay_whose_log_has_its_entry(database: Database) -> None:
    versions, rows = versions_of(database, "created", "renamed", "deleted")
    versions.account([A, B])
    versions.mark_contentless_stored(A, [(row.dot, row.dot) for row in rows])
    assert versions.lacking([row.dot for row in rows]) == {rows[0].dot: {A, B}, rows[1].dot: {B}, rows[2].dot: {B}}
    assert versions.owed(B, CHAINS, (-1, b""), 10) == rows[:1]
    database.close()


def test_what_a_relay_was_noted_to_have_before_it_was_listed_is_there(database: Database) -> None:
    # The index refused the versions when their entry arrived, or its key came after the receipt.
    versions = VersionRows(database)
    stored, gone, neither = (VersionRow(Dot(bytes([i]) * 44), NODE, i, i, "edited", b"a/b", b"c", 0) for i in (1, 2, 3))
    versions.account([A, B])
    versions.mark_stored(A, [stored.dot])
    versions.mark_gone(A, [gone.dot, stored.dot])
    versions.mark_gone(B, [stored.dot])
    versions.mark_stored(B, [stored.dot])
    versions.add([stored, gone, neither])
    assert versions.lacking([stored.dot, gone.dot, neither.dot]) == {gone.dot: {A, B}, neither.dot: {A, B}}
    assert versions.owed(A, CHAINS, (-1, b""), 10) == [neither]
    assert versions.owed(B, CHAINS, (-1, b""), 10) == [gone, neither]
    database.close()


def test_a_removal_that_is_listed_late_is_at_the_relays_whose_logs_have_its_entry(database: Database) -> None:
    chain, entry = ChainId(b"c" * 32), EntryId(b"e" * 32)
    row = EntryRow(entry, chain, DeviceId(b"d" * 32), 7, 1, b"", b"e", b"s", b"p")
    LogRows(database).append_entries([row])
    RelayRows(database).mark_seen(A, [RecordId(entry)])
    versions = VersionRows(database)
    versions.account([A, B])
    removal = VersionRow(dot(chain, 7, 0), NODE, 1, 1, "deleted", b"a/b", b"", 0)
    edit = VersionRow(dot(chain, 7, 1), NODE, 1, 1, "edited", b"a/b", b"c", 0)
    versions.add([removal, edit])
    assert versions.lacking([removal.dot, edit.dot]) == {removal.dot: {B}, edit.dot: {A, B}}
    database.close()


THIRD_FORMAT = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE membership (position INTEGER PRIMARY KEY, id BLOB NOT NULL, entry BLOB NOT NULL);
CREATE TABLE chain (number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, device BLOB NOT NULL);
CREATE TABLE relay (device BLOB PRIMARY KEY, cursor INTEGER NOT NULL, head BLOB NOT NULL, signed BLOB NOT NULL)
    WITHOUT ROWID;
CREATE TABLE relay_seen (relay BLOB NOT NULL, id BLOB NOT NULL, PRIMARY KEY (relay, id)) WITHOUT ROWID;
CREATE TABLE version (
    dot BLOB PRIMARY KEY, node BLOB NOT NULL, position INTEGER NOT NULL, time_ns INTEGER NOT NULL, change TEXT NOT NULL,
    path BLOB NOT NULL, content BLOB NOT NULL, mtime_ns INTEGER NOT NULL, durable INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX version_by_node ON version (node, position);
CREATE INDEX version_not_durable ON version (durable) WHERE durable = 0;
CREATE TABLE blob (chunk BLOB PRIMARY KEY, blob BLOB NOT NULL, epoch BLOB NOT NULL, size INTEGER NOT NULL)
    WITHOUT ROWID;
PRAGMA user_version=3;
"""


@pytest.mark.parametrize("relays", [[], [A], [A, B]])
def test_an_index_of_the_third_format_learns_what_is_at_which_relay(tmp_path: Path, relays: list[DeviceId]) -> None:
    old = sqlite3.connect(tmp_path / "old", isolation_level=None)
    old.executescript(THIRD_FORMAT)
    for number in (1, 2):
        values = (bytes([number]) * 44, NODE, number, 7, "edited", b"p", b"c", 8, number - 1)
        old.execute("INSERT INTO version VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
    for relay in relays:
        old.execute("INSERT INTO relay VALUES (?, 9, ?, ?)", (relay, b"head" * 8, b"signed"))
        old.execute("INSERT INTO relay_seen VALUES (?, ?)", (relay, b"id"))
    old.execute("INSERT INTO blob VALUES (?, ?, ?, 5)", (b"chunk", b"blob", b"epoch"))
    old.close()
    database = Database(tmp_path / "old")
    versions, rows, chunks = VersionRows(database), RelayRows(database), ChunkRows(database)
    versions.account(relays)
    waiting, stored = (Dot(bytes([number]) * 44) for number in (1, 2))
    # Which of several relays had acknowledged a version was not known: their logs tell it again.
    lacks_all = {waiting: set(relays), stored: set(relays)}
    assert versions.lacking([waiting, stored]) == ({} if not relays else {waiting: {A}} if relays == [A] else lacks_all)
    assert versions.get(stored) == VersionRow(stored, NODE, 2, 7, "edited", b"p", b"c", 8)
    blob = BlobRow(BlobId(b"blob"), EpochId(b"epoch"), 5)
    for relay in relays:
        assert rows.cursor(relay) == RelayCursor(0, bytes(32), b"signed", b""), "it is still held to its newest head"
        assert chunks.blobs(relay, [ChunkId(b"chunk")]) == {ChunkId(b"chunk"): blob}
    database.close()


def test_an_upgraded_index_has_the_tables_of_a_new_one(tmp_path: Path, database: Database) -> None:
    raw = sqlite3.connect(tmp_path / "old", isolation_level=None)
    raw.executescript(THIRD_FORMAT)
    raw.close()
    upgraded = Database(tmp_path / "old")
    shapes = []
    for one in (upgraded, database):
        tables = ("relay", "version", "blob", "unstored", "accounted", "stored_early")
        shapes.append({table: one.execute(f"PRAGMA table_info({table})") for table in tables})
        one.close()
    assert shapes[0] == shapes[1]


@given(st.dictionaries(st.binary(max_size=44), st.binary(max_size=9), max_size=40))
def test_tree_rows_give_back_what_they_were_given(rows: dict[bytes, bytes]) -> None:
    database = Database(Path(":memory:"))
    tree = TreeRows(database, "synced")
    tree.put((NodeId(node), row) for node, row in rows.items())
    assert dict(tree.all()) == rows
    tree.delete([NodeId(node) for node in rows])
    assert list(tree.all()) == []
    database.close()


class RefusingConnection:
    """A connection whose next COMMIT fails as SQLite's does; `undone`: it has undone the transaction by itself."""

    def __init__(self, connection: sqlite3.Connection, undone: bool) -> None:
        self._connection, self._undone = connection, undone
        self._refuses = True

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def execute(self, sql: str, values: Any = ()) -> sqlite3.Cursor:
        if sql == "COMMIT" and self._refuses:
            self._refuses = False
            if self._undone:
                self._connection.execute("ROLLBACK")
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        return self._connection.execute(sql, values)

    def close(self) -> None:
        self._connection.close()


@pytest.mark.parametrize("undone", [True, False])
def test_a_refused_commit_undoes_all_and_the_next_transaction_begins_anew(tmp_path: Path, undone: bool) -> None:
    database = Database(tmp_path / "index")
    meta = Meta(database)
    database._connection = RefusingConnection(database._connection, undone)  # type: ignore[assignment]
    with pytest.raises(StorageFull) as caught, database.transaction():
        meta.set("key", b"refused")
    assert caught.value.next_step
    assert meta.get("key") is None
    with database.transaction():
        meta.set("key", b"taken")
    assert meta.get("key") == b"taken"
    database.close()


def test_a_version_that_one_relay_let_go_of_and_another_has_is_brought_to_one_that_is_new(database: Database) -> None:
    versions = VersionRows(database)
    first, second, new = (DeviceId(bytes([number]) * 32) for number in range(3))
    versions.account([first, second])
    chain = ChainId(b"c" * 32)
    name = dot(chain, 1, 0)
    versions.add([VersionRow(name, NodeId(name), 1, 0, "edited", b"p", b"content", 0)])
    for relay in (first, second):
        versions.mark_stored(relay, [name])
    versions.let_go(first, [name], {name})
    versions.account([new])
    assert [row.dot for row in versions.owed(new, [chain], (-1, b""), 9)] == [name]
    versions.let_go(second, [name], {name})
    versions.let_go(new, [name], {name})
    versions.account([DeviceId(b"4" * 32)])
    assert versions.owed(DeviceId(b"4" * 32), [chain], (-1, b""), 9) == []
    versions.bring_again([name])
    assert [row.dot for row in versions.owed(DeviceId(b"4" * 32), [chain], (-1, b""), 9)] == [name]
