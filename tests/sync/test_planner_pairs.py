"""Two users change one small tree while apart (P1, P2, P3, P4, P7): a sample of all pairs of changes."""

from __future__ import annotations

from itertools import islice

import pytest

from tests.sync.planner_pairs import cases, failure, try_every

FEW, MANY = 1009, 8  # every how many-th case is tried


def test_a_pair_of_changes_ends_with_both() -> None:
    assert [why for case in islice(cases(), 0, None, FEW) if (why := failure(case))] == []


@pytest.mark.long
def test_fifty_thousand_pairs_of_changes_end_with_both() -> None:
    count, failed = try_every(MANY, workers=2)
    assert failed == [] and count >= 50_000
