"""`undo`: one command against a disaster."""

from __future__ import annotations

import click

from meshsync.cli.client import Answer
from meshsync.cli.escape import printable
from meshsync.cli.history import show_removed
from meshsync.cli.render import count, size
from meshsync.cli.session import Session, common, folder_argument, say
from meshsync.cli.when import local, moment


@click.command("undo")
@click.argument("folder", default="")
@click.option("--since", required=True, metavar="TIME", help="What came after it: '2 hours ago', '2026-01-31 12:00'.")
@click.option("--device", default="", metavar="NAME", help="Only what this device, or this person's devices, did.")
@click.option("--dry-run", is_flag=True, help="Say what would be undone, and do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
def undo_command(session: Session, folder: str, since: str, device: str, dry_run: bool, yes: bool) -> None:
    """Undo what a device did, and keep all else. Example: meshsync undo --device desk --since '2 hours ago'

    What is replaced or removed is set aside first, and stays in the history.
    """
    body = {"folder": folder_argument(folder), "since": moment(since), "device": device}
    if dry_run or not yes:
        would = session.run_job("/undo", "Comparing", **body, dry_run=True)
        if dry_run:
            session.emit(would, _show_preview)
            return
        click.confirm(_question(would, device, body["since"]), abort=True, err=True)
    done = session.run_job("/undo", "Undoing", **body, dry_run=False)
    session.emit(done, _show_done)
    if any(one["failed"] for one in done["folders"]):
        click.get_current_context().exit(1)


def _question(would: Answer, device: str, since: str) -> str:
    restored = sum(one["restored"] for one in would["folders"])
    removed = sum(one["removals"] for one in would["folders"])
    whose = printable(device) or "everybody"
    return f"Bring back {count(restored)} and remove {count(removed)} paths: all that {whose} did after {local(since)}"


def _show_preview(would: Answer) -> None:
    for one in would["folders"]:
        name = printable(one["name"])
        for path in one["changed"]:
            say(f"would bring back {printable(path)}")
        if one["restored"] > len(one["changed"]):
            say(f"... and {count(one['restored'] - len(one['changed']))} more")
        show_removed(one)
        _show_built_on(one)
        say(f"{name}: {count(one['restored'])} paths would be brought back, {count(one['removals'])} removed.")


def _show_done(done: Answer) -> None:
    for one in done["folders"]:
        restored = f"{count(one['restored'])} paths brought back ({size(one['size'])})"
        say(f"{printable(one['name'])}: {restored}, {count(one['removals'])} removed.")
        for item in one["skipped"]:
            say(f"left as it is: {printable(item['path'])}: {printable(item['why'])}")
        _show_built_on(one)


def _show_built_on(one: Answer) -> None:
    for item in one["built_on"]:
        say(f"look at {printable(item['path'])}: {printable(item['why'])}")
