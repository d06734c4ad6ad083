"""What people type and see (cli.md), against a daemon in memory behind the real local API."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from meshsync.agent import api_retention
from meshsync.agent import api_schema as api
from meshsync.cli.main import COMMANDS, run
from tests.support.agent_twin import FOLDER, HELD, TICKET, TIME, AgentTwin, serving


@pytest.fixture
def twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AgentTwin]:
    monkeypatch.setenv("MESHSYNC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("TZ", "UTC")
    with serving(tmp_path / "home") as agent:
        yield agent


CONFLICT = api.Conflict(
    path="plan.txt",
    copies=[api.ConflictCopy(path="plan (desk).txt", device="desk", time=TIME, size=4)],
    folder="Docs",
    root="/home/ann/Docs",
    device="laptop",
    time=TIME,
    size=7,
)


class Shell:
    """Runs command lines and remembers what they printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.err = ""

    def __call__(self, *words: str, code: int = 0) -> str:
        found = run(words)
        out, self.err = self._capsys.readouterr()
        assert found == code, (found, out, self.err)
        return out

    def json(self, *words: str, code: int = 0) -> dict[str, Any]:
        return json.loads(self(*words, "--json", code=code))  # type: ignore[no-any-return]


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def test_status_reads_as_in_the_manual(twin: AgentTwin, shell: Shell) -> None:
    twin.folder = msgspec.structs.replace(
        FOLDER,
        state="syncing",
        not_durable=3,
        done_bytes=64,
        total_bytes=100,
        rate_bytes_s=18.2e6,
        eta_s=24.0,
        conflicts=1,
    )
    assert shell("status").splitlines() == [
        "laptop   agent 0.1.0   up 3 h",
        "FOLDER  FILES  SIZE     STATE                              DURABLE     VERSIONS",
        "Docs    312    1.2 GiB  syncing 64 %, 18.2 MB/s, ETA 0:24  309 of 312  41",
        "DEVICE  PATH           RTT     DOWN  UP  SEEN",
        "desk    lan 192.0.2.7  0.4 ms  0     0   now",
        "phone   offline        -       -     -   never",
        "relay   relay.example  31 ms   -     -   now",
        "Conflicts: 1 (meshsync conflicts)",
        "Health: ok",
    ]


def test_json_is_the_agents_answer_and_nothing_else(twin: AgentTwin, shell: Shell) -> None:
    status = shell.json("status")
    assert (status["schema"], status["idle"], status["folders"][0]["state"]) == (1, True, "in sync")
    for words in (["devices"], ["stats"], ["log"], ["versions"], ["why", "/x"], ["members", "Docs"], ["wait"]):
        assert shell.json(*words)["schema"] == 1


def test_share_prints_the_command_for_the_other_device(twin: AgentTwin, shell: Shell, tmp_path: Path) -> None:
    out = shell("share", str(tmp_path), "--ro", "--expires", "7d", "--with", "desk")
    command = "meshsync join 7-crossover-clockwork-sunset"
    assert out.splitlines() == [
        f"On the other device run:   {command}        valid 10 min, once",
        "Or, also while this device is off, with the ticket (valid 168 h, once):",
        f"  meshsync join {TICKET}",
    ]
    request = api.ShareRequest(path=str(tmp_path), role="reader", expires_s=7 * 86_400.0, name="desk")
    assert twin.calls == [("share", request)]


def test_share_json_has_the_fields_that_scripts_rely_on(twin: AgentTwin, shell: Shell, tmp_path: Path) -> None:
    fields = {"schema", "folder", "code", "ticket", "expires", "code_expires", "id", "addresses", "is_file", "stored"}
    assert shell.json("share", str(tmp_path)).keys() == fields


def test_share_writes_the_ticket_as_a_picture_for_its_user_only(twin: AgentTwin, shell: Shell, tmp_path: Path) -> None:
    picture = tmp_path / "ticket.svg"
    shell("share", str(tmp_path), "--qr", str(picture))
    assert picture.read_text().startswith("<?xml") and picture.stat().st_mode & 0o777 == 0o600
    shell("share", str(tmp_path), "--qr", str(tmp_path / "no" / "such.svg"), code=2)
    shell("share", str(tmp_path), "--qr", str(picture), "--no-wait", code=2)


def test_a_code_may_be_typed_as_words_of_their_own(twin: AgentTwin, shell: Shell, tmp_path: Path) -> None:
    shell("join", "7", "Canyon", "ribb", "ORBIT", str(tmp_path), "--address", "127.0.0.1:5", code=1)
    request = api.JoinRequest(ticket="7 Canyon ribb ORBIT", path=str(tmp_path), address="127.0.0.1:5")
    assert twin.calls == [("join", request)]
    shell("join", "7-canyon-ribbon-orbit", str(tmp_path), "more", code=2)


@pytest.mark.parametrize("typed", ["7-canyon-ribbon", "7", "7-canyon-ribbon-xyzzy"])
def test_a_mistyped_code_is_told_before_anything_is_sent(twin: AgentTwin, shell: Shell, typed: str) -> None:
    shell("join", typed, code=1)
    assert "not a valid code" in shell.err and twin.calls == []


@pytest.mark.parametrize("span", ["", "7", "0d", "-1d", "1y", "91d", "1e3s", "9999999999d"])
def test_a_wrong_span_is_a_usage_error(twin: AgentTwin, shell: Shell, tmp_path: Path, span: str) -> None:
    shell("share", str(tmp_path), "--expires", span, code=2)
    assert "not a span like" in shell.err and twin.calls == []


def test_open_invitations_are_listed_and_taken_back(twin: AgentTwin, shell: Shell) -> None:
    assert shell("invitations").splitlines() == [
        "ID          FOLDER  ROLE    EXPIRES            CODE",
        "3f9a01cccc  Docs    writer  2026-01-31T12:00Z  open",
    ]
    assert shell("revoke", "Docs", "3f9a", "--yes") == "Taken back: 1. Their tickets and codes admit nobody.\n"
    assert twin.calls == [("revoke", api.RevokeRequest(folder="Docs", id="3f9a"))]
    assert shell("invitations", "Docs") == "No invitation is open.\n"
    shell("revoke", "Docs", "3f9a", "--yes", code=3)


def test_join_says_whom_and_what_it_joined(twin: AgentTwin, shell: Shell) -> None:
    out = shell("join", TICKET)
    assert out == "Paired with 'laptop' on the LAN. Docs: 312 files, 1.2 GiB -> ~/Docs\n"


def test_join_without_waiting_returns_the_job(twin: AgentTwin, shell: Shell) -> None:
    assert shell.json("join", TICKET, "--no-wait")["state"] == "running"


def test_an_error_says_what_where_and_the_next_command(twin: AgentTwin, shell: Shell) -> None:
    shell("members", "Nope", code=3)
    assert shell.err.splitlines() == [
        "Error: there is no such folder",
        "  about: folder Nope",
        "  next:  meshsync status",
    ]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["members", "Nope"], 3),
        (["join", "stale"], 1),
        (["wait", "--timeout", "0"], 8),
        (["restore", "/d/x@9"], 7),
        (["wait", "--timeout", "soon"], 2),
        (["nonsense"], 2),
        (["log", "--home", "/nonexistent"], 4),
    ],
)
def test_exit_codes(twin: AgentTwin, shell: Shell, words: list[str], code: int) -> None:
    shell(*words, code=code)
    assert shell.err


def test_an_error_for_scripts_is_json(twin: AgentTwin, shell: Shell) -> None:
    shell("members", "Nope", "--json", code=3)
    error = json.loads(shell.err)
    assert (error["code"], error["exit_code"], error["folder"]) == ("NotFound", 3, "Nope")


def test_conflicts_exit_with_6_only_if_there_are_any(twin: AgentTwin, shell: Shell) -> None:
    assert shell("conflicts") == "No conflicts.\n"
    copy = api.ConflictCopy(path="plan (desk).txt", device="desk", time=TIME, size=4)
    twin.conflict_list = [api.Conflict(path="plan.txt", copies=[copy])]
    assert "plan (desk).txt" in shell("conflicts", code=6)
    assert shell.json("conflicts", code=6)["conflicts"][0]["copies"][0].keys() == {"path", "device", "time", "size"}


def test_conflicts_show_every_version_with_its_device_and_what_to_type(twin: AgentTwin, shell: Shell) -> None:
    twin.conflict_list = [CONFLICT]
    lines = shell("conflicts", code=6).splitlines()
    assert lines[0].split() == ["PATH", "IS", "DEVICE", "TIME", "SIZE"]
    assert lines[1].split()[:3] == ["~/Docs/plan.txt", "here", "laptop"]
    assert "~/Docs/plan (desk).txt" in lines[2] and "desk" in lines[2] and "4 B" in lines[2]
    assert lines[3] == "Next: meshsync resolve PATH --keep mine|theirs|both|merged"


def test_resolve_tells_what_is_there_what_is_kept_and_how_to_undo_it(twin: AgentTwin, shell: Shell) -> None:
    twin.conflict_list = [CONFLICT]
    assert shell("resolve", "/home/ann/Docs/plan.txt", "--keep", "mine").splitlines() == [
        "~/Docs/plan.txt is there.",
        "What lost is kept in ~/Docs/.meshsync/kept/3f9a01",
        f"Undo: meshsync restore /home/ann/Docs/plan.txt --version {'a' * 88}",
    ]
    assert twin.calls == [("resolve", api.ResolveRequest(path="/home/ann/Docs/plan.txt", keep="mine"))]
    shell("resolve", "/home/ann/Docs/plan.txt", "--keep", "mine", code=3)


def test_resolve_needs_a_winner_and_a_merge_that_clashes_can_be_written_elsewhere(
    twin: AgentTwin, shell: Shell, tmp_path: Path
) -> None:
    twin.conflict_list = [CONFLICT]
    shell("resolve", "/home/ann/Docs/plan.txt", code=2)
    shell("resolve", "/home/ann/Docs/plan.txt", "--keep", "merged", code=6)
    assert "--to FILE" in shell.err
    to = str(tmp_path / "merged.txt")
    assert "at 2 places" in shell("resolve", "/home/ann/Docs/plan.txt", "--keep", "merged", "--to", to)
    answer = shell.json("resolve", "/home/ann/Docs/plan.txt", "--keep", "merged", "--to", to)
    assert answer.keys() >= {"schema", "path", "keep", "now", "kept_in", "undo", "clashes"}


def test_why_explains_in_a_sentence_and_says_what_to_do(twin: AgentTwin, shell: Shell) -> None:
    assert shell("why", "/x").splitlines() == [
        "/x: waiting for content",
        "  Its new content, by desk, is not here yet.",
        "  waits for: desk",
        "  next: Start meshsync on desk",
    ]


def test_held_says_what_waits_and_what_to_type(twin: AgentTwin, shell: Shell) -> None:
    assert shell("held") == "Nothing is held.\n"
    twin.held_list = [HELD]
    lines = shell("held").splitlines()
    assert lines[0].split() == ["ID", "FOLDER", "HELD", "FILES", "DEVICE", "SINCE", "WHY"]
    assert "211 of 312" in lines[1] and "not told to others" in lines[1]
    assert lines[2:] == [
        "3f9a01: plan.txt, …",
        "3f9a01: 40 more went before (meshsync versions --deleted)",
        "Next: meshsync release ID, or meshsync reject ID to bring the files back.",
    ]
    assert shell.json("held")["held"][0].keys() >= {"id", "folder", "side", "change", "why", "device", "count", "total"}


def test_release_and_reject_ask_unless_told_not_to(
    twin: AgentTwin, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda text: (asked.append(text), "n")[1])
    twin.held_list = [HELD]
    shell("release", HELD.id, code=130)
    assert asked and twin.calls == []
    assert [held["id"] for held in shell.json("reject", HELD.id, "--dry-run")["held"]] == [HELD.id]
    assert twin.calls == []
    assert shell("release", HELD.id, "--yes") == "Released 3f9a01: 211 files. Next: meshsync wait\n"
    twin.held_list = [HELD]
    assert "kept in ~/Docs/.meshsync/kept/3f9a01-0" in shell("reject", HELD.id, "--yes")
    assert twin.calls == [("released", HELD.id), ("rejected", HELD.id)]


@pytest.mark.parametrize("words", [["release", "nope"], ["reject", "nope", "--yes"], ["reject", "nope", "--dry-run"]])
def test_what_is_not_held_cannot_be_decided(twin: AgentTwin, shell: Shell, words: list[str]) -> None:
    shell(*words, code=3)
    assert "meshsync held" in shell.err


def test_log_lists_versions_newest_first(twin: AgentTwin, shell: Shell) -> None:
    lines = shell("log", "/d/plan.txt").splitlines()
    assert lines[0].split() == ["N", "TIME", "DEVICE", "SIZE", "CHANGE", "KEPT", "PATH"]
    assert [line.split()[0] for line in lines[1:]] == ["2", "1"]
    assert {"n", "id", "path", "time", "device", "size", "change"} <= shell.json("log")["versions"][0].keys()


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["/d/plan.txt@1"], ("/d/plan.txt", "1")),
        (["/d/plan.txt"], ("/d/plan.txt", "")),
        (["/d/a@b.txt"], ("/d/a@b.txt", "")),
        (["/d/a@2", "--version", "1"], ("/d/a@2", "1")),
    ],
)
def test_a_version_follows_the_path_after_an_at_sign(
    twin: AgentTwin, shell: Shell, words: list[str], asked: tuple[str, str]
) -> None:
    shell("cat", *words)
    assert twin.calls == [("cat", asked)]


def test_a_file_whose_name_ends_like_a_version_is_that_file(twin: AgentTwin, shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "a@2").touch()
    shell("cat", str(tmp_path / "a@2"))
    assert twin.calls == [("cat", (str(tmp_path / "a@2"), ""))]


def test_cat_prints_the_bytes(twin: AgentTwin, shell: Shell) -> None:
    assert shell("cat", "/d/plan.txt@1") == "first"


def test_restore_in_place_and_elsewhere(twin: AgentTwin, shell: Shell, tmp_path: Path) -> None:
    assert shell("restore", "/d/plan.txt@1") == "Restored /d/plan.txt (5 B).\n"
    assert shell.json("restore", "/d/plan.txt@1", "--to", str(tmp_path))["restored_to"] == str(tmp_path)


def test_find_tells_the_newest_version_of_each_file_of_a_name(twin: AgentTwin, shell: Shell) -> None:
    assert "plan.txt" in shell("find", "plan", "--folder", "Docs", "--deleted")
    assert twin.calls == [("find", ("plan", "Docs", True))]
    shell("find", "a/b", code=2)


def test_a_dry_run_restores_nothing(twin: AgentTwin, shell: Shell) -> None:
    assert shell("restore", "/d/plan.txt@1", "--dry-run") == (
        "would write plan.txt\n1 of 1 paths would be written; 0 are so already.\n"
    )
    assert twin.calls == [("restore", api.RestoreRequest(path="/d/plan.txt", version="1", dry_run=True))]


def test_a_whole_directory_is_restored_as_it_was_at_a_time(twin: AgentTwin, shell: Shell) -> None:
    shell("restore", "/d", "--at", "2026-01-31T12:00:00+01:00")
    assert twin.calls == [("restore", api.RestoreRequest(path="/d", at="2026-01-31T11:00:00+00:00"))]
    shell("restore", "/d", "--at", "before the move", "--exact")
    assert twin.calls[1:] == [("restore", api.RestoreRequest(path="/d", at="before the move", exact=True))]
    shell("restore", "/d", "--exact", code=2)
    shell("restore", "/d", "--at", "yesterday", "--exact", "--to", "/x", code=2)


def test_undo_tells_what_it_would_do_asks_and_does_it(
    twin: AgentTwin, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "n")
    since = "2026-01-31T11:00:00+00:00"
    told = shell("undo", "Docs", "--device", "desk", "--since", since, "--dry-run")
    assert told == (
        "would bring back plan.txt\n... and 1 more\nwould remove PAY\\x1b[2J\n"
        "look at b: changed by laptop afterwards: it stays as it is\n"
        "Docs: 2 paths would be brought back, 1 removed.\n"
    )
    asked = api.UndoRequest(folder="Docs", device="desk", since=since, dry_run=True)
    assert twin.calls == [("undo", asked)]
    shell("undo", "--since", since, code=130)
    assert [request.dry_run for _, request in twin.calls] == [True, True]  # type: ignore[attr-defined]
    done = shell("undo", "--since", since, "--yes")
    assert done == (
        "Docs: 2 paths brought back (7 B), 1 removed.\nlook at b: changed by laptop afterwards: it stays as it is\n"
    )
    assert twin.calls[2:] == [("undo", api.UndoRequest(since=since))]
    twin.skipped = [api.Skipped(path="c", why="a directory lies there now")]
    assert "left as it is: c" in shell("undo", "--since", since, "--yes", code=1)
    shell("undo", "--yes", code=2)
    shell("undo", "--since", "first", "--yes", code=2)


def test_snapshots_are_taken_listed_and_removed(twin: AgentTwin, shell: Shell) -> None:
    assert shell("snapshot", "first") == "Docs as it is now is first.\n"
    assert shell("snapshot", "first", "Docs", "--remove") == "Removed.\n"
    assert "first" in shell("snapshots", "Docs") and "desk" in shell("snapshots")
    assert twin.calls[:3] == [
        ("snapshot", api.SnapshotRequest(name="first")),
        ("snapshot", api.SnapshotRequest(name="first", folder="Docs", remove=True)),
        ("snapshots", "Docs"),
    ]
    for time in ("yesterday", "2 hours ago", "2026-01-31"):
        shell("snapshot", time, code=2)


def test_one_looks_into_the_past_by_time_or_snapshot(twin: AgentTwin, shell: Shell) -> None:
    assert shell("ls", "/d", "--at", "first").split()[-1] == "plan.txt"
    assert [call for _, call in twin.calls] == [("/d", "first", ""), ("/d", "first", "photos")]
    assert len(shell.json("ls", "/d")["entries"]) == 2
    assert shell("cat", "/d/plan.txt", "--at", "first") == "seconds"
    assert twin.calls[-1] == ("cat", ("/d/plan.txt", "", "first"))
    listed = shell("diff", "/d", "--since", "first", "--until", "2026-01-31T12:00:00+01:00")
    assert listed == "+ a\\x1b[2J\n- b\n- ... and 1 more\n1 created, 0 changed, 2 removed.\n"
    assert twin.calls[-1] == ("compare", ("/d", "first", "2026-01-31T11:00:00+00:00"))
    shell("diff", "/d", "--until", "first", code=2)


def test_what_could_not_be_restored_is_named(twin: AgentTwin, shell: Shell) -> None:
    twin.skipped = [api.Skipped(path="a\x1b[2J", why="a directory lies there now")]
    told = shell("restore", "/d", "--at", "yesterday", code=1)
    assert told == "Restored 1 of 3 paths in /d (5 B).\nleft as it is: a\\x1b[2J: a directory lies there now\n"
    assert shell.json("restore", "/d", "--at", "yesterday", code=1)["not_restored"] == 1


def test_pause_resume_rescan_name_the_folder(twin: AgentTwin, shell: Shell, tmp_path: Path) -> None:
    shell("pause", "Docs")
    shell("resume")
    shell("rescan", str(tmp_path))
    assert twin.calls == [("pause", "Docs"), ("resume", ""), ("rescan", str(tmp_path))]


def test_leave_asks_unless_told_not_to(twin: AgentTwin, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "n")
    shell("leave", "Docs", code=130)
    assert twin.calls == []
    shell("leave", "Docs", "--yes")
    assert twin.calls == [("leave", "Docs")]


def test_doctor_names_what_failed_and_what_to_do(shell: Shell, tmp_path: Path) -> None:
    out = shell("doctor", "--home", str(tmp_path / "none"), code=4)
    assert re.search(r"FAILED  agent runs: no agent is running here\n +next: meshsync up", out)


def test_hostile_names_cannot_drive_the_terminal(twin: AgentTwin, shell: Shell) -> None:
    hostile = "\x1b]0;owned\x07\x1b[2J\u202egnp.exe\n\udcff"
    twin.name = hostile
    twin.folder = msgspec.structs.replace(FOLDER, name=hostile + "[bold]:smile:")
    copy = api.ConflictCopy(path=hostile, device=hostile, time=hostile, size=4)
    twin.conflict_list = [api.Conflict(path=hostile, copies=[copy])]
    out = shell("status") + shell("conflicts", code=6)
    shell("members", hostile, code=3)
    for text in (out, shell.err):
        assert all(line.isprintable() for line in text.splitlines())
        assert r"\x1b]0;owned\x07\x1b[2J\u202egnp.exe\x0a\xff" in text
    assert "[bold]:smile:" in out


def test_a_name_that_is_not_utf8_reaches_the_agent_byte_for_byte(twin: AgentTwin, shell: Shell) -> None:
    shell("cat", "/d/\udcff\udc80&#?")
    shell("log", "/d/\udcff")
    shell("restore", "/d/\udcff")
    assert twin.calls[0] == ("cat", ("/d/\udcff\udc80&#?", ""))
    assert twin.calls[1] == ("log", ("", "/d/\udcff"))
    assert twin.calls[2] == ("restore", api.RestoreRequest(path="/d/\udcff"))


def test_down_without_an_agent_is_done_already(shell: Shell, tmp_path: Path) -> None:
    assert shell("down", "--home", str(tmp_path / "none")) == "No agent was running.\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(shell: Shell, name: str) -> None:
    out = shell(name, "--help")
    assert ("Example: meshsync " + name in " ".join(out.split()) and "--home" in out) or name in ("completion", "demo")


@pytest.mark.parametrize("kind", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: Shell, kind: str) -> None:
    assert "_MESHSYNC_COMPLETE" in shell("completion", kind)


def test_options_are_taken_from_the_environment_by_the_name_that_is_typed(
    twin: AgentTwin, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESHSYNC_STATUS_JSON", "1")
    assert json.loads(shell("status"))["folders"][0]["name"] == FOLDER.name
    monkeypatch.setenv("MESHSYNC_MEMBERS_VERIFY", "desk")
    assert "MEMBER" in shell("members", "Docs", "--verify", "")  # what is typed counts more
    assert "MEMBER" not in shell("members", "Docs")


def test_retention_is_shown_and_set(twin: AgentTwin, shell: Shell) -> None:
    told = shell("retention")
    assert "Docs keeps versions: all 30 days, daily 1 year, monthly forever." in told
    assert "stays at a relay for 14 days" in told and "let go of 12 versions at relay nas" in told
    assert "\x1b" not in told
    shell("retention", "Docs", "--all", "2w", "--hourly", "36 hours", "--monthly", "forever", "--floor", "30d")
    keeps = api_retention.Times(all=14 * 86400, hourly=36 * 3600, monthly=None, floor=30 * 86400)
    assert twin.calls == [
        ("retention", ""),
        ("set_retention", api_retention.RetentionRequest(folder="Docs", keeps=keeps)),
    ]
    assert "Docs keeps every version." in shell("retention", "Docs", "--all", "forever")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--all", "30d"),
        ("Docs", "--daily", "1y"),
        ("Docs", "--all", "soon"),
        ("Docs", "--all", "1d", "--floor", "forever"),
    ],
)
def test_a_retention_that_says_too_little_is_refused(twin: AgentTwin, shell: Shell, arguments: tuple[str, ...]) -> None:
    shell("retention", *arguments, code=2)
    assert twin.calls == []


def test_gc_tells_what_would_go_and_what_each_relay_was_told(twin: AgentTwin, shell: Shell) -> None:
    told = shell("gc", "Docs", "--dry-run")
    assert "Docs: 3 versions of 2 files, 3.0 MiB" in told and "would go" in told and "relay" not in told
    assert "\x1b" not in told and "  b\n" in told
    told = shell("gc")
    assert "relay nas: was told of 3 versions." in told and "relay far: it cannot be reached now" in told
    assert twin.calls == [
        ("collect", api_retention.CollectRequest(folder="Docs", dry_run=True)),
        ("collect", api_retention.CollectRequest()),
    ]
