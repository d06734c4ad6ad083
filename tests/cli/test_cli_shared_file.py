"""`share FILE`, `join` of one file, and how `status` shows them: what people type and read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from meshsync.agent import api_schema as api
from meshsync.agent.api_handouts import SharedFile
from meshsync.agent.operations import Progress
from meshsync.cli.main import run
from tests.support.agent_twin import TICKET, AgentTwin, serving


class FileTwin(AgentTwin):
    """An agent that shares one file and was handed another."""

    stored = True
    files: tuple[SharedFile, ...] = ()

    async def status(self) -> api.Status:
        return msgspec.structs.replace(await super().status(), shared_files=list(self.files))

    async def share(self, request: api.ShareRequest, progress: Progress) -> api.ShareResult:
        self.calls.append(("share", request))
        folder = "f1" * 32
        return api.ShareResult(folder=folder, code="", ticket=TICKET, expires="", is_file=True, stored=self.stored)

    async def join(self, request: api.JoinRequest, progress: Progress) -> api.JoinResult:
        folder, size = "f1" * 32, 2048
        return api.JoinResult(
            folder=folder,
            name="p\nlan",
            path=request.path,
            device="desk",
            route="relay",
            files=1,
            bytes=size,
            is_file=True,
        )


@pytest.fixture
def twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileTwin]:
    monkeypatch.setenv("MESHSYNC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", "/home/ann")
    twin = FileTwin()
    with serving(tmp_path / "home", twin):
        yield twin


def typed(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> list[str]:
    assert run(words) == code
    said = capsys.readouterr()
    return (said.out if code == 0 else said.err).splitlines()


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.txt"
    path.write_bytes(b"1")
    return path


def test_share_says_what_the_other_gets_and_while_which_device_is_on(
    twin: FileTwin, plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(capsys, "share", str(plan))[-2:] == [
        "Who joins gets plan.txt for reading, and its later versions, and nothing else of its folder.",
        "A relay has it: it can be fetched while this device is off.",
    ]
    twin.stored = False
    assert typed(capsys, "share", str(plan), "--version")[-2:] == [
        "Who joins gets plan.txt for reading, this version of it only, and nothing else of its folder.",
        "No relay has it: it can be fetched while this device is on.",
    ]
    asked = [request for name, request in twin.calls if isinstance(request, api.ShareRequest)]
    assert [request.this_version for request in asked] == [False, True]
    assert {request.path for request in asked} == {str(plan)}


def test_join_says_where_the_file_is_and_escapes_its_name(
    twin: FileTwin, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (said,) = typed(capsys, "join", TICKET, str(tmp_path / "new.txt"))
    assert said.startswith("Got p\\x0alan from 'desk' through the relay: 2.0 KiB -> ") and said.endswith("/new.txt")


def test_join_never_takes_the_place_of_a_file(twin: FileTwin, plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = " ".join(typed(capsys, "join", TICKET, str(plan), code=2))
    assert "is a file; name a directory, or for one file a name that is free" in said


def test_status_shows_them_apart_from_folders(twin: FileTwin, capsys: pytest.CaptureFixture[str]) -> None:
    twin.files = (
        SharedFile(id="a", name="plan.txt", path="/d/plan.txt", given=True, state="invited", bytes=2048, relayed=True),
        SharedFile(id="b", name="map", path="/h/map", given=False, state="up to date", device="desk", stored=True),
    )
    lines = typed(capsys, "status")
    at = next(number for number, line in enumerate(lines) if line.startswith("SHARED FILE"))
    assert lines[at].split("  ")[0] == "SHARED FILE"
    assert lines[at + 1].split() == ["plan.txt", "2.0", "KiB", "invited", "nobody", "yet", "not", "yet", "/d/plan.txt"]
    assert lines[at + 2].split() == ["map", "0", "B", "up", "to", "date", "from", "desk", "-", "/h/map"]
