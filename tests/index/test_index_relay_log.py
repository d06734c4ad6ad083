"""What was read of a relay's log can be compared at any index, whatever pages it came in."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.ids import DeviceId, RecordId
from meshsync.index.database import Database
from meshsync.index.relay_log_rows import RelayLogRows
from meshsync.metalog.record_log import GENESIS_HEAD, next_head

A, B = DeviceId(b"a" * 32), DeviceId(b"b" * 32)
IDS = [RecordId(bytes([number]) * 32) for number in range(1, 13)]
HEADS = [GENESIS_HEAD]
for record in IDS:
    HEADS.append(next_head(HEADS[-1], record))


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    opened = Database(Path(tmp_path_factory.mktemp("index")) / "index")
    yield opened
    opened.close()


def read(rows: RelayLogRows, relay: DeviceId, ends: list[int]) -> None:
    for start, end in pairwise([0, *ends]):
        rows.add(relay, start, HEADS[start], IDS[start:end])


@given(ends=st.sets(st.integers(1, 12), min_size=1).map(sorted), after=st.integers(0, 12), last=st.integers(0, 12))
def test_heads_and_ids_are_those_of_the_log(database: Database, ends: list[int], after: int, last: int) -> None:
    rows = RelayLogRows(database)
    with database.transaction():
        read(rows, A, ends)
    after, last = sorted((min(after, ends[-1]), min(last, ends[-1])))
    assert rows.head_at(A, after) == HEADS[after]
    assert rows.ids_after(A, after, last) == IDS[after:last]


def test_what_was_not_read_is_not_known(database: Database) -> None:
    rows = RelayLogRows(database)
    read(rows, A, [3, 5])
    assert rows.head_at(A, 5) == HEADS[5] and rows.head_at(A, 6) is None
    assert rows.head_at(B, 0) is None, "of another relay nothing was read"


def test_a_log_that_is_read_from_its_beginning_again_is_noted_anew(database: Database) -> None:
    rows = RelayLogRows(database)
    read(rows, A, [3, 5])
    rows.add(A, 0, HEADS[0], IDS[6:8])
    assert rows.head_at(A, 2) == next_head(next_head(GENESIS_HEAD, IDS[6]), IDS[7]) and rows.head_at(A, 3) is None
