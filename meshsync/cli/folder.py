"""`pause`, `resume` and `rescan`: what a folder does."""

from __future__ import annotations

import click

from meshsync.cli.escape import printable
from meshsync.cli.session import Session, common, folder_argument, say


@click.command("pause")
@click.argument("folder", default="")
@common
def pause_command(session: Session, folder: str) -> None:
    """Exchange nothing about a folder, or any, until resume. Example: meshsync pause Docs"""
    answer = session.client.post("/pause", folder=folder_argument(folder))
    session.emit(answer, lambda _: say(f"Paused {_named(folder)}. Next: meshsync resume"))


@click.command("resume")
@click.argument("folder", default="")
@common
def resume_command(session: Session, folder: str) -> None:
    """End a pause. Example: meshsync resume Docs"""
    answer = session.client.post("/resume", folder=folder_argument(folder))
    session.emit(answer, lambda _: say(f"Resumed {_named(folder)}."))


@click.command("rescan")
@click.argument("folder", default="")
@common
def rescan_command(session: Session, folder: str) -> None:
    """Look at every file of a folder, or of all, again. Example: meshsync rescan Docs"""
    answer = session.run_job("/rescan", "Scanning", folder=folder_argument(folder))
    session.emit(answer, lambda _: say(f"Scanned {_named(folder)}."))


def _named(folder: str) -> str:
    return printable(folder) if folder else "all folders"
