"""`members`, `role` and `leave`: who shares a folder."""

from __future__ import annotations

import click

from meshsync.cli.client import Answer
from meshsync.cli.device import ID_DIGITS_SHOWN
from meshsync.cli.escape import printable
from meshsync.cli.render import table
from meshsync.cli.session import Session, common, folder_argument, say
from meshsync.cli.when import ago

ROLES = ("owner", "writer", "reader", "backup")
FINGERPRINT_DIGITS_SHOWN = 24  # of 79, spaces included; all of it with --json


@click.command("members")
@click.argument("folder")
@click.option("--verify", "device", default="", metavar="DEVICE", help="Show the number to compare with a member.")
@common
def members_command(session: Session, folder: str, device: str) -> None:
    """List the members of a folder. Example: meshsync members Docs --verify phone"""
    if device:
        found = session.client.get("/safety-number", folder=folder_argument(folder), device=device)
        session.emit(found, _show_number)
        return
    session.emit(session.client.get("/members", folder=folder_argument(folder)), _show)


@click.command("role")
@click.argument("folder")
@click.argument("device")
@click.argument("role", type=click.Choice(ROLES))
@common
def role_command(session: Session, folder: str, device: str, role: str) -> None:
    """Give a member another role. Example: meshsync role Docs phone reader"""
    answer = session.client.post("/roles", folder=folder_argument(folder), device=device, role=role)
    session.emit(answer, _show_role)


@click.command("leave")
@click.argument("folder")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
def leave_command(session: Session, folder: str, yes: bool) -> None:
    """Stop syncing a folder, tell its members and forget its keys; files stay. Example: meshsync leave Docs"""
    if not yes:
        kept = folder_argument(folder) in [one["name"] for one in session.client.get("/status")["backups"]]
        question = f"Stop syncing {printable(folder)} on this device? Its files stay"
        if kept:
            question = f"Remove all that this device keeps of {printable(folder)} for others?"
        click.confirm(question, abort=True, err=True)
    answer = session.client.post("/leaves", folder=folder_argument(folder))
    session.emit(answer, lambda left: _left(folder, left))


def waiting_relays(answer: Answer) -> None:
    """Say which relays do not know yet, and what that means."""
    for address in answer["relays_waiting"]:
        say(f"The relay {printable(address)} cannot be reached: it learns of this when it can. See: meshsync status")


def _left(folder: str, answer: Answer) -> None:
    if answer.get("was_backup"):
        left = answer.get("left")
        what = (
            f"What was kept of it was not there, and stays in {printable(left)}" if left else "What was kept is removed"
        )
        say(f"Left {printable(folder)}. {what}.")
        if not answer["told"]:
            say("Its members still count on this device. Ask an owner to run: meshsync remove FOLDER DEVICE")
        return
    say(f"Left {printable(folder)}. Its files are still here.")
    if not answer.get("told", True):
        say("No other member could be told. Ask an owner to run: meshsync remove FOLDER DEVICE")


def _show_role(answer: Answer) -> None:
    member = answer["member"]
    say(f"{printable(member['name'])} is {member['role']} now, and was {answer['before']}.")
    waiting_relays(answer)


def _show(answer: Answer) -> None:
    rows = [_row(member) for member in answer["members"]]
    table(("MEMBER", "PERSON", "ID", "ROLE", "SINCE", "SEEN", "FINGERPRINT"), rows)
    for gone in answer["former"]:
        how = "left by itself" if gone["left"] else f"was removed by {printable(gone['by'])}"
        say(f"{printable(gone['name'])} ({gone['id'][:ID_DIGITS_SHOWN]}) {how}, {ago(gone['when'])}.")


def _row(member: Answer) -> tuple[str, ...]:
    name = member["name"] + (" (this device)" if member["self"] else "")
    name += " (kept off-line)" if member["kept_offline"] else ""
    times = (ago(member["since"]) if member["since"] else "-", ago(member["seen"]))
    fingerprint = member["fingerprint"][:FINGERPRINT_DIGITS_SHOWN].strip() or "-"
    return (name, member["person"] or "-", member["id"][:ID_DIGITS_SHOWN], member["role"], *times, fingerprint)


def _show_number(answer: Answer) -> None:
    groups = answer["number"].split()
    for at in range(0, len(groups), 4):
        say("  " + " ".join(groups[at : at + 4]))
    name = printable(answer["name"])
    say(f"Read it to whoever uses {name}; there it is shown by: meshsync members FOLDER --verify THIS_DEVICE")
    say(f"If both see the same number, nobody is between you and {name}.")
