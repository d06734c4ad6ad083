"""`open`: the local web page."""

from __future__ import annotations

import html
import os
import sys
import webbrowser

import click

from meshsync.cli.client import Answer
from meshsync.cli.session import Session, common, say


@click.command("open")
@click.option("--print", "only_print", is_flag=True, help="Only print the address; start no browser.")
@common
def open_command(session: Session, only_print: bool) -> None:
    """Open the local web page. Example: meshsync open"""
    answer = session.client.post("/page")
    if not session.as_json and not only_print and _has_screen() and _browse(session, answer["url"]):
        say("The page is in your browser.")
        return
    session.emit(answer, _show)


def _show(answer: Answer) -> None:
    say(answer["url"])
    say(f"Opens the page once, within {answer['expires_s']:.0f} s, in a browser on this machine.")


def _has_screen() -> bool:
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def _browse(session: Session, url: str) -> bool:
    """Start a browser; return whether that worked.

    The address goes through a file that only this user can read: in a command line every user of the machine sees it.
    """
    path = session.home.path / "open.html"
    path.unlink(missing_ok=True)
    target = html.escape(url, quote=True)
    lines = f'<!doctype html>\n<meta http-equiv="refresh" content="0; url={target}">\n<a href="{target}">meshsync</a>\n'
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(lines)
    return webbrowser.open(path.as_uri())
