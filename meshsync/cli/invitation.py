"""`invitations` and `revoke`: tickets that were given away, and taking them back."""

from __future__ import annotations

from pathlib import Path

import click

from meshsync.cli.client import Answer
from meshsync.cli.device import ID_DIGITS_SHOWN
from meshsync.cli.escape import printable
from meshsync.cli.render import table
from meshsync.cli.session import Session, common, folder_argument, say


@click.command("invitations")
@click.argument("folder", default="")
@common
def invitations_command(session: Session, folder: str) -> None:
    """List the invitations that are open. Example: meshsync invitations Docs"""
    session.emit(session.client.get("/invitations", folder=folder_argument(folder)), _show)


@click.command("revoke")
@click.argument("folder")
@click.argument("id", default="")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
def revoke_command(session: Session, *, folder: str, id: str, yes: bool) -> None:
    """Take back an invitation, all of a folder, or one file that was shared. Example: meshsync revoke Docs 3f9a01"""
    if not yes:
        which = f"invitation {printable(id)}" if id else "every open invitation"
        ends = ", and end it for who has the file" if Path(folder).is_file() else ""
        click.confirm(f"Take back {which} to {printable(folder)}{ends}?", abort=True, err=True)
    answer = session.client.post("/revocations", folder=folder_argument(folder), id=id)
    session.emit(answer, lambda done: say(f"Taken back: {len(done['revoked'])}. Their tickets and codes admit nobody."))


def _show(answer: Answer) -> None:
    rows = [
        (each["id"][:ID_DIGITS_SHOWN], each["folder"], each["role"], each["expires"][:16] + "Z", each["code"])
        for each in answer["invitations"]
    ]
    if not rows:
        say("No invitation is open.")
        return
    table(("ID", "FOLDER", "ROLE", "EXPIRES", "CODE"), rows)
