"""Paths as people type them: whatever it is, it is a path or a name, and the agent says what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshsync.cli.history import split_version
from meshsync.cli.session import file_path, folder_argument, folder_path

TOO_LONG = "n" * 300


@pytest.mark.parametrize("text", [TOO_LONG, f"/{TOO_LONG}", "~nobody-of-that-name/f", "~nobody-of-that-name"])
def test_what_no_file_system_holds_is_no_error_here(text: str) -> None:
    assert split_version(f"{text}@2") == (text, "2")
    assert Path(file_path(text)).is_absolute() and Path(folder_path(text)).is_absolute()
    assert folder_argument(TOO_LONG) == TOO_LONG


def test_a_file_whose_name_holds_a_number_is_meant_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "f@2").touch()
    assert split_version(str(tmp_path / "f@2")) == (str(tmp_path / "f@2"), "")
    assert split_version(str(tmp_path / "f@3")) == (str(tmp_path / "f"), "3")
