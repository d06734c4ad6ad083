"""The demonstration: it passes with the real product, fails if anything does not hold, and leaves nothing behind."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import pytest

from meshsync.cli import demo_mesh
from meshsync.cli.demo_steps import STEPS, check
from meshsync.cli.main import run

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_every_step_holds_with_the_real_product(temporary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["demo", "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert [step for step in answer["steps"] if not step["ok"]] == []
    assert (code, answer["ok"], len(answer["steps"])) == (0, True, len(STEPS))
    assert list(temporary.iterdir()) == []


def test_a_step_that_fails_fails_the_demo(
    temporary: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_mesh, "_relay_program", lambda: [sys.executable, "-c", "raise SystemExit(1)"])
    assert run(["demo"]) == 1
    out = capsys.readouterr().out
    assert "FAILED: the relay did not start" in out and f"0 of {len(STEPS)} steps" in out
    assert list(temporary.iterdir()) == []


def test_keep_leaves_the_directory(
    temporary: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_mesh, "_relay_program", lambda: [sys.executable, "-c", "raise SystemExit(1)"])
    assert run(["demo", "--keep"]) == 1
    kept = next(temporary.iterdir())
    assert (kept / "relay.log").exists() and f"Kept: {kept}" in capsys.readouterr().out


def test_a_check_that_does_not_hold_says_so() -> None:
    with pytest.raises(demo_mesh.DemoFailed, match="two is not three"):
        check(2 == 3, "two is not three")
