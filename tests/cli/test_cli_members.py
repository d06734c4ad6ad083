"""The commands about members, as people and scripts read them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshsync.agent import api_schema as api
from meshsync.cli.main import run
from tests.support.agent_twin import APART, AgentTwin, serving


@pytest.fixture
def twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AgentTwin]:
    monkeypatch.setenv("MESHSYNC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", "/home/ann")
    with serving(tmp_path / "home") as agent:
        yield agent


class Shell:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str, code: int = 0) -> str:
        assert run(words) == code
        said = self._capsys.readouterr()
        self.err = said.err
        return said.out


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "n")


def test_members_shows_who_whose_and_who_is_gone(twin: AgentTwin, shell: Shell) -> None:
    out = shell("members", "Docs").splitlines()
    assert out[0].split() == ["MEMBER", "PERSON", "ID", "ROLE", "SINCE", "SEEN", "FINGERPRINT"]
    assert out[1].startswith("laptop (this device)  Anna") and "owner" in out[1]
    assert "desk" in out[2] and "Ben" in out[2] and "d1d1 d1d1" in out[2]
    assert out[3].startswith("phone (d2d2d2d2d2) was removed by laptop, ")
    assert json.loads(shell("members", "Docs", "--json"))["former"][0]["person"] == "Rob"


def test_verify_shows_sixty_digits_in_three_lines(twin: AgentTwin, shell: Shell) -> None:
    out = shell("members", "Docs", "--verify", "desk").splitlines()
    assert out[:3] == ["  00000 00001 00002 00003", "  00004 00005 00006 00007", "  00008 00009 00010 00011"]
    assert "desk" in out[3]


def test_role_says_what_it_was_and_which_relay_does_not_know_yet(twin: AgentTwin, shell: Shell) -> None:
    out = shell("role", "Docs", "desk", "writer")
    assert out.startswith("desk is writer now, and was reader.") and "relay.example:4433" in out
    assert twin.calls == [("role", api.RoleRequest(folder="Docs", device="desk", role="writer"))]
    shell("role", "Docs", "desk", "king", code=2)


def test_remove_says_what_was_exposed_and_asks(twin: AgentTwin, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch)
    shell("remove", "Docs", "desk", code=130)
    assert "It could fetch 41 versions with 12 contents, 1.2 GiB so far" in shell.err
    assert twin.calls == [("remove", api.RemovalRequest(folder="Docs", who="desk", dry_run=True))]
    out = shell("remove", "Docs", "desk", "--yes")
    assert out.startswith("Removed desk of Ben (d1d1d1d1d1), writer.")
    assert "nothing that is written from now on can be read there" in out and "meshsync share" in out
    assert twin.calls[-1] == ("remove", api.RemovalRequest(folder="Docs", who="desk"))
    assert shell("remove", "Docs", "desk", "--dry-run").startswith("Would remove desk")
    shell("remove", "Docs", "nobody", "--yes", code=3)


def test_unshare_asks_too(twin: AgentTwin, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch)
    shell("unshare", "Docs", code=130)
    assert shell("unshare", "Docs", "--yes") == "Nobody else shares it.\n"
    assert twin.calls[-1] == ("unshare", api.UnshareRequest(folder="Docs"))


def test_leave_says_if_nobody_could_be_told(twin: AgentTwin, shell: Shell) -> None:
    assert "Ask an owner to run: meshsync remove" in shell("leave", "Docs", "--yes")


def test_held_lists_what_is_in_quarantine_and_adopt_takes_it(
    twin: AgentTwin, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin.apart_list = [APART]
    out = shell("held")
    assert out.startswith("Docs: 2 changes of phone came after its end and change nothing.\n  1 files, 7 B: plan.txt")
    assert "Next: meshsync adopt Docs phone" in out and "Nothing is held" not in out
    refuse(monkeypatch)
    shell("adopt", "Docs", "phone", code=130)
    assert shell("adopt", "Docs", "phone", "--yes") == "1 files are in ~/Docs/From phone\n"
    assert twin.calls[-1] == ("adopt", api.AdoptRequest(folder="Docs", device="phone"))
    assert shell("adopt", "Docs", "phone", "--yes", "--dismiss") == "Listed no more.\n"
    assert shell("adopt", "Docs", "phone", "--dry-run") == "plan.txt\n"
