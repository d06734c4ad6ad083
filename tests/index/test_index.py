"""The index keeps what a transaction wrote, and nothing of one that failed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.errors import FormatUnsupported, IndexCorrupt
from meshsync.ids import BlobId, ChainId, ChunkId, DeviceId, Dot, EntryId, EpochId, NodeId, RecordId
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


def test_an_index_of_the_first_format_gets_the_tables_it_lacks_and_keeps_its_rows(database: Database) -> None:
    Meta(database).set("root", b"/here")
    for table in ("lately", "hold", "stored_part"):
        database.execute(f"DROP TABLE {table}")
    database.execute("PRAGMA user_version=1")
    database.close()
    again = Database(database.path)
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
    assert chunks.ranges_of([one]) == {one: [Range(NODE, 0, 10), Range(NODE, 30, 10)]}
    chunks.set_file(NODE, [(three, 5), (two, 20)])
    assert chunks.ranges_of([one, two]) == {two: [Range(NODE, 5, 20)]}
    assert chunks.file_chunks(NODE) == [(three, 5), (two, 20)]
    chunks.remove_file(NODE)
    assert chunks.file_chunks(NODE) == []
    database.close()


def test_blobs_are_found_for_more_chunks_than_one_statement_takes(database: Database) -> None:
    chunks = ChunkRows(database)
    rows = {ChunkId(i.to_bytes(32, "big")): BlobRow(BlobId(b"b" * 32), EpochId(b"e" * 32), i) for i in range(1200)}
    chunks.put_blobs(rows.items())
    assert chunks.blobs([*rows, ChunkId(b"?" * 32)]) == rows
    database.close()


def test_a_relay_is_offered_exactly_what_its_log_lacks(database: Database) -> None:
    log, relays = LogRows(database), RelayRows(database)
    log.append_membership(0, RecordId(b"m0"), b"genesis")
    log.append_membership(1, RecordId(b"m1"), b"invite")
    rows = [entry("a", 1, 1), entry("a", 2, 2)]
    log.append_entries(rows)
    log.put_stored(RecordId(b"s"), b"stored")
    relays.advance(RELAY, RelayCursor(2, b"head", b"signed"), [RecordId(b"m0"), RecordId(rows[0].id)])
    assert relays.unseen_membership(RELAY) == [b"invite"]
    assert [row[0] for row in relays.unseen_entries(RELAY, 10)] == [rows[1].id]
    assert relays.unseen_stored(RELAY, 10) == [(b"s", b"stored")]
    assert relays.cursor(RELAY) == RelayCursor(2, b"head", b"signed")
    database.close()


def test_versions_are_listed_by_node_and_become_durable(database: Database) -> None:
    versions = VersionRows(database)
    rows = [VersionRow(Dot(bytes([i]) * 44), NODE, i, i, "edited", b"a/b", b"c", 0, 0) for i in (1, 2)]
    versions.add(rows)
    versions.add(rows)
    versions.mark_durable([rows[0].dot])
    assert versions.count() == (2, 1)
    assert [row.durable for row in versions.by_node(NODE)] == [1, 0]
    assert versions.to_store([ChainId(b"\1" * 32), ChainId(b"\2" * 32)], 10) == [rows[1]]
    assert versions.to_store([ChainId(b"\1" * 32)], 10) == []
    database.close()


@given(st.dictionaries(st.binary(max_size=44), st.binary(max_size=9), max_size=40))
def test_tree_rows_give_back_what_they_were_given(rows: dict[bytes, bytes]) -> None:
    database = Database(Path(":memory:"))
    tree = TreeRows(database, "synced")
    tree.put((NodeId(node), row) for node, row in rows.items())
    assert dict(tree.all()) == rows
    tree.delete([NodeId(node) for node in rows])
    assert list(tree.all()) == []
    database.close()
