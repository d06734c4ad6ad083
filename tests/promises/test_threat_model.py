"""The threat model names only tests that exist, and each of the rows that it claims has one."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "threat-model.md").read_text()


def test_every_test_that_the_threat_model_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    missing = [name for path, name in named if f"def {name}(" not in (ROOT / path).read_text()]
    assert len(named) > 30 and missing == []


def test_every_claimed_row_names_a_test() -> None:
    rows = dict(re.findall(r"^\| (\d+) [^|]*\| ([^|]*)\|$", PAGE, re.MULTILINE))
    claimed = set(range(1, 28))
    assert claimed <= set(map(int, rows))
    assert [row for row, tests in rows.items() if "tests/" not in tests] == []
