"""`retention`, `gc`: how long old versions are kept, and an end to those that are kept no longer."""

from __future__ import annotations

import re
from typing import Any

import click

from meshsync.cli.client import Answer
from meshsync.cli.escape import printable
from meshsync.cli.render import count, size
from meshsync.cli.session import Session, common, folder_argument, say
from meshsync.cli.when import local

_DAY_S = 86400
_UNITS = {"h": 3600, "d": _DAY_S, "w": 7 * _DAY_S, "month": 30 * _DAY_S, "y": 365 * _DAY_S, "year": 365 * _DAY_S}
_SPAN = re.compile(r"([0-9]{1,6})\s*([a-z]+?)s?")
_TIERS = ("all", "hourly", "daily", "weekly", "monthly")
_PATHS_SHOWN = 20


class Span(click.ParamType[int | str]):
    """A length of time: `30d`, `12w`, `6 months`, `2y`, `forever`. Gives seconds, None for ever."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        said = str(value).strip().lower()
        if said == "forever":
            return said
        found = _SPAN.fullmatch(said)
        units = {**_UNITS, "hour": 3600, "day": _DAY_S, "week": 7 * _DAY_S}
        if found is None or found[2] not in units:
            self.fail(f"not a length of time: {printable(said)!r}. Write 30d, 12w, 6 months, 2y or forever", param, ctx)
        return int(found[1]) * units[found[2]]


@click.command("retention")
@click.argument("folder", default="")
@click.option("--all", "all_", type=Span(), help="Keep every version for so long after it was replaced or deleted.")
@click.option("--hourly", type=Span(), help="Then what a file was at the end of each hour, for so long.")
@click.option("--daily", type=Span(), help="The same for each day.")
@click.option("--weekly", type=Span(), help="The same for each week.")
@click.option("--monthly", type=Span(), help="The same for each month.")
@click.option("--floor", type=Span(), help="What is let go of stays so long at a relay, a week at least.")
@common
def retention_command(session: Session, folder: str, all_: int | str | None, **spans: int | str | None) -> None:
    """Show or set how long versions are kept. Example: meshsync retention Docs --all 30d --daily 1y --monthly forever

    Without a setting every version is kept. What is shown now, and what a snapshot names, is always kept.
    """
    given = {name: span for name, span in {"all": all_, **spans}.items() if span is not None}
    if not given:
        session.emit(session.client.get("/retention", folder=folder_argument(folder)), _show)
        return
    if not folder:
        raise click.UsageError("Which folder? meshsync retention FOLDER ...")
    if "all" not in given:
        raise click.UsageError("Say --all as well: for how long every version is kept.")
    if given.get("floor") == "forever":
        raise click.BadParameter("what is let go of would never go", param_hint="--floor")
    keeps = {name: None if span == "forever" else span for name, span in given.items()}
    session.emit(session.client.post("/retention", folder=folder_argument(folder), keeps=keeps), _show)


@click.command("gc")
@click.argument("folder", default="")
@click.option("--dry-run", is_flag=True, help="Say what would go, and do nothing.")
@common
def gc_command(session: Session, folder: str, dry_run: bool) -> None:
    """Let go of versions that are kept no longer; an owner's agent does it every day. Example: meshsync gc --dry-run

    A relay keeps what is let go of for a week more, or as long as 'meshsync retention --floor' says.
    """
    body = {"folder": folder_argument(folder), "dry_run": dry_run}
    session.emit(
        session.run_job("/collections", "Looking at every version", **body), _preview if dry_run else _show_done
    )


def _span(seconds: int | None) -> str:
    if seconds is None:
        return "forever"
    for name, unit_s in (("year", 365 * _DAY_S), ("day", _DAY_S), ("hour", 3600)):
        if seconds >= unit_s and seconds % unit_s == 0:
            number = seconds // unit_s
            return f"{count(number)} {name}" + ("s" if number > 1 else "")
    return f"{count(seconds)} s"


def _show(answer: Answer) -> None:
    for one in answer["folders"]:
        keeps, name = one["keeps"], printable(one["name"])
        if keeps["all"] is None:
            say(f"{name} keeps every version.")
        else:
            tiers = [f"{tier} {_span(keeps[tier])}" for tier in _TIERS[1:] if keeps[tier] != 0]
            more = "".join(f", {tier}" for tier in tiers)
            say(f"{name} keeps versions: all {_span(keeps['all'])}{more}.")
            say(f"  What is let go of stays at a relay for {_span(max(keeps['floor'], 7 * _DAY_S))}.")
        for each in one["waiting"]:
            device, relay = printable(each["device"]), printable(each["relay"])
            say(f"  {device} let go of {count(each['versions'])} versions at {relay}, {local(each['since'])}.")
        if one["waiting"]:
            say(f"  To take that back while it waits: meshsync retention {name} --all TIME, then meshsync gc {name}")


def _preview(answer: Answer) -> None:
    _show_each(answer, "would go")


def _show_done(answer: Answer) -> None:
    _show_each(answer, "go")


def _show_each(answer: Answer, what: str) -> None:
    for one in answer["folders"]:
        name = printable(one["name"])
        if not one["versions"]:
            say(f"{name}: every version is kept.")
        else:
            whole = f"{count(one['versions'])} versions of {count(one['files'])} files, {size(one['size'])}"
            say(f"{name}: {whole}, replaced or deleted from {local(one['oldest'])} to {local(one['newest'])}, {what}.")
        for path in one["paths"][:_PATHS_SHOWN]:
            say(f"  {printable(path)}")
        if one["files"] > _PATHS_SHOWN:
            say(f"  ... and {count(one['files'] - _PATHS_SHOWN)} more files")
        for each in one["relays"]:
            relay = printable(each["relay"])
            if each["problem"]:
                say(f"  {relay}: {printable(each['problem'])}")
                continue
            say(f"  {relay}: was told of {count(each['versions'])} versions.")
            if each["taken_back"]:
                say(f"  {relay}: {count(each['taken_back'])} earlier orders were taken back.")
    if not answer["folders"]:
        say("No folder here is yours to decide on.")
