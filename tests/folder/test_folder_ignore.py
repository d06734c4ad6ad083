"""`.meshignore`: git's pattern language over byte names (P18)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.folder.ignore import IgnoreRules
from meshsync.folder.types import RelativePath
from meshsync.limits import IGNORE_BYTES_MAX, IGNORE_PATTERNS_MAX


def path(text: str) -> RelativePath:
    return tuple(text.strip("/").encode().split(b"/"))


CASES = {  # patterns: (ignored, not ignored); a path with a final slash is a directory
    "*.tmp": (["a.tmp", "d/e/a.tmp", "a.tmp/", "x.tmp/below"], ["a.tmpx", "tmp"]),
    "build/": (["build/", "d/build/", "build/x"], ["build", "builder/"]),
    "/top": (["top", "top/", "top/x"], ["d/top"]),
    "a/b": (["a/b", "a/b/c"], ["x/a/b", "a", "b"]),
    "**/cache": (["cache", "d/cache", "d/e/cache/f"], ["cached"]),
    "logs/**": (["logs/x", "logs/d/e"], ["logs/"]),
    "*.log\n!keep.log": (["a.log", "d/b.log"], ["keep.log", "d/keep.log"]),
    "d/\n!d/keep": (["d/keep", "d/"], []),
    "# comment\n\n  \n\\#real": (["#real"], ["# comment", "x"]),
    "with space \ncr\r": (["with space", "cr"], ["with", "cr\r"]),
    "[ab]?": (["a1", "bx"], ["c1", "a"]),
    "back\\\\slash": (["back\\slash"], ["back/slash"]),
    "": ([], ["anything", ".meshignore", "d/"]),
}


@pytest.mark.parametrize("patterns", CASES)
def test_patterns_match_as_in_git(patterns: str) -> None:
    rules = IgnoreRules(patterns.encode())
    assert rules.bad == []
    for text in CASES[patterns][0]:
        assert rules.ignored(path(text), text.endswith("/")), text
    for text in CASES[patterns][1]:
        assert not rules.ignored(path(text), text.endswith("/")), text


@pytest.mark.parametrize("text", [".meshsync/", ".meshsync/folder", "d/.MeshSync/x"])
def test_the_control_directory_is_never_synced(text: str) -> None:
    assert IgnoreRules(b"!.meshsync").ignored(path(text), text.endswith("/"))


def test_names_that_are_not_utf8_match_by_their_bytes() -> None:
    rules = IgnoreRules(b"\xff*.tmp\n")
    assert rules.ignored((b"\xffa.tmp",), False) and not rules.ignored((b"\xfea.tmp",), False)


def test_bad_lines_are_listed_and_the_rest_applies() -> None:
    rules = IgnoreRules(b"good\n!\n*a*a*a*a*\nbetter")
    assert [bad.line for bad in rules.bad] == [2, 3]
    assert rules.ignored((b"good",), False) and rules.ignored((b"better",), False)


def test_bounds() -> None:
    many = IgnoreRules(b"x\n" * (IGNORE_PATTERNS_MAX + 2))
    assert [bad.line for bad in many.bad] == [IGNORE_PATTERNS_MAX + 1, IGNORE_PATTERNS_MAX + 2]
    long = IgnoreRules(b"first\n" + b"#" * IGNORE_BYTES_MAX + b"\nlast")
    assert len(long.bad) == 1 and long.ignored((b"first",), False) and not long.ignored((b"last",), False)


def test_no_pattern_holds_a_scan() -> None:
    rules = IgnoreRules(b"*a*a*b\n")
    assert rules.bad == []
    assert not rules.ignored((b"a" * 255,), False)  # without the bound on stars this would not come back


@pytest.mark.parametrize("line", [b"*" * 50 + b"x", b"***/***/***/x", b"*a*a*/*a*a*/*a*a*/x", b"*a*/*a*/*a*/*a*/x"])
def test_stars_in_a_row_and_in_several_names_hold_no_scan_either(line: bytes) -> None:
    rules = IgnoreRules(line)
    assert [bad.why for bad in rules.bad] == ["more than 3 stars"]  # first: what takes the line would not come back
    assert not rules.ignored((b"a" * 100, b"a" * 100, b"a" * 100, b"y"), False)


@given(st.binary(max_size=200), st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=4))
def test_any_bytes_are_patterns_and_names(data: bytes, names: list[bytes]) -> None:
    found = [IgnoreRules(data).ignored(tuple(names), False) for _ in range(2)]
    assert found[0] == found[1]


@given(st.sampled_from(sorted(CASES)), st.lists(st.sampled_from([b"a", b"b", b"d", b"keep", b"x.tmp"]), min_size=1))
def test_a_scan_that_prunes_agrees_with_the_whole_rule(patterns: str, names: list[bytes]) -> None:
    rules = IgnoreRules(patterns.encode())
    pruned = any(
        rules.ignored_here(tuple(names[:depth]), directory=depth < len(names)) for depth in range(1, len(names) + 1)
    )
    assert pruned == rules.ignored(tuple(names), False)
