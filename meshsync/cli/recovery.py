"""`recovery` and `recover`: the sheet that brings everything back, and bringing it back."""

from __future__ import annotations

import html
import io
import os
import sys
from dataclasses import replace
from pathlib import Path

import click

from meshsync.agent import config as stored
from meshsync.cli import launch
from meshsync.cli.client import Answer
from meshsync.cli.escape import printable
from meshsync.cli.render import count, size, table
from meshsync.cli.session import Session, common, folder_path, home_relative, say
from meshsync.cli.when import ago
from meshsync.content.recovery_sheet import parse_sheet
from meshsync.errors import ConfigError
from meshsync.limits import SHEET_CHARS_MAX, SHEET_WORDS
from meshsync.wire.relay_address import parse_relay_address

_COLUMNS = 4
_STATES = {
    "ready": "brought back by the sheet",
    "waiting": "not yet: no relay has heard of the sheet",
    "no relay": "no: no relay stores this folder (meshsync up --relay URL)",
    "not an owner": "no: this device does not own it",
    "removed": "no: an owner removed the sheet (meshsync recovery sheet --new)",
    "no sheet": "no sheet was made (meshsync recovery sheet)",
}


@click.command("recovery")
@click.argument("action", type=click.Choice(["sheet", "status"]))
@click.option("--new", is_flag=True, help="A sheet in the place of the one that there is, which ends.")
@click.option("--page", type=click.Path(dir_okay=False), default="", metavar="FILE.html", help="Write it to print.")
@common
def recovery_command(session: Session, *, action: str, new: bool, page: str) -> None:
    """Make the recovery sheet, or say which folders it brings back. Example: meshsync recovery sheet"""
    if action == "status":
        if new or page:
            raise click.UsageError("--new and --page go with: meshsync recovery sheet")
        session.emit(session.client.get("/recovery"), _show_status)
        return
    launch.ensure_running(session.home)
    if page:
        _write(page, "")  # the words are told once: a page that cannot be written is noticed before
    sheet = session.client.post("/recovery-sheets", new=new)
    if page:
        _write(page, _page(sheet))
    session.emit(sheet, lambda made: _show_sheet(made, page))


@click.command("recover")
@click.argument("words", nargs=-1)
@click.option("--relay", required=True, metavar="URL", help="The relay that is written on the sheet.")
@click.option("--to", "path", default="~", show_default=True, metavar="DIR", help="Where the folders are put.")
@common
def recover_command(session: Session, *, words: tuple[str, ...], relay: str, path: str) -> None:
    """Bring all folders back with a recovery sheet, on a new machine; without WORDS it asks for them.

    Example: meshsync recover --relay quic://HOST:4433#TOKEN
    """
    typed, path = _words_and_path(words, path)
    parse_sheet(typed)  # mistyped words are told before anything is started or sent
    if parse_relay_address(relay).device is None:
        raise ConfigError(
            "the relay's address lacks its key",
            next_step="Copy the whole line from the sheet: quic://HOST:PORT#…",
        )
    session.home.create()
    if not launch.is_running(session.home):
        config = stored.load(session.home.config)
        if relay not in config.relays:
            stored.save(session.home.config, replace(config, relays=(*config.relays, relay)))
    launch.ensure_running(session.home)
    body = {"words": typed, "relay": relay, "path": folder_path(path)}
    session.emit(session.run_job("/recoveries", "Recovering", **body), _show_recovered)


def _words_and_path(typed: tuple[str, ...], path: str) -> tuple[str, str]:
    """Return the words as one text, asked for if there are none, and the path, which may follow them."""
    one = typed[0].split() if typed else []
    given, rest = (one, typed[1:]) if len(one) > 1 else (list(typed[:SHEET_WORDS]), typed[SHEET_WORDS:])
    if len(rest) > 1:
        raise click.UsageError(f"{SHEET_WORDS} words and one path, not also {printable(rest[1])}")
    if not given:
        given = _ask().split()
    return " ".join(given), rest[0] if rest else path


def _ask() -> str:
    """Read the words from the terminal, or from a pipe: there they stand in no list of processes."""
    if sys.stdin.isatty():
        return str(click.prompt(f"The {SHEET_WORDS} words of the sheet", err=True))
    return sys.stdin.read(SHEET_CHARS_MAX)


def _show_sheet(sheet: Answer, page: str) -> None:
    say("Write these words down, on paper. They are shown this once and are kept nowhere.\n")
    for line in _lines(sheet["words"]):
        say(f"  {line}")
    say("")
    if not sheet["relays"]:
        say("No relay is known yet: without one the sheet brings nothing back. Next: meshsync up --relay URL")
    for relay in sheet["relays"]:
        say(f"Beside them write the relay:  {printable(relay)}")
    if page:
        say(f"A page to print: {printable(page)}. Remove it afterwards: who has it has everything.")
    say("With both, on any machine:    meshsync recover --relay URL")
    _show_folders(sheet["folders"])


def _show_status(status: Answer) -> None:
    if status["made"] is None:
        say("No recovery sheet. Next: meshsync recovery sheet")
    else:
        say(f"Recovery sheet made {ago(status['made'])}. Its key: {printable(status['fingerprint'])}")
    _show_folders(status["folders"])


def _show_folders(folders: list[Answer]) -> None:
    if folders:
        table(("FOLDER", "RECOVERY"), [(folder["name"], _STATES[folder["state"]]) for folder in folders])


def _show_recovered(recovered: Answer) -> None:
    for folder in recovered["folders"]:
        files, path = f"{count(folder['files'])} files, {size(folder['bytes'])}", home_relative(folder["path"])
        say(f"{printable(folder['name'])}: {files} -> {path}")
        if folder["freshness_unverified"]:
            say("  freshness unverified: only the relay says that this is the newest state.")
    for name in recovered["already"]:
        say(f"{printable(name)} is here already.")
    for lost in recovered["failed"]:
        say(f"Folder {lost['id'][:10]} could not be brought back: {printable(lost['why'])}")
    if any(folder["freshness_unverified"] for folder in recovered["folders"]):
        say("If another device of yours still runs, start it: what the relay did not have comes from there.")
    if recovered["folders"]:
        say("Remove the devices that were lost: meshsync members FOLDER, then: meshsync remove FOLDER DEVICE")


def _lines(words: list[str]) -> list[str]:
    numbered = [f"{number:2} {word:10}" for number, word in enumerate(words, 1)]
    return ["".join(numbered[at : at + _COLUMNS]).rstrip() for at in range(0, len(numbered), _COLUMNS)]


def _page(sheet: Answer) -> str:
    """Return a page that needs nothing but itself to be printed."""
    import segno

    picture = io.BytesIO()
    segno.make(" ".join(sheet["words"])).save(picture, kind="svg", scale=3, border=4, xmldecl=False)
    words = html.escape("\n".join(_lines(sheet["words"])))
    relays = html.escape("\n".join(sheet["relays"])) or "(write the relay's address here)"
    return f"""<!doctype html>
<meta charset="utf-8">
<title>meshsync recovery sheet</title>
<style>
body {{ font: 12pt serif; max-width: 17cm; margin: 2cm auto }}
pre {{ font: 12pt monospace; white-space: pre-wrap; overflow-wrap: anywhere }}
</style>
<h1>Recovery sheet</h1>
<p>Whoever has this page has every folder that it is for. Keep it on paper, away from your devices.</p>
<pre>{words}</pre>
<p>The relay:</p>
<pre>{relays}</pre>
<p>To bring everything back on any machine: install meshsync, type
<code>meshsync recover --relay URL</code>, then the words.</p>
<p>The key of this sheet: {html.escape(sheet["fingerprint"])}</p>
{picture.getvalue().decode()}
"""


def _write(file: str, text: str) -> None:
    """Write a file that only this user can read."""
    try:
        Path(file).unlink(missing_ok=True)  # a file that was there may be open to others
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(text)
    except OSError as error:
        raise ConfigError("the page cannot be written", path=file, next_step="Name a file.html") from error
