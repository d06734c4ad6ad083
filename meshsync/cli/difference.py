"""`diff`: what changed between two versions of a file."""

from __future__ import annotations

import difflib
from typing import Any

import click

from meshsync.cli.client import Answer
from meshsync.cli.escape import printable, printable_line
from meshsync.cli.history import split_version
from meshsync.cli.render import count
from meshsync.cli.session import Session, common, file_path, say
from meshsync.cli.when import point
from meshsync.errors import ResourceError
from meshsync.limits import DIFF_BYTES_MAX
from meshsync.sync.text_merge import is_text


@click.command("diff")
@click.argument("path")
@click.argument("other", default="")
@click.option("--since", default="", metavar="TIME|NAME", help="List what changed since then, or since this snapshot.")
@click.option("--until", default="", metavar="TIME|NAME", help="With --since: up to then, not up to now.")
@common
def diff_command(session: Session, path: str, other: str, since: str, until: str) -> None:
    """Show what changed from one version of a file to another, or to the newest.

    Of a text the lines, of anything else sizes and the range that differs. Example: meshsync diff plan.txt@2 plan.txt@5

    With --since, which paths of a folder or directory changed. Example: meshsync diff ~/Docs --since yesterday
    """
    if since:
        if other:
            raise click.UsageError("--since goes with one path")
        query = {"path": file_path(path), "since": point(since), "until": point(until) if until else ""}
        session.emit(session.client.get("/differences", **query), _show_paths)
        return
    if until:
        raise click.UsageError("--until goes with --since")
    name, version = split_version(path)
    second, newer = split_version(other) if other else (name, "")
    sides = [(name, version), (second, newer)]
    before, after = (_read(session, file_path(at), number) for at, number in sides)
    session.emit(_answer([_label(*side) for side in sides], before, after), _show)


def _label(name: str, version: str) -> str:
    return f"{name}@{version}" if version else name


def _read(session: Session, path: str, version: str) -> bytes:
    """Return a version's content. Raises ResourceError beyond DIFF_BYTES_MAX."""
    data = bytearray()
    for piece in session.client.stream("/cat", path=path, version=version):
        data += piece
        if len(data) > DIFF_BYTES_MAX:
            too_large = f"the version has more than {DIFF_BYTES_MAX} bytes"
            raise ResourceError(too_large, path=path, next_step="Compare it yourself: meshsync cat")
    return bytes(data)


def _answer(names: list[str], before: bytes, after: bytes) -> dict[str, Any]:
    text = is_text(before) and is_text(after)
    lines = []
    if text:
        one, other = (data.decode("utf-8", "surrogateescape").split("\n") for data in (before, after))
        lines = list(difflib.unified_diff(one, other, names[0], names[1], lineterm=""))
    start, before_end, after_end = differing(before, after)
    return {
        "schema": 1,
        "from": names[0],
        "to": names[1],
        "equal": before == after,
        "text": text,
        "lines": lines,
        "sizes": [len(before), len(after)],
        "changed": {"offset": start, "sizes": [before_end - start, after_end - start]},
    }


def differing(before: bytes, after: bytes) -> tuple[int, int, int]:
    """Return (start, end in `before`, end in `after`) of what differs, in bytes: all around it is equal."""
    start = _common(before, after)
    end = _common(before[start:][::-1], after[start:][::-1])
    return start, len(before) - end, len(after) - end


def _common(one: bytes, other: bytes) -> int:
    """Return how many bytes at the beginning are equal."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _show_paths(answer: Answer) -> None:
    for sign, kind, total in zip("+~-", ("created", "changed", "removed"), answer["counts"], strict=True):
        for path in answer[kind]:
            say(f"{sign} {printable(path)}")
        if total > len(answer[kind]):
            say(f"{sign} ... and {count(total - len(answer[kind]))} more")
    created, changed, removed = map(count, answer["counts"])
    say(f"{created} created, {changed} changed, {removed} removed.")


def _show(answer: Answer) -> None:
    if answer["equal"]:
        say("No difference.")
    elif answer["lines"]:
        for line in answer["lines"]:
            say(printable_line(line))
    else:
        names = f"{printable(answer['from'])} and {printable(answer['to'])}"
        before, after = answer["sizes"]
        offset, (gone, come) = answer["changed"]["offset"], answer["changed"]["sizes"]
        say(f"{names} differ: {count(before)} and {count(after)} bytes.")
        say(f"From byte {count(offset)} on {count(gone)} bytes became {count(come)}; the rest is equal.")
