"""`up`, `down` and starting the agent when a command needs it, with the twin of the agent's process."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from meshsync.agent.config import Config, load
from meshsync.cli import launch
from meshsync.cli.main import run
from meshsync.transport.udp import bound_socket

pytestmark = pytest.mark.slow  # each starts a process


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(launch, "AGENT", ("-m", "tests.support.agent_twin_process"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("MESHSYNC_HOME", str(tmp_path / "home"))
    yield tmp_path / "home"
    run(["down"])


def test_up_starts_an_agent_that_outlives_the_command_and_down_ends_it(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["up", "--relay", "quic://relay.example:4433#4-a-b"]) == 0
    assert capsys.readouterr().out == "Agent running as 'laptop'. Relay: connected (31 ms).\n"
    assert run(["up"]) == 0
    assert capsys.readouterr().out.startswith("Agent already running as 'laptop'.")
    assert run(["status"]) == 0
    assert run(["down"]) == 0
    assert run(["status"]) == 4
    assert not (home / "agent.sock").exists() and not (home / "agent.pid").exists()


def test_options_reach_the_agent_and_are_kept_for_the_next_start(home: Path) -> None:
    words = ["--name", "laptop", "--listen", "127.0.0.1:0", "--relay", "quic://a:1#x", "--relay", "quic://b:1#y"]
    assert run(["up", *words, "--no-discovery", "--engine", "aioquic"]) == 0
    first = json.loads((home / "options.json").read_text())
    relays = ("quic://a:1#x", "quic://b:1#y")
    assert first[2:] == [*Config("laptop", "127.0.0.1:0", relays, False, "aioquic").arguments(), *relays]
    run(["down"])
    assert run(["up"]) == 0
    assert json.loads((home / "options.json").read_text()) == first
    assert load(home / "config.toml").relays == ("quic://a:1#x", "quic://b:1#y")


def test_options_for_an_agent_that_runs_already_take_effect_at_once(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["share", str(home.parent)]) == 0
    first = int((home / "agent.pid").read_text())
    capsys.readouterr()
    assert run(["up", "--relay", "quic://relay.example:4433#4-a-b"]) == 0
    assert capsys.readouterr().out == "Agent restarted as 'laptop'. Relay: connected (31 ms).\n"
    second = int((home / "agent.pid").read_text())
    assert second != first
    assert "quic://relay.example:4433#4-a-b" in json.loads((home / "options.json").read_text())
    assert run(["up", "--relay", "quic://relay.example:4433#4-a-b"]) == 0
    assert capsys.readouterr().out.startswith("Agent already running as 'laptop'.")
    assert int((home / "agent.pid").read_text()) == second


@pytest.mark.parametrize("listen", ["nonsense", "127.0.0.1:99999", "192.0.2.1:0", "taken"])
def test_an_address_that_cannot_be_listened_at_stops_no_agent_and_changes_no_option(
    home: Path, capsys: pytest.CaptureFixture[str], listen: str
) -> None:
    assert run(["up", "--listen", "127.0.0.1:0"]) == 0
    first, options = int((home / "agent.pid").read_text()), (home / "config.toml").read_text()
    with closing(bound_socket("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        assert run(["up", "--listen", taken if listen == "taken" else listen]) == 2
    assert "listen" in capsys.readouterr().err or listen in ("nonsense", "127.0.0.1:99999")
    assert (int((home / "agent.pid").read_text()), (home / "config.toml").read_text()) == (first, options)
    assert launch.is_running(launch.Home(home))


def test_join_and_share_start_the_agent_if_needed(home: Path, tmp_path: Path) -> None:
    assert run(["share", str(tmp_path)]) == 0
    assert launch.is_running(launch.Home(home))


def test_an_agent_that_does_not_start_is_reported_with_its_last_words(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["up", "--name", "refuses"]) == 2
    assert "the agent did not start: cannot listen: address in use" in capsys.readouterr().err


def test_an_agent_that_is_not_understood_is_ended(home: Path) -> None:
    assert run(["up", "--name", "babbles"]) == 2
    assert run(["status"]) == 4


def test_the_environment_gives_options_too(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHSYNC_UP_LISTEN", "127.0.0.1:0")
    assert run(["up"]) == 0
    assert load(home / "config.toml").listen == "127.0.0.1:0"


def test_two_homes_are_two_agents(home: Path, tmp_path: Path) -> None:
    assert run(["up"]) == 0
    assert run(["up", "--home", str(tmp_path / "other")]) == 0
    assert run(["down", "--home", str(tmp_path / "other")]) == 0
    assert run(["status"]) == 0


def test_the_agent_is_not_of_this_terminals_session(home: Path) -> None:
    assert run(["up"]) == 0
    pid = int(launch.Client(launch.Home(home)).post("/stop")["pid"])
    assert pid != os.getpid() and os.getsid(pid) == pid == int((home / "agent.pid").read_text())
