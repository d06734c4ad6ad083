"""The documents say what the commands do."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from meshsync.cli.main import COMMANDS, cli

ROOT = Path(__file__).parents[2]
WORDS_BEFORE_FIRST_SYNC_MAX = 150


def test_the_first_synced_file_comes_within_150_words_of_readme() -> None:
    before, found, _ = (ROOT / "README.md").read_text().partition("Paired with")
    assert found and len(before.split()) <= WORDS_BEFORE_FIRST_SYNC_MAX


def test_the_readme_has_the_two_commands_of_the_set_up() -> None:
    text = (ROOT / "README.md").read_text()
    assert "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/meshsync demo" in text
    assert ".venv/bin/pip install -e '.[test]' && .venv/bin/pytest -q" in text


def documented() -> dict[str, str]:
    """Return each command of docs/cli.md with the text of its row."""
    rows = [line for line in (ROOT / "docs/cli.md").read_text().splitlines() if line.startswith("| `")]
    return {name: row for row in rows for name in re.findall(r"`(\w+)", row.rpartition(" | ")[0])}


def test_every_command_is_documented_and_exists() -> None:
    assert documented().keys() == COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_documented_option_exists(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    options = {text for parameter in command.params for text in parameter.opts}
    usage = next(part for part in re.findall(r"`([^`]+)`", documented()[name]) if part.split()[0] == name)
    assert set(re.findall(r"--[\w-]+", usage)) <= options


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/quick-start.md",
        "docs/testing.md",
        "docs/cli.md",
        "docs/guide/conflicts.md",
        "docs/guide/sharing.md",
        "docs/guide/recovery.md",
    ],
)
def test_commands_and_links_in_the_documents_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    used = set(re.findall(r"(?:^|[/$`\s])meshsync ([a-z]+)(?=[\s`])", text, re.MULTILINE))
    assert used <= {*COMMANDS, "is", "agents", "and", "talks"}, used - COMMANDS.keys()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert ((ROOT / page).parent / target).exists(), target
