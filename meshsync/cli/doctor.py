"""`doctor`: examine the machine, then what the agent knows of itself."""

from __future__ import annotations

import click

from meshsync.agent.home import Home
from meshsync.cli.client import Answer
from meshsync.cli.escape import printable
from meshsync.cli.session import Session, common, say
from meshsync.errors import AgentNotRunning

WATCHES_WANTED = 65_536  # directories: one inotify watch each


@click.command("doctor")
@common
def doctor_command(session: Session) -> None:
    """Examine machine and agent; exit 1 if a check fails, 4 if no agent runs. Example: meshsync doctor"""
    checks, exit_code = [_watches(), _native_chunker(), _home(session.home)], 0
    try:
        checks += session.client.get("/doctor")["checks"]
    except AgentNotRunning as error:
        checks.append(_check("agent runs", False, error.what, error.next_step))
        exit_code = error.exit_code
    session.emit({"schema": 1, "checks": checks}, _show)
    if exit_code or not all(check["ok"] for check in checks):
        click.get_current_context().exit(exit_code or 1)


def _show(answer: Answer) -> None:
    for check in answer["checks"]:
        mark = "ok    " if check["ok"] else "FAILED"
        say(f"{mark}  {printable(check['what'])}" + (f": {printable(check['why'])}" if check["why"] else ""))
        if not check["ok"] and check["next"]:
            say(f"        next: {printable(check['next'])}")


def _check(what: str, ok: bool, why: str = "", following: str = "") -> Answer:
    return {"what": what, "ok": ok, "why": why, "next": following}


def _watches() -> Answer:
    what = "the system can watch enough directories"
    try:
        with open("/proc/sys/fs/inotify/max_user_watches", encoding="ascii") as file:  # noqa: PTH123
            found = int(file.read(32))
    except (OSError, ValueError):
        return _check(what, True, "limit unknown")
    command = f"sysctl fs.inotify.max_user_watches={WATCHES_WANTED}"
    return _check(what, found >= WATCHES_WANTED, f"{found} watches", command)


def _native_chunker() -> Answer:
    from importlib.util import find_spec

    found = find_spec("fastcdc") or find_spec("pyfastcdc")
    return _check("the chunker is installed", found is not None, "", "pip install --force-reinstall pyfastcdc")


def _home(home: Home) -> Answer:
    what = f"the state directory {home.path} is private"
    try:
        private = home.path.stat().st_mode & 0o077 == 0
    except OSError as error:
        return _check(what, False, str(error.strerror), "meshsync up")
    return _check(what, private, "" if private else "others can enter it", f"chmod 700 {home.path}")
