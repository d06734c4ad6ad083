"""`conflicts`, `resolve` and `why`: what happened to a file, and what is to become of it."""

from __future__ import annotations

import click

from meshsync.cli.client import Answer
from meshsync.cli.escape import printable
from meshsync.cli.render import count, size, table
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


@click.command("resolve")
@click.argument("path")
@click.option(
    "--keep",
    type=click.Choice(["mine", "theirs", "both", "merged"]),
    required=True,
    help="mine: what lies at the path; theirs: the copy; both, under plain names; merged: both texts in one.",
)
@click.option(
    "--to", default="", metavar="FILE", help="With merged: only write it there, with markers where it clashes."
)
@common
def resolve_command(session: Session, path: str, keep: str, to: str) -> None:
    """End a conflict of a file; it can be undone. Example: meshsync resolve ~/Docs/plan.txt --keep mine"""
    body = {"path": file_path(path), "keep": keep, "to": file_path(to) if to else ""}
    session.emit(session.run_job("/resolutions", "Resolving", **body), _resolved)


@click.command("why")
@click.argument("path")
@common
def why_command(session: Session, path: str) -> None:
    """Explain who changed a file and what it waits for. Example: meshsync why ~/Docs/plan.txt"""
    session.emit(session.client.get("/why", path=file_path(path)), _explain)


def _show(answer: Answer) -> None:
    rows: list[tuple[str, ...]] = []
    for found in answer["conflicts"]:
        path = _below(found, found["path"])
        rows.append((path, "here", *_written(found)) if found["device"] else (path, "nothing", "-", "-", "-"))
        rows += [(_below(found, copy["path"]), "copy", *_written(copy)) for copy in found["copies"]]
    if not rows:
        say("No conflicts.")
        return
    table(("PATH", "IS", "DEVICE", "TIME", "SIZE"), rows)
    say("Next: meshsync resolve PATH --keep mine|theirs|both|merged")


def _written(version: Answer) -> tuple[str, str, str]:
    return (version["device"], local(version["time"]), size(version["size"]))


def _below(conflict: Answer, path: str) -> str:
    return home_relative(f"{conflict['root']}/{path}") if conflict["root"] else path


def _resolved(answer: Answer) -> None:
    if answer["clashes"]:
        places = f"both changed the same lines at {count(answer['clashes'])} places"
        say(f"Wrote {home_relative(answer['now'][0])}; {places}.")
    else:
        for path in answer["now"]:
            say(f"{home_relative(path)} is there.")
    if answer["kept_in"]:
        say(f"What lost is kept in {home_relative(answer['kept_in'])}")
    for command in answer["undo"]:
        say(f"Undo: {printable(command)}")


def _explain(why: Answer) -> None:
    say(f"{home_relative(why['path'])}: {printable(why['state'])}")
    if why["explanation"]:
        say(f"  {printable(why['explanation'])}")
    based_on = ", ".join(why["based_on"])
    labels = (("version", why["version"]), ("device", why["device"]), ("based on", based_on))
    for label, value in (*labels, ("waits for", why["waits_for"]), ("next", why["next"])):
        if value:
            say(f"  {label}: {printable(value)}")
