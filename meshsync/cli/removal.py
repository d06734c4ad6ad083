"""`remove`, `unshare` and `adopt`: taking a folder back from a device, and what such a device wrote last."""

from __future__ import annotations

import click

from meshsync.cli.client import Answer
from meshsync.cli.escape import printable
from meshsync.cli.member import waiting_relays
from meshsync.cli.render import count, size
from meshsync.cli.session import Command, Session, common, folder_argument, home_relative, say


def _decided(function: Command) -> Command:
    function = click.option("--yes", is_flag=True, help="Do not ask.")(function)
    return click.option("--dry-run", is_flag=True, help="Say what it means, and change nothing.")(function)


@click.command("remove")
@click.argument("folder")
@click.argument("who", metavar="DEVICE|PERSON")
@_decided
@common
def remove_command(session: Session, folder: str, who: str, dry_run: bool, yes: bool) -> None:
    """Remove a device, or all devices of a person, and change the key. Example: meshsync remove Docs phone"""
    _end(session, "/removals", dry_run=dry_run, yes=yes, folder=folder_argument(folder), who=who)


@click.command("unshare")
@click.argument("folder")
@_decided
@common
def unshare_command(session: Session, folder: str, dry_run: bool, yes: bool) -> None:
    """End sharing with everybody else; the folder stays here. Example: meshsync unshare Docs"""
    _end(session, "/unshares", dry_run=dry_run, yes=yes, folder=folder_argument(folder))


@click.command("adopt")
@click.argument("folder")
@click.argument("device")
@_decided
@click.option("--dismiss", is_flag=True, help="Only stop to list it.")
@common
def adopt_command(session: Session, folder: str, device: str, *, dry_run: bool, yes: bool, dismiss: bool) -> None:
    """Take over what a removed device wrote last. Example: meshsync adopt Docs phone"""
    body = {"folder": folder_argument(folder), "device": device}
    if not dry_run and not yes:
        planned = session.run_job("/adoptions", "Looking", dry_run=True, **body)
        files = f"{count(len(planned['files']))} files of {printable(planned['name'])}"
        click.confirm(f"{'Stop to list' if dismiss else 'Take over'} {files}", abort=True, err=True)
    answer = session.run_job("/adoptions", "Fetching", dry_run=dry_run, dismiss=dismiss, **body)
    session.emit(answer, _adopted)


def _end(session: Session, route: str, *, dry_run: bool, yes: bool, **body: str) -> None:
    if not dry_run and not yes:
        planned = session.client.post(route, dry_run=True, **body)
        _exposed(planned, err=True)
        names = ", ".join(printable(member["name"]) for member in planned["removed"]) or "nobody else"
        click.confirm(f"Remove {names}", abort=True, err=True)
    session.emit(session.client.post(route, dry_run=dry_run, **body), _removed)


def _removed(answer: Answer) -> None:
    for member in answer["removed"]:
        person = f" of {printable(member['person'])}" if member["person"] else ""
        would = "Would remove" if answer["dry_run"] else "Removed"
        say(f"{would} {printable(member['name'])}{person} ({member['id'][:10]}), {member['role']}.")
    if not answer["removed"]:
        say("Nobody else shares it.")
        return
    if answer["dry_run"]:
        _exposed(answer, err=False)
    else:
        say("It keeps what it has; nothing that is written from now on can be read there.")
    if answer["closed_invitations"]:
        say(f"Open invitations that end with it: {count(answer['closed_invitations'])}. Make new ones: meshsync share")
    waiting_relays(answer)


def _exposed(answer: Answer, *, err: bool) -> None:
    seen = answer["exposure"]
    what = f"{count(seen['versions'])} versions with {count(seen['contents'])} contents, {size(seen['bytes'])}"
    click.echo(f"It could fetch {what} so far (all of them with --dry-run --json).", err=err)


def _adopted(answer: Answer) -> None:
    if answer["path"]:
        say(f"{count(len(answer['files']))} files are in {home_relative(answer['path'])}")
    elif answer["dry_run"]:
        for path in answer["files"]:
            say(printable(path))
    else:
        say("Listed no more." if not answer["missing"] else "Nothing could be fetched.")
    for path in answer["missing"]:
        say(f"{printable(path)}: nobody reachable has its content; try again when that device's last contact is online")
