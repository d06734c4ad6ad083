"""`share` and `join`: invitations."""

from __future__ import annotations

import re
import sys

import click

from meshsync.cli import launch
from meshsync.cli.client import Answer
from meshsync.cli.escape import printable
from meshsync.cli.render import count, size
from meshsync.cli.session import Session, common, folder_path, home_relative, say
from meshsync.limits import EXPIRES_S_MAX

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_ROUTES = {"lan": "on the LAN", "direct": "directly", "relay": "through the relay", "offline": "from the relay"}


class Span(click.ParamType[float]):
    """A span of time such as `10m` or `7d`, as seconds."""

    name = "span"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d{1,9})([smhd])", str(value))
        seconds = int(found[1]) * _UNITS_S[found[2]] if found else 0
        if not 0 < seconds <= EXPIRES_S_MAX:
            self.fail(
                f"{value!r} is not a span like 90s, 10m, 2h or 7d, at most {EXPIRES_S_MAX / 86_400:g}d", param, ctx
            )
        return float(seconds)


@click.command("share")
@click.argument("path", type=click.Path(exists=True))
@click.option("--with", "name", default="", metavar="NAME", help="Device that the invitation is for.")
@click.option("--ro", is_flag=True, help="The other device may read only.")
@click.option("--expires", type=Span(), default="10m", show_default=True, help="How long the invitation is valid.")
@click.option("--no-wait", is_flag=True, help="Return before the first scan is complete.")
@common
def share_command(session: Session, *, path: str, name: str, ro: bool, expires: float, no_wait: bool) -> None:
    """Invite another device to a folder; starts the agent if needed. Example: meshsync share ~/Docs"""
    launch.ensure_running(session.home)
    role = "reader" if ro else "writer"
    body = {"path": folder_path(path), "role": role, "expires_s": expires, "name": name}
    if no_wait:
        _started(session, session.client.post("/shares", **body))
        return
    answer = session.run_job("/shares", "Scanning", **body)
    session.emit(answer, lambda shared: _show(shared, expires))


@click.command("join")
@click.argument("ticket")
@click.argument("path", type=click.Path(file_okay=False), default="")
@click.option("--no-wait", is_flag=True, help="Return before the first sync is complete.")
@common
def join_command(session: Session, ticket: str, path: str, no_wait: bool) -> None:
    """Join a folder with a ticket; starts the agent if needed. Example: meshsync join meshsync1k00w884bk… ~/Docs"""
    launch.ensure_running(session.home)
    body = {"ticket": ticket, "path": folder_path(path) if path else ""}
    if no_wait:
        _started(session, session.client.post("/joins", **body))
        return
    session.emit(session.run_job("/joins", "Syncing", **body), _joined)


def _started(session: Session, job: Answer) -> None:
    session.emit(job, lambda started: say(f"Started job {started['id']}; meshsync status shows how far it is."))


def _show(shared: Answer, expires_s: float) -> None:
    invitation = shared["code"] or shared["ticket"]
    minutes = expires_s / 60
    valid = f"{minutes:g} min" if minutes < 120 else f"{minutes / 60:g} h"
    say(f"On the other device run:   meshsync join {printable(invitation)}        valid {valid}, once")
    if sys.stdout.isatty():
        import segno

        segno.make(shared["ticket"]).terminal(out=sys.stdout, compact=True)


def _joined(joined: Answer) -> None:
    name = printable(joined["name"])
    what = f"{name}: {count(joined['files'])} files, {size(joined['bytes'])} -> {home_relative(joined['path'])}"
    say(f"Paired with '{printable(joined['device'])}' {_ROUTES[joined['route']]}. {what}")
