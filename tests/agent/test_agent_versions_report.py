"""Which version a number and an id name."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshsync.agent.versions_report import pick
from meshsync.errors import NotFound
from meshsync.ids import ChainId, Dot, NodeId, dot
from meshsync.index.database import Database
from meshsync.index.version_rows import VersionRow, VersionRows

PATH = (b"plan.txt",)


def version(seq: int, node: Dot) -> VersionRow:
    return VersionRow(dot(ChainId(b"c" * 32), seq, 0), NodeId(node), seq, seq, "edited", b"plan.txt", b"", 0, 1)


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


def test_a_number_counts_the_versions_of_what_lies_there(versions: VersionRows) -> None:
    assert pick(versions, ROWS[1:], "1", PATH) == ROWS[1]
    assert pick(versions, ROWS[1:], "", PATH) == ROWS[2]


@pytest.mark.parametrize("row", ROWS)
def test_an_id_names_its_version_also_when_another_file_took_the_path(versions: VersionRows, row: VersionRow) -> None:
    assert pick(versions, ROWS[1:], row.dot.hex(), PATH) == row


@pytest.mark.parametrize("name", ["0", "3", "ff" * 44, "zz" * 44, "ff" * 43])
def test_what_names_no_version_is_not_found(versions: VersionRows, name: str) -> None:
    with pytest.raises(NotFound):
        pick(versions, ROWS[1:], name, PATH)
