"""Short codes as people type them. Invariant under test: nothing short of a number and three clear words is a code."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.content.code import (
    Code,
    discovery_key,
    looks_like_code,
    make_code,
    parse_code,
    random_bytes_needed,
)
from meshsync.content.code_words import WORDS
from meshsync.errors import CodeInvalid
from meshsync.limits import CODE_NUMBER_MAX, CODE_WORDS_MIN

NUMBERS = st.integers(1, CODE_NUMBER_MAX)
CODES = st.builds(Code, NUMBERS, st.lists(st.sampled_from(WORDS), min_size=3, max_size=8).map(tuple))
SEPARATORS = st.sampled_from(["-", " ", "  ", "_", ".", "–", " - ", "\t"])
CODE = Code(7, ("canyon", "ribbon", "orbit"))


def test_the_words_are_many_different_and_clear_after_four_letters() -> None:
    assert len(WORDS) == 2048 == len({word[:4] for word in WORDS})
    assert all(word.isascii() and word.islower() and 3 <= len(word) <= 8 for word in WORDS)


@given(NUMBERS, st.binary(min_size=random_bytes_needed(), max_size=random_bytes_needed()))
def test_a_made_code_has_enough_words_and_is_read_back(number: int, random: bytes) -> None:
    code = make_code(number, random)
    assert len(code.words) == CODE_WORDS_MIN and parse_code(code.text) == code


def test_every_word_is_as_likely_as_any_other() -> None:
    drawn = [make_code(1, draw.to_bytes(2, "big") * 3).words[0] for draw in range(1 << 16)]
    assert {drawn.count(word) for word in WORDS[:8]} == {32} and set(drawn) == set(WORDS)


@given(code=CODES, data=st.data())
def test_case_blanks_dashes_and_clear_beginnings_do_not_matter(code: Code, data: st.DataObject) -> None:
    typed = [str(code.number)]
    for word in code.words:
        cut = data.draw(st.integers(4, 8))
        typed.append(data.draw(st.sampled_from([str.upper, str.lower, str.title]))(word[:cut]))
    text = typed[0] + "".join(data.draw(SEPARATORS) + part for part in typed[1:])
    assert parse_code(data.draw(st.sampled_from(["", " ", "\n"])) + text + " ") == code


@given(st.lists(st.sampled_from(WORDS), max_size=2))
def test_fewer_words_than_the_least_are_refused(words: list[str]) -> None:
    with pytest.raises(CodeInvalid, match="at least 3 words"):
        parse_code("-".join(["7", *words]))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "canyon-ribbon-orbit",
        "0-canyon-ribbon-orbit",
        "10000-canyon-ribbon-orbit",
        "٧-canyon-ribbon-orbit",
        "7-canyon-ribbon-xyzzy",
        "7-canyon-ribbon-o",
        "7-" + "-".join(["zoo"] * 9),
        "7" * 300,
    ],
)
def test_what_is_no_code_is_refused(text: str) -> None:
    with pytest.raises(CodeInvalid):
        parse_code(text)


def test_a_mistyped_word_is_answered_with_what_was_meant() -> None:
    with pytest.raises(CodeInvalid, match="did you mean canyon"):
        parse_code("7-canyn-ribbon-orbit")
    with pytest.raises(CodeInvalid, match=r"'ca' is not clear; did you mean cabbage or cabin or cable\?"):
        parse_code("7-ca-ribbon-orbit")


@given(st.text(max_size=300))
def test_any_text_is_a_code_or_refused(text: str) -> None:
    try:
        code = parse_code(text)
    except CodeInvalid:
        return
    assert parse_code(code.text) == code and looks_like_code(code.text)


def test_a_code_is_told_from_a_ticket_and_shows_its_words_to_nobody() -> None:
    assert looks_like_code(" 7 canyon") and not looks_like_code("meshsync1abc")
    assert "canyon" not in repr(CODE)
    assert discovery_key(7) != discovery_key(8) and len(discovery_key(7)) == 32
