"""`log`, `versions`, `find`, `cat` and `restore`: old versions."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from meshsync.cli.client import Answer
from meshsync.cli.escape import printable
from meshsync.cli.render import count, size, table
from meshsync.cli.session import Session, common, file_path, folder_argument, folder_path, home_relative, say
from meshsync.cli.when import local, point

_VERSION = re.compile(r"(?s)(.+)@(\d{1,9}|[0-9a-f]{10,120})")


def split_version(text: str) -> tuple[str, str]:
    """Return (path, version) of `PATH@VERSION`; version is empty if there is none.

    A file that exists under the whole text is meant as it stands.
    """
    found = _VERSION.fullmatch(text)
    if found is None or _is_there(Path(text)):
        return text, ""
    return found[1], found[2]


def _is_there(path: Path) -> bool:
    try:
        return path.is_symlink() or path.exists()
    except OSError:  # no name that a file system holds
        return False


@click.command("log")
@click.argument("path", default="")
@common
def log_command(session: Session, path: str) -> None:
    """List the versions of a file, or of everything. Example: meshsync log ~/Docs/plan.txt"""
    session.emit(session.client.get("/log", path=file_path(path) if path else ""), _show)


@click.command("versions")
@click.argument("folder", default="")
@click.option("--deleted", is_flag=True, help="Only files that are gone now.")
@common
def versions_command(session: Session, folder: str, deleted: bool) -> None:
    """List the versions of every file, deleted ones included. Example: meshsync versions Docs --deleted"""
    query = {"folder": folder_argument(folder), "deleted": "true" if deleted else ""}
    session.emit(session.client.get("/versions", **query), _show)


@click.command("find")
@click.argument("name")
@click.option("--folder", default="", metavar="FOLDER", help="Only in this folder.")
@click.option("--deleted", is_flag=True, help="Only files that are gone now.")
@common
def find_command(session: Session, name: str, folder: str, deleted: bool) -> None:
    """Find files by a name that they have or had. Example: meshsync find invoice --deleted

    NAME is part of a file's name, or a pattern such as '*.pdf'.
    """
    query = {"name": name, "folder": folder_argument(folder), "deleted": "true" if deleted else ""}
    session.emit(session.client.get("/find", **query), _show)


@click.command("cat")
@click.argument("path")
@click.option("--version", "version", default="", help="Number or id, if the path itself holds an @.")
@click.option("--at", default="", metavar="TIME|NAME", help="As it was then, or in this snapshot.")
@click.option("--home", default="", metavar="DIR", help="State directory of the agent (MESHSYNC_HOME).")
@click.pass_context
def cat_command(context: click.Context, path: str, version: str, at: str, home: str) -> None:
    """Print a version of a file. Example: meshsync cat ~/Docs/plan.txt@2"""
    from meshsync.agent.home import find_home

    name, given = (path, version) if version or at else split_version(path)
    session = Session(find_home(home or context.find_root().params.get("home") or ""), as_json=False)
    for piece in session.client.stream("/cat", path=file_path(name), version=given, at=point(at) if at else ""):
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


@click.command("restore")
@click.argument("path")
@click.option("--version", "version", default="", help="Number or id, if the path itself holds an @.")
@click.option("--at", default="", metavar="TIME|NAME", help="As it was then ('2 hours ago'), or in this snapshot.")
@click.option("--to", default="", metavar="DIR", help="Write into this directory instead of in place.")
@click.option("--exact", is_flag=True, help="With --at: remove what came since, too.")
@click.option("--dry-run", is_flag=True, help="Say what would be restored, and do nothing.")
@common
def restore_command(session: Session, path: str, version: str, at: str, to: str, exact: bool, dry_run: bool) -> None:
    """Bring back an old version, or a directory as it was. Example: meshsync restore ~/Docs --at '2 hours ago'

    What is there now is set aside first, and what came since stays, but for --exact.
    """
    if exact and (not at or to):
        raise click.UsageError("--exact goes with --at, and not with --to")
    name, given = (path, version) if version else split_version(path)
    body = {
        "path": file_path(name),
        "version": given,
        "to": folder_path(to) if to else "",
        "at": point(at) if at else "",
        "exact": exact,
        "dry_run": dry_run,
    }
    done = session.run_job("/restores", "Restoring", **body)
    session.emit(done, _show_preview if dry_run else _show_restored)
    if done["not_restored"]:
        click.get_current_context().exit(1)


def _show_restored(done: Answer) -> None:
    written = done["files"] - done["unchanged"] - done["not_restored"]
    what = f"{count(written)} of {count(done['files'])} paths in " if done["files"] != 1 else ""
    say(f"Restored {what}{home_relative(done['restored_to'])} ({size(done['size'])}).")
    if done["removals"]:
        say(f"Removed {count(done['removals'])} that came since.")
    for item in done["skipped"]:
        say(f"left as it is: {printable(item['path'])}: {printable(item['why'])}")


def _show_preview(done: Answer) -> None:
    for path in done["changed"]:
        say(f"would write {printable(path)}")
    would = done["files"] - done["unchanged"]
    if would > len(done["changed"]):
        say(f"... and {count(would - len(done['changed']))} more")
    show_removed(done)
    so = count(done["unchanged"])
    say(f"{count(would)} of {count(done['files'])} paths would be written; {so} are so already.")


def show_removed(done: Answer) -> None:
    """Say what a dry run would remove."""
    for path in done["removed"]:
        say(f"would remove {printable(path)}")
    if done["removals"] > len(done["removed"]):
        say(f"... and {count(done['removals'] - len(done['removed']))} more")


def _show(answer: Answer) -> None:
    rows = [
        (str(v["n"]), local(v["time"]), v["device"], size(v["size"]), v["change"], v["kept"] or "not kept", v["path"])
        for v in answer["versions"]
    ]
    table(("N", "TIME", "DEVICE", "SIZE", "CHANGE", "KEPT", "PATH"), rows)
    if not rows:
        say(f"{count(0)} versions.")
