"""The commands about loss, as people and scripts read them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshsync.agent import api_recovery as api
from meshsync.cli.main import run
from meshsync.content.recovery_sheet import sheet_words
from meshsync.ids import DeviceId
from meshsync.wire.relay_address import RelayAddress
from tests.support.agent_twin import AgentTwin, serving

URL = RelayAddress("192.0.2.1", 4433, DeviceId(b"r" * 32)).text
WORDS = sheet_words(bytes(32))


@pytest.fixture
def twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AgentTwin]:
    monkeypatch.setenv("MESHSYNC_HOME", str(tmp_path / "home"))
    with serving(tmp_path / "home") as agent:
        yield agent


def test_the_sheet_is_shown_once_and_written_for_nobody_else(
    twin: AgentTwin, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "sheet.html"
    page.write_text("readable by all")
    page.chmod(0o644)
    assert run(["recovery", "sheet", "--page", str(page)]) == 0
    said = capsys.readouterr().out
    words = sheet_words(bytes([1]) * 32)
    assert all(f"{number:2} {word}" in said for number, word in enumerate(words, 1))
    assert page.stat().st_mode & 0o777 == 0o600
    assert all(word in page.read_text() for word in words) and "<svg" in page.read_text()
    assert run(["recovery", "sheet"]) == 2
    assert run(["recovery", "sheet", "--new", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["words"] == list(sheet_words(bytes([2]) * 32))


def test_a_page_that_cannot_be_written_is_told_before_the_words_are_made(twin: AgentTwin, tmp_path: Path) -> None:
    assert run(["recovery", "sheet", "--page", str(tmp_path / "no such directory/sheet.html")]) == 2
    assert twin.sheets == 0


def test_status(twin: AgentTwin, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recovery", "status"]) == 0
    assert "No recovery sheet" in capsys.readouterr().out
    twin.sheets = 1
    assert run(["recovery", "status"]) == 0
    assert "brought back by the sheet" in capsys.readouterr().out


@pytest.mark.parametrize("typed", [list(WORDS), [" ".join(WORDS)]])
def test_recover_by_words_typed_one_by_one_or_quoted(
    twin: AgentTwin, typed: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["recover", *typed, str(tmp_path), "--relay", URL]) == 0
    said = capsys.readouterr().out
    assert "freshness unverified" in said and "312 files" in said
    assert twin.calls == [("recover", api.RecoverRequest(words=" ".join(WORDS), relay=URL, path=str(tmp_path)))]


def test_words_from_a_pipe_stand_in_no_list_of_processes(
    twin: AgentTwin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(WORDS)))
    assert run(["recover", "--relay", URL, "--to", str(tmp_path)]) == 0
    assert [name for name, _ in twin.calls] == ["recover"]


def test_wrong_words_or_a_relay_without_its_key_start_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MESHSYNC_HOME", str(tmp_path / "home"))
    assert run(["recover", *WORDS[:-1], "abandon", "--relay", URL, "--json"]) == 1
    assert json.loads(capsys.readouterr().err)["code"] == "SheetInvalid"
    assert run(["recover", *WORDS, "--relay", "quic://192.0.2.1:4433"]) == 2
    assert not (tmp_path / "home").exists()
