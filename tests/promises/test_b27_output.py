"""B27: names that other people chose reach terminal, scripts and log as text and nothing else."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from meshsync.agent import api_schema as api
from meshsync.agent.log_lines import OneLine
from meshsync.cli.main import run
from meshsync.errors import NotFound
from tests.support.agent_twin import DESK, HELD, PHONE, TIME, AgentTwin, serving

EVIL = "a\x1b[2J\r\nDocs: in sync\u202egpj.exe\udcff\x07\u200b\x9b31m"
LINK_PATHS = {DESK.path, PHONE.path}  # words of the API under a key that elsewhere names a file
CHOSEN = {"name", "path", "device", "person", "what", "why", "examples", "copies", "root", "by", "folder", "kept_in"}


def hostile(value: Any, key: str = "") -> Any:
    """Return plain values with `EVIL` at the end of each text that somebody else may have chosen."""
    if isinstance(value, dict):
        return {name: hostile(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [hostile(item, key) for item in value]
    return value + EVIL if isinstance(value, str) and key in CHOSEN and value not in LINK_PATHS else value


class HostileTwin(AgentTwin):
    """A daemon whose folders, files and devices have been named by an enemy."""

    def __init__(self) -> None:
        super().__init__()
        copies = [api.ConflictCopy(path="plan (desk).txt", device="desk", time=TIME, size=4)]
        self.conflict_list = [
            api.Conflict(path="p", copies=copies, folder="Docs", root="/d", device="laptop", time=TIME, size=7)
        ]
        self.held_list = [HELD]

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in {"status", "log", "versions", "conflicts", "held_changes", "members", "why", "invitations"}:
            return found

        async def ask(*arguments: Any) -> Any:
            answer = await found(*arguments)
            plain = {key: value if key == "path" else hostile(value, key) for key, value in vars_of(answer).items()}
            return msgspec.convert(plain, type(answer))

        return ask


def vars_of(answer: Any) -> dict[str, Any]:
    return msgspec.to_builtins(answer)  # type: ignore[no-any-return]


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileTwin]:
    monkeypatch.setenv("MESHSYNC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    with serving(tmp_path / "home", HostileTwin()) as twin:
        yield twin  # type: ignore[misc]


ASKING = [("status",), ("log",), ("versions",), ("conflicts",), ("held",), ("members", "Docs"), ("invitations",)]


@pytest.mark.parametrize("words", ASKING, ids=" ".join)
def test_a_terminal_is_told_printable_lines_and_a_script_ascii(
    agent: HostileTwin, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    code = run(words)
    said = capsys.readouterr()
    assert code in (0, 1, 5, 6), said.err
    assert "gpj.exe" in said.out, "the names are shown"
    assert all(line.isprintable() for line in (said.out + said.err).split("\n"))
    assert not any(line.strip().startswith("Docs: in sync") for line in said.out.split("\n"))
    run((*words, "--json"))
    said = capsys.readouterr()
    assert said.out.isascii() and all(line.isprintable() for line in said.out.split("\n"))


def test_an_error_that_quotes_what_was_typed_is_printable(
    agent: HostileTwin, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(("members", EVIL.replace("\0", ""))) != 0
    said = capsys.readouterr()
    assert all(line.isprintable() for line in (said.out + said.err).split("\n"))


def test_a_record_of_the_log_is_one_line_whatever_it_quotes() -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(OneLine())
    log = logging.Logger("test")
    log.addHandler(handler)
    log.warning("%s waits: %s", EVIL, EVIL)
    assert out.getvalue().count("\n") == 1 and out.getvalue()[:-1].isprintable()
    try:
        raise NotFound(EVIL)
    except NotFound:
        log.exception("failed")
    lines = out.getvalue().split("\n")
    assert all(line.isprintable() for line in lines)
    assert "Traceback (most recent call last):" in lines
