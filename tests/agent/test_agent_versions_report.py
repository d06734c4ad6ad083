"""Which version a number and an id name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from meshsync.agent.versions_report import by_id, history_of, pick, restored_of
from meshsync.errors import NotFound
from meshsync.ids import ChainId, Dot, NodeId, dot
from meshsync.index.database import Database
from meshsync.index.version_rows import VersionRow, VersionRows

PATH = (b"plan.txt",)


def version(seq: int, node: Dot) -> VersionRow:
    return VersionRow(dot(ChainId(b"c" * 32), seq, 0), NodeId(node), seq, seq, "edited", b"plan.txt", b"", 0)


GONE = dot(ChainId(b"c" * 32), 1, 0)
HERE = dot(ChainId(b"c" * 32), 2, 0)
ROWS = [version(1, GONE), version(2, HERE), version(3, HERE)]


@pytest.fixture
def versions(tmp_path: Path) -> VersionRows:
    database = Database(tmp_path / "index")
    rows = VersionRows(database)
    with database.transaction():
        rows.add(ROWS)
    return rows


def test_a_number_counts_the_versions_of_what_lies_there() -> None:
    assert pick(ROWS[1:], "1", PATH) == ROWS[1]
    assert pick(ROWS[1:], "", PATH) == ROWS[2]


@pytest.mark.parametrize("name", ["0", "3", "ff" * 44])
def test_what_is_no_number_of_a_version_is_not_found(name: str) -> None:
    with pytest.raises(NotFound):
        pick(ROWS[1:], name, PATH)


@pytest.mark.parametrize("row", ROWS)
def test_an_id_names_its_version_whatever_lies_at_its_path_now(versions: VersionRows, row: VersionRow) -> None:
    assert by_id(versions, row.dot.hex()) == row


@pytest.mark.parametrize("name", ["", "1", "ff" * 44, "zz" * 44, "ff" * 43])
def test_what_is_no_id_names_nothing(versions: VersionRows, name: str) -> None:
    assert by_id(versions, name) is None


def test_a_conflict_copy_lists_the_version_that_it_is_and_what_was_edited_since(versions: VersionRows) -> None:
    copy = NodeId(b"h" * 32)
    assert history_of(versions, copy, ROWS[1].dot) == [ROWS[1]]
    edited = replace(version(4, HERE), node=copy)
    versions.add([edited])
    assert history_of(versions, copy, edited.dot) == [edited]


def test_what_has_an_earlier_content_again_is_told_as_restored() -> None:
    contents = (b"a", b"a", b"b", b"a", b"b", b"c")
    rows = [replace(version(seq, HERE), content=content) for seq, content in enumerate(contents, 1)]
    assert restored_of(rows) == {rows[3].dot, rows[4].dot}
    assert restored_of([rows[0], replace(rows[2], change="deleted"), replace(rows[3], change="renamed")]) == set()


def test_another_file_lists_its_versions(versions: VersionRows) -> None:
    assert history_of(versions, NodeId(HERE), ROWS[2].dot) == ROWS[1:]
    assert history_of(versions, None, None) == []
