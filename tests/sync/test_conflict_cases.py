"""What the user's guide says of conflicts is what the engine does."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshsync.agent.in_conflict import all_in_conflict
from tests.sync.conflict_cases import CASES, Case, listing, plain, play
from tests.sync.conflict_guide import render

GUIDE = Path(__file__).parents[2] / "docs/guide/conflicts.md"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_both_show_what_the_guide_says(case: Case) -> None:
    for device in play(case):
        shown = listing(device.disk)
        assert {plain(name): text for name, text in shown.items()} == case.after
        assert len(shown) == len(case.after)
        assert len(all_in_conflict(device.synced)) == case.conflicts


def test_both_show_the_same_names() -> None:
    for case in CASES:
        ann, bob = play(case)
        assert listing(ann.disk) == listing(bob.disk)


def test_the_guide_is_made_from_the_cases() -> None:
    assert GUIDE.read_text() == render(), "python -m tests.sync.conflict_guide > docs/guide/conflicts.md"
