"""Figures and tables for people. Invariant: every cell is one line and safe for a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from meshsync.cli.escape import printable

WIDTH_WITHOUT_TERMINAL = 10_000  # columns: output into a file or pipe is never folded


def size(count: float) -> str:
    """Return a size in bytes with a binary unit: `0 B`, `1.2 GiB`, `610 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 999.5 or unit == "TiB":
            digits = 1 if unit != "B" and count < 9.95 else 0
            return f"{count:.{digits}f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")


def rate(bytes_s: float, digits: int = 0) -> str:
    """Return a rate in bytes per second with a decimal unit: `0`, `18.2 MB/s`."""
    if bytes_s < 1:
        return "0"
    for unit in ("B/s", "kB/s", "MB/s"):
        if bytes_s < 999.5 or unit == "MB/s":
            return f"{bytes_s:.{digits}f} {unit}"
        bytes_s /= 1000
    raise AssertionError("unreachable")


def duration(seconds: float) -> str:
    """Return a span of time in its largest unit: `12 s`, `3 h`, `5 d`."""
    for limit, divisor, unit in ((60, 1, "s"), (3600, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{int(seconds // divisor)} {unit}"
    return f"{int(seconds // 86400)} d"


def clock(seconds: float) -> str:
    """Return a time left as `M:SS` or `H:MM:SS`."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def count(number: int) -> str:
    """Return a whole number with its thousands apart: `9 120`."""
    return f"{number:,}".replace(",", " ")


def milliseconds(value: float | None) -> str:
    """Return a round trip time: `0.4 ms`, `31 ms`, `-` if unknown."""
    if value is None:
        return "-"
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns under a header, two spaces apart, without lines. Cells are escaped here."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in header:
        made.add_column(title, no_wrap=True, overflow="ellipsis")
    for row in rows:
        made.add_row(*(Text(printable(cell)) for cell in row))
    width = None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL
    console = Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(made)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()), color=console.is_terminal)
