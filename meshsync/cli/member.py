"""`members` and `leave`: who shares a folder."""

from __future__ import annotations

import click

from meshsync.cli.client import Answer
from meshsync.cli.device import ID_DIGITS_SHOWN
from meshsync.cli.escape import printable
from meshsync.cli.render import table
from meshsync.cli.session import Session, common, folder_argument, say


@click.command("members")
@click.argument("folder")
@common
def members_command(session: Session, folder: str) -> None:
    """List the members of a folder. Example: meshsync members Docs"""
    session.emit(session.client.get("/members", folder=folder_argument(folder)), _show)


@click.command("leave")
@click.argument("folder")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
def leave_command(session: Session, folder: str, yes: bool) -> None:
    """Stop syncing a folder and forget its keys; files stay. Example: meshsync leave Docs"""
    if not yes:
        click.confirm(f"Stop syncing {printable(folder)} on this device? Its files stay", abort=True, err=True)
    answer = session.client.post("/leaves", folder=folder_argument(folder))
    session.emit(answer, lambda _: say(f"Left {printable(folder)}. Its files are still here."))


def _show(answer: Answer) -> None:
    rows = [
        (member["name"] + (" (this device)" if member["self"] else ""), member["id"][:ID_DIGITS_SHOWN], member["role"])
        for member in answer["members"]
    ]
    table(("MEMBER", "ID", "ROLE"), rows)
