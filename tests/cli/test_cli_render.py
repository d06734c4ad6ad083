"""Figures for people, and text from outside made safe."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsync.cli import render
from meshsync.cli.escape import printable

NAMES = st.text(st.characters(exclude_categories=()), max_size=30)


@given(NAMES)
def test_escaped_text_is_one_printable_line(text: str) -> None:
    escaped = printable(text)
    assert escaped.isprintable()
    escaped.encode("utf-8")


@given(NAMES, NAMES)
def test_two_names_never_look_alike(one: str, other: str) -> None:
    assert (printable(one) == printable(other)) == (one == other)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plan.txt", "plan.txt"),
        ("Ünïcödé 字 🎉", "Ünïcödé 字 🎉"),
        ("a\nb\r\x1b[2J", r"a\x0ab\x0d\x1b[2J"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("a\\x0a", r"a\\x0a"),
        ("\udcff", r"\xff"),
        ("\x9b31m", r"\u009b31m"),
        ("a\u200bb\ufeff", r"a\u200bb\ufeff"),
    ],
)
def test_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1024, "1.0 KiB"),
        (1_288_490_189, "1.2 GiB"),
        (48 * 1024**3, "48 GiB"),
        (610 * 1024**2, "610 MiB"),
        (1024**2 - 1, "1.0 MiB"),
        (5000 * 1024**4, "5000 TiB"),
    ],
)
def test_sizes(count: int, shown: str) -> None:
    assert render.size(count) == shown


def test_rates_times_and_counts() -> None:
    assert [render.rate(value, 1) for value in (0, 18.2e6, 2e3)] == ["0", "18.2 MB/s", "2.0 kB/s"]
    assert [render.duration(value) for value in (12, 59.9, 60, 3 * 3600, 72 * 3600)] == [
        "12 s",
        "59 s",
        "1 min",
        "3 h",
        "3 d",
    ]
    assert [render.clock(value) for value in (24, 61, 3661, -1)] == ["0:24", "1:01", "1:01:01", "0:00"]
    assert render.count(9120) == "9 120"
    assert [render.milliseconds(value) for value in (None, 0.4, 31.0)] == ["-", "0.4 ms", "31 ms"]


HEAVY = ("rich", "httpx", "msgspec", "platformdirs", "tomlkit", "segno", "starlette", "asyncio.sslproto", "nacl")


@pytest.mark.slow
def test_starting_imports_nothing_heavy() -> None:
    code = "import sys, meshsync.cli.main; print(*[m for m in sys.argv[1:] if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code, *HEAVY], capture_output=True, text=True, check=True, timeout=30)
    assert found.stdout.strip() == ""
