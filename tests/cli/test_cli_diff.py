"""`diff` tells what changed between two versions, and nothing in them moves the cursor."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.cli.difference import differing
from tests.cli.test_cli_commands import Shell, shell, twin
from tests.support import agent_twin
from tests.support.agent_twin import AgentTwin

__all__ = ["shell", "twin"]


@pytest.fixture(autouse=True)
def contents(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    found = {
        "1": b"one\ntwo\x1b[2J\\n\nthree",
        "2": b"one\n2\nthree",
        "3": b"\0" * 50 + b"abc" + b"\0" * 50,
        "": b"\0" * 120,
    }
    monkeypatch.setattr(agent_twin, "CONTENTS", found)
    yield found


def test_the_lines_of_a_text(twin: AgentTwin, shell: Shell) -> None:
    assert shell("diff", "/d/plan.txt@1", "/d/plan.txt@2").splitlines() == [
        "--- /d/plan.txt@1",
        "+++ /d/plan.txt@2",
        "@@ -1,3 +1,3 @@",
        " one",
        "-two\\x1b[2J\\n",
        "+2",
        " three",
    ]
    assert twin.calls == [("cat", ("/d/plan.txt", "1")), ("cat", ("/d/plan.txt", "2"))]


def test_the_range_of_anything_else_to_the_newest(twin: AgentTwin, shell: Shell) -> None:
    assert shell("diff", "/d/plan.txt@3").splitlines() == [
        "/d/plan.txt@3 and /d/plan.txt differ: 103 and 120 bytes.",
        "From byte 50 on 3 bytes became 20; the rest is equal.",
    ]
    told = shell.json("diff", "/d/plan.txt@3")
    assert (told["text"], told["sizes"], told["changed"]) == (False, [103, 120], {"offset": 50, "sizes": [3, 20]})


def test_equal_versions_and_absent_ones(twin: AgentTwin, shell: Shell) -> None:
    assert shell("diff", "/d/plan.txt@1", "/d/other@1") == "No difference.\n"
    shell("diff", "/d/plan.txt@7", code=3)


def test_a_version_too_large_to_compare_is_refused(
    twin: AgentTwin, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshsync.cli.difference.DIFF_BYTES_MAX", 100)
    shell("diff", "/d/plan.txt@3", code=1)


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=8), st.binary(max_size=8))
def test_around_what_differs_all_is_equal(head: bytes, tail: bytes, one: bytes, other: bytes) -> None:
    before, after = head + one + tail, head + other + tail
    start, before_end, after_end = differing(before, after)
    assert before[:start] == after[:start] and before[before_end:] == after[after_end:]
    assert start <= before_end and start <= after_end
    assert start >= len(head) or before[start : start + 1] != after[start : start + 1]
    assert (before == after) == (before_end == after_end == start)
