"""What every command gets: the home it works on, the client, and how it prints.

Invariant: with `--json` stdout holds exactly the agent's answer and nothing else.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from meshsync.agent.home import Home, find_home
from meshsync.cli.client import Answer, Client
from meshsync.cli.escape import printable

Command = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Session:
    """One invocation of a command."""

    home: Home
    as_json: bool

    @property
    def client(self) -> Client:
        return Client(self.home)

    def emit(self, answer: Answer, human: Callable[[Answer], None]) -> None:
        """Print `answer`: as one line of JSON, or through `human`."""
        if self.as_json:
            click.echo(json.dumps(answer))
        else:
            human(answer)

    def run_job(self, path: str, title: str, /, **body: object) -> Answer:
        """Run a job to its end and return its result, with a progress bar on a terminal if it takes long."""
        if self.as_json or not sys.stderr.isatty():
            return self.client.job(path, None, **body)
        from meshsync.cli.progress import ProgressBar

        with ProgressBar(title) as bar:
            return self.client.job(path, bar.update, **body)


def say(text: str) -> None:
    """Print a line of our own words. Parts from outside must have gone through `printable`."""
    click.echo(text)


def common(function: Command) -> Command:
    """Give a command `--home` and `--json`, and call it with a `Session` first."""

    @click.option("--home", default="", metavar="DIR", help="State directory of the agent (MESHSYNC_HOME).")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON, schema 1.")
    @functools.wraps(function)
    def command(*, home: str, as_json: bool, **arguments: Any) -> Any:
        outer = click.get_current_context().find_root().params.get("home") or ""
        return function(Session(find_home(home or outer), as_json), **arguments)

    return command


def folder_path(text: str) -> str:
    """Return a path of a folder as the agent names it: absolute, links resolved."""
    return str(_expanded(text).resolve())


def file_path(text: str) -> str:
    """Return a path in a folder as the agent names it: absolute, links above it resolved, the last name as it is."""
    path = _expanded(text).absolute()
    return str(path.parent.resolve() / path.name) if path.name not in ("", "..") else str(path.resolve())


def folder_argument(text: str) -> str:
    """Return what the agent takes as a folder: a path if `text` looks like one or is one, else the name or id as is."""
    if not text or ("/" not in text and text not in (".", "..") and not _is_directory(text)):
        return text
    return folder_path(text)


def _expanded(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # `~name` of nobody here is a name like any other
        return Path(text)


def _is_directory(text: str) -> bool:
    try:
        return Path(text).is_dir()
    except OSError:  # no name that a file system holds
        return False


def home_relative(path: str) -> str:
    """Return `path` for display: `~` for the user's home, unsafe characters escaped."""
    home = str(Path.home())
    if path == home or path.startswith(home + "/"):
        path = "~" + path[len(home) :]
    return printable(path)
