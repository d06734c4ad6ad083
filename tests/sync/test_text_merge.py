"""Three-way merge of texts, line by line: nothing invented, nothing decided that both sides changed, bounded work."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.limits import MERGE_BYTES_MAX, MERGE_DISTANCE_MAX
from meshsync.sync.text_merge import is_text, merge

texts = st.lists(st.sampled_from([b"a\n", b"b\n", b"c\n", b"\n", b"d\r\n"]), max_size=8).map(b"".join)
endings = st.sampled_from([b"", b"last"])


@given(texts, texts, endings)
def test_where_one_side_changed_nothing_the_other_is_taken(base: bytes, changed: bytes, end: bytes) -> None:
    for one, other in ((changed + end, base), (base, changed + end), (changed + end, changed + end)):
        made = merge(base, one, other)
        assert made is not None and (made.text, made.clashes) == (changed + end, 0)


@given(texts, texts, texts)
def test_it_does_not_matter_which_side_is_called_mine(base: bytes, one: bytes, other: bytes) -> None:
    here, there = merge(base, one, other), merge(base, other, one)
    assert here is not None and there is not None and here.clashes == there.clashes
    assert here.clashes or here.text == there.text


@given(texts, texts, texts)
def test_every_line_was_in_one_of_the_three(base: bytes, one: bytes, other: bytes) -> None:
    made = merge(base, one, other)
    known = {line for text in (base, one, other) for line in text.splitlines(keepends=True)}
    assert made is not None
    assert made.clashes or set(made.text.splitlines(keepends=True)) <= known


@given(st.lists(st.tuples(st.sampled_from(["keep", "one", "other"]), st.booleans()), max_size=20))
def test_changes_that_lie_apart_are_all_in_the_result(plan: list[tuple[str, bool]]) -> None:
    """Between any two changed lines stands one that nobody changed."""
    base, one, other, wanted = [], [], [], []
    for number, (side, removed) in enumerate(plan):
        line, fixed = b"line %d\n" % number, b"fixed %d\n" % number
        changed = [] if removed else [b"changed %d\n" % number]
        base += [line, fixed]
        one += [*(changed if side == "one" else [line]), fixed]
        other += [*(changed if side == "other" else [line]), fixed]
        wanted += [*(changed if side != "keep" else [line]), fixed]
    made = merge(b"".join(base), b"".join(one), b"".join(other))
    assert made is not None and (made.text, made.clashes) == (b"".join(wanted), 0)


def test_a_clash_stands_between_markers_with_both_sides_and_the_base() -> None:
    made = merge(b"a\nb\nc\n", b"a\nMINE\nc\n", b"a\ntheirs", (b"plan.txt", b"plan (copy).txt"))
    assert made is not None and made.clashes == 1
    assert made.text.decode().splitlines() == [
        *(
            "a",
            "<<<<<<< plan.txt",
            "MINE",
            "c",
            "||||||| base",
            "b",
            "c",
            "=======",
            "theirs",
            ">>>>>>> plan (copy).txt",
        )
    ]


def test_neighbouring_lines_changed_by_both_are_a_clash() -> None:
    made = merge(b"a\nb\n", b"A\nb\n", b"a\nB\n")
    assert made is not None and made.clashes == 1


@pytest.mark.parametrize(("more", "is_made"), [(0, True), (1, False)])
def test_texts_that_differ_too_much_are_not_merged(more: int, is_made: bool) -> None:
    base = b"same\n"
    grown = base + b"".join(b"%d\n" % number for number in range(MERGE_DISTANCE_MAX + more)) + b"end\n"
    assert (merge(base + b"end\n", grown, base + b"end\n") is not None) == is_made


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"", True), (b"text\n", True), (b"\xff\xe9", True), (b"a\0b", False), (b"a" * (MERGE_BYTES_MAX + 1), False)],
)
def test_what_counts_as_text(data: bytes, expected: bool) -> None:
    assert is_text(data) == expected
