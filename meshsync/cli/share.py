"""`share` and `join`: invitations."""

from __future__ import annotations

import io
import os
import re
import sys
from pathlib import Path

import click

from meshsync.cli import launch
from meshsync.cli.client import Answer
from meshsync.cli.escape import printable
from meshsync.cli.render import count, size
from meshsync.cli.session import Session, common, folder_path, home_relative, say
from meshsync.content.code import looks_like_code, parse_code
from meshsync.errors import ConfigError
from meshsync.limits import CODE_LIFE_S, CODE_WORDS_MIN, EXPIRES_S_MAX

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
@click.option("--backup", is_flag=True, help="The other device keeps the folder sealed, and can read nothing of it.")
@click.option("--expires", type=Span(), default="10m", show_default=True, help="How long the ticket is valid.")
@click.option("--qr", type=click.Path(dir_okay=False), default="", metavar="FILE.svg", help="Write the ticket as QR.")
@click.option("--version", "this_version", is_flag=True, help="Of one file: what it is now, and no later version.")
@click.option("--no-wait", is_flag=True, help="Return before the first scan is complete.")
@common
def share_command(
    session: Session,
    *,
    path: str,
    name: str,
    ro: bool,
    backup: bool,
    expires: float,
    qr: str,
    this_version: bool,
    no_wait: bool,
) -> None:
    """Invite another device to a folder, or hand over one file; starts the agent. Example: meshsync share ~/Docs"""
    if qr and no_wait:
        raise click.UsageError("--qr needs the ticket, which --no-wait does not wait for")
    if ro and backup:
        raise click.UsageError("a backup reads nothing: --ro or --backup, not both")
    launch.ensure_running(session.home)
    role = "backup" if backup else "reader" if ro else "writer"
    body = {"path": folder_path(path), "role": role, "expires_s": expires, "name": name, "this_version": this_version}
    if no_wait:
        _started(session, session.client.post("/shares", **body))
        return
    answer = session.run_job("/shares", "Scanning", **body)
    if qr:
        _write_qr(answer["ticket"], qr)
    session.emit(answer, lambda shared: _show(shared, expires, qr))
    if answer["is_file"] and not session.as_json:
        _show_file(answer, path, this_version)


@click.command("join")
@click.argument("words", nargs=-1, required=True, metavar="CODE|TICKET [PATH]")
@click.option("--address", default="", metavar="HOST:PORT", help="Where the device that told the code listens.")
@click.option("--no-wait", is_flag=True, help="Return before the first sync is complete.")
@common
def join_command(session: Session, *, words: tuple[str, ...], address: str, no_wait: bool) -> None:
    """Join a folder, or get one file, with a code or ticket. Example: meshsync join 7-canyon-ribbon-orbit"""
    code, path = _code_and_path(words)
    if looks_like_code(code):
        parse_code(code)  # a mistyped one is told before anything is started or sent
    launch.ensure_running(session.home)
    body = {"ticket": code, "path": folder_path(path) if path else "", "address": address}
    if no_wait:
        _started(session, session.client.post("/joins", **body))
        return
    session.emit(session.run_job("/joins", "Syncing", **body), _joined)


def _code_and_path(words: tuple[str, ...]) -> tuple[str, str]:
    """Return the code, which may have been typed as words of their own, and the path or nothing."""
    taken = 1 + CODE_WORDS_MIN if words[0].isdigit() else 1
    code, rest = " ".join(words[:taken]), words[taken:]
    if len(rest) > 1:
        raise click.UsageError(f"a code or ticket and one path, not also {printable(rest[1])}")
    if rest and Path(rest[0]).is_file():
        raise click.UsageError(f"{printable(rest[0])} is a file; name a directory, or for one file a name that is free")
    return code, rest[0] if rest else ""


def _started(session: Session, job: Answer) -> None:
    session.emit(job, lambda started: say(f"Started job {started['id']}; meshsync status shows how far it is."))


def _show(shared: Answer, expires_s: float, qr: str) -> None:
    told, ticket = shared["code"], shared["ticket"]
    if told:
        valid = _valid(min(expires_s, CODE_LIFE_S))
        say(f"On the other device run:   meshsync join {printable(told)}        valid {valid}, once")
        say(f"Or, also while this device is off, with the ticket (valid {_valid(expires_s)}, once):")
        say(f"  meshsync join {printable(ticket)}")
    else:
        say(f"On the other device run:   meshsync join {printable(ticket)}        valid {_valid(expires_s)}, once")
    if qr:
        say(f"The ticket as QR: {printable(qr)}")
    if sys.stdout.isatty():
        import segno

        segno.make(ticket).terminal(out=sys.stdout, compact=True)


def _show_file(shared: Answer, path: str, this_version: bool) -> None:
    what = "this version of it only" if this_version else "and its later versions"
    say(f"Who joins gets {printable(Path(path).name)} for reading, {what}, and nothing else of its folder.")
    if shared["stored"]:
        say("A relay has it: it can be fetched while this device is off.")
    else:
        say("No relay has it: it can be fetched while this device is on.")


def _valid(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:g} min" if minutes < 120 else f"{minutes / 60:g} h"


def _write_qr(ticket: str, file: str) -> None:
    """Write the ticket as a picture that only this user can read: who has it can join."""
    import segno

    picture = io.BytesIO()
    segno.make(ticket).save(picture, kind="svg", scale=4, border=4)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(picture.getvalue())
    except OSError as error:
        raise ConfigError("the QR code cannot be written", path=file, next_step="Name a file.svg") from error


def _joined(joined: Answer) -> None:
    name = printable(joined["name"])
    if joined["is_backup"]:
        place = home_relative(joined["path"])
        say(f"Keeping what '{printable(joined['device'])}' and others bring, sealed, in {place}.")
        say(f"This device cannot read it. It is called {name} here. Next: meshsync status")
        return
    if joined["is_file"]:
        came = f"from '{printable(joined['device'])}' {_ROUTES[joined['route']]}"
        say(f"Got {name} {came}: {size(joined['bytes'])} -> {home_relative(joined['path'])}")
        return
    what = f"{name}: {count(joined['files'])} files, {size(joined['bytes'])} -> {home_relative(joined['path'])}"
    say(f"Paired with '{printable(joined['device'])}' {_ROUTES[joined['route']]}. {what}")
