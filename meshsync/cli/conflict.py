"""`conflicts` and `why`: what happened to a file."""

from __future__ import annotations

import click

from meshsync.cli.client import Answer
from meshsync.cli.escape import printable
from meshsync.cli.render import size, table
from meshsync.cli.session import Session, common, file_path, folder_argument, home_relative, say
from meshsync.cli.when import local

EXIT_CONFLICTS = 6


@click.command("conflicts")
@click.argument("folder", default="")
@common
def conflicts_command(session: Session, folder: str) -> None:
    """List the files in conflict; exit 6 if there are any. Example: meshsync conflicts"""
    answer = session.client.get("/conflicts", folder=folder_argument(folder))
    session.emit(answer, _show)
    if answer["conflicts"]:
        click.get_current_context().exit(EXIT_CONFLICTS)


@click.command("why")
@click.argument("path")
@common
def why_command(session: Session, path: str) -> None:
    """Explain who changed a file and what it waits for. Example: meshsync why ~/Docs/plan.txt"""
    session.emit(session.client.get("/why", path=file_path(path)), _explain)


def _show(answer: Answer) -> None:
    rows = [
        (conflict["path"], copy["path"], copy["device"], local(copy["time"]), size(copy["size"]))
        for conflict in answer["conflicts"]
        for copy in conflict["copies"]
    ]
    if rows:
        table(("PATH", "COPY", "DEVICE", "TIME", "SIZE"), rows)
    else:
        say("No conflicts.")


def _explain(why: Answer) -> None:
    say(f"{home_relative(why['path'])}: {printable(why['state'])}")
    based_on = ", ".join(why["based_on"])
    labels = (("version", why["version"]), ("device", why["device"]), ("based on", based_on))
    for label, value in (*labels, ("waits for", why["waits_for"]), ("next", why["next"])):
        if value:
            say(f"  {label}: {printable(value)}")
