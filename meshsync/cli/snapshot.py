"""`snapshot`, `snapshots`, `ls`: names for a folder as it was, and a look into it."""

from __future__ import annotations

import click

from meshsync.cli.client import Answer
from meshsync.cli.escape import printable
from meshsync.cli.render import count, size, table
from meshsync.cli.session import Session, common, file_path, folder_argument, say
from meshsync.cli.when import local, moment, point


@click.command("snapshot")
@click.argument("name")
@click.argument("folder", default="")
@click.option("--remove", is_flag=True, help="Forget the name; what it named stays in the history.")
@common
def snapshot_command(session: Session, name: str, folder: str, remove: bool) -> None:
    """Give every folder, or one, as it is now a name. Example: meshsync snapshot before-the-move"""
    if _is_time(name):
        raise click.BadParameter("it reads as a time; choose another name", param_hint="NAME")
    body = {"name": name, "folder": folder_argument(folder), "remove": remove}
    session.emit(
        session.run_job("/snapshots", "Looking at every file", **body), _show_removed if remove else _show_taken
    )


@click.command("snapshots")
@click.argument("folder", default="")
@common
def snapshots_command(session: Session, folder: str) -> None:
    """List the snapshots. Example: meshsync snapshots Docs"""
    session.emit(session.client.get("/snapshots", folder=folder_argument(folder)), _show)


@click.command("ls")
@click.argument("path")
@click.option("--at", default="", metavar="TIME|NAME", help="As it was then ('2 hours ago'), or in this snapshot.")
@common
def ls_command(session: Session, path: str, at: str) -> None:
    """List a directory as it is or was. Example: meshsync ls ~/Docs --at yesterday"""
    query = {"path": file_path(path), "at": point(at) if at else ""}
    answer = session.client.get("/directory", **query)
    entries = answer["entries"]
    while answer["more"]:
        answer = session.client.get("/directory", **query, after=answer["entries"][-1]["name"])
        entries += answer["entries"]
    session.emit(answer | {"entries": entries}, _show_directory)


def _is_time(text: str) -> bool:
    try:
        moment(text)
    except click.BadParameter:
        return False
    return True


def _show_taken(answer: Answer) -> None:
    for one in answer["snapshots"]:
        say(f"{printable(one['folder'])} as it is now is {printable(one['name'])}.")


def _show_removed(answer: Answer) -> None:
    say("Removed.")


def _show(answer: Answer) -> None:
    rows = [(one["name"], one["folder"], local(one["time"]), one["device"]) for one in answer["snapshots"]]
    table(("NAME", "FOLDER", "TIME", "DEVICE"), rows)
    if not rows:
        say("No snapshots. Take one: meshsync snapshot NAME")


def _show_directory(answer: Answer) -> None:
    marks = {"directory": "/", "link": "@", "file": ""}
    rows = [
        (size(one["size"]) if one["kind"] == "file" else "-", local(one["modified"]), one["name"] + marks[one["kind"]])
        for one in answer["entries"]
    ]
    table(("SIZE", "MODIFIED", "NAME"), rows)
    if not rows:
        say(f"{count(0)} entries.")
