"""`held`, `release` and `reject`: changes that a safeguard stopped."""

from __future__ import annotations

import click

from meshsync.cli.client import Answer
from meshsync.cli.escape import printable
from meshsync.cli.render import count, size, table
from meshsync.cli.session import Command, Session, common, folder_argument, home_relative, say
from meshsync.cli.when import local
from meshsync.errors import NotFound

APART_SHOWN = 5  # paths in quarantine


@click.command("held")
@click.argument("folder", default="")
@common
def held_command(session: Session, folder: str) -> None:
    """List the mass changes that wait for a decision. Example: meshsync held"""
    session.emit(session.client.get("/held", folder=folder_argument(folder)), _show)


def _decision(function: Command) -> Command:
    function = click.option("--yes", is_flag=True, help="Do not ask.")(function)
    function = click.option("--dry-run", is_flag=True, help="Say what would be decided, and do nothing.")(function)
    return click.argument("hold", metavar="ID")(function)


@click.command("release")
@_decision
@common
def release_command(session: Session, hold: str, dry_run: bool, yes: bool) -> None:
    """Let a held change pass, once. Example: meshsync release 3f9a01"""
    _decide(session, hold, "/releases", dry_run=dry_run, yes=yes)


@click.command("reject")
@_decision
@common
def reject_command(session: Session, hold: str, dry_run: bool, yes: bool) -> None:
    """Undo a held change: the files come back. Example: meshsync reject 3f9a01"""
    _decide(session, hold, "/rejections", dry_run=dry_run, yes=yes)


def _decide(session: Session, hold: str, route: str, *, dry_run: bool, yes: bool) -> None:
    if dry_run or not yes:
        found = [held for held in session.client.get("/held")["held"] if held["id"] == hold]
        if not found:
            raise NotFound(f"nothing is held under {hold}", next_step="meshsync held")
        if dry_run:
            session.emit({"schema": 1, "held": found}, _show)
            return
        click.confirm(_question(found[0], route), abort=True, err=True)
    session.emit(session.run_job(route, "Deciding", id=hold), _done)


def _question(held: Answer, route: str) -> str:
    files, folder = f"{count(held['count'])} of {count(held['total'])} files", printable(held["folder"])
    deleted = "deleted" if held["change"] == "deletion" else "changed"
    if route == "/releases":
        where = "on every other device" if held["side"] == "publish" else "here"
        return f"Have {files} of {folder} {deleted} {where}"
    where = "here" if held["side"] == "publish" else "on every other device"
    return f"Bring {files} of {folder} back {where}"


def _done(answer: Answer) -> None:
    what = "Released" if answer["decision"] == "released" else "Rejected"
    say(f"{what} {printable(answer['id'])}: {count(answer['count'])} files. Next: meshsync wait")
    if answer["kept_in"]:
        say(f"What was here instead is kept in {home_relative(answer['kept_in'])}")
    for path in answer["lost"]:
        say(f"Not brought back, for nobody who can be reached has it: {printable(path)}")
    if answer["lost"]:
        say(f"Start meshsync on a device that may have it, or give it up: meshsync release {printable(answer['id'])}")


def _show(answer: Answer) -> None:
    for apart in answer.get("quarantined", []):
        _show_apart(apart)
    if not answer["held"]:
        if not answer.get("quarantined"):
            say("Nothing is held.")
        return
    header = ("ID", "FOLDER", "HELD", "FILES", "DEVICE", "SINCE", "WHY")
    table(header, [_row(held) for held in answer["held"]])
    for held in answer["held"]:
        if held["examples"]:
            paths = ", ".join(printable(path) for path in held["examples"])
            more = ", …" if held["count"] > len(held["examples"]) else ""
            say(f"{printable(held['id'])}: {paths}{more}")
        if held["passed"]:
            say(f"{printable(held['id'])}: {count(held['passed'])} more went before (meshsync versions --deleted)")
    say("Next: meshsync release ID, or meshsync reject ID to bring the files back.")


def _show_apart(apart: Answer) -> None:
    folder, name = printable(apart["folder"]), printable(apart["name"])
    sizes = size(sum(file["size"] for file in apart["files"]))
    say(f"{folder}: {count(apart['entries'])} changes of {name} came after its end and change nothing.")
    if apart["files"]:
        paths = ", ".join(printable(file["path"]) for file in apart["files"][:APART_SHOWN])
        more = ", …" if len(apart["files"]) > APART_SHOWN else ""
        say(f"  {count(len(apart['files']))} files, {sizes}: {paths}{more}")
    say(f"  Next: meshsync adopt {folder} {name}, or the same with --dismiss.")


def _row(held: Answer) -> tuple[str, ...]:
    files = f"{count(held['count'])} of {count(held['total'])}"
    what = f"{held['change']}, {'not told to others' if held['side'] == 'publish' else 'not done here'}"
    return (held["id"], held["folder"], what, files, held["device"] or "-", local(held["since"]), held["why"])
