"""The `meshsync` command: finds the subcommand, turns errors into words and exit codes.

Invariant: a subcommand's module, and with it everything heavy, is imported only when that subcommand runs.
Exit codes: 0 ok, 1 error, 2 usage, 3 not found, 4 agent not running, 5 temporary, 6 conflicts present,
7 integrity failure, 8 timeout, 130 interrupted.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence

import click

from meshsync.cli.escape import printable
from meshsync.errors import MeshsyncError

EXIT_INTERRUPTED = 130
COMMANDS = {  # name: (module, one line of help); the help stands here so that listing it imports nothing
    "up": ("agent", "Start the agent in the background."),
    "down": ("agent", "Stop the agent."),
    "share": ("share", "Invite another device to a folder."),
    "invitations": ("invitation", "List the invitations that are open."),
    "revoke": ("invitation", "Take an invitation back."),
    "join": ("share", "Join a folder with a code or ticket."),
    "status": ("status", "Show folders, devices and health."),
    "wait": ("status", "Wait until everything is in sync."),
    "open": ("page", "Open the local web page."),
    "devices": ("device", "List the other devices."),
    "stats": ("status", "Show counters since the agent started."),
    "log": ("history", "List the versions of a file."),
    "versions": ("history", "List the versions of every file."),
    "find": ("history", "Find a file by a name it has or had."),
    "diff": ("difference", "Show what changed between versions."),
    "cat": ("history", "Print a version of a file."),
    "restore": ("history", "Bring an old version back."),
    "snapshot": ("snapshot", "Give the folder as it is a name."),
    "snapshots": ("snapshot", "List the snapshots."),
    "ls": ("snapshot", "List a directory as it is or was."),
    "retention": ("retention", "Show or set how long versions are kept."),
    "gc": ("retention", "Let go of versions that are kept no longer."),
    "undo": ("undo", "Undo what a device did; keep all else."),
    "recovery": ("recovery", "Be ready to lose every device."),
    "recover": ("recovery", "Bring all folders back with a recovery sheet."),
    "passphrase": ("passphrase", "Seal this device's keys with a passphrase."),
    "conflicts": ("conflict", "List the files in conflict."),
    "resolve": ("conflict", "End a conflict: keep one version, or both."),
    "held": ("hold", "List mass changes that wait for a decision."),
    "release": ("hold", "Let a held change pass."),
    "reject": ("hold", "Undo a held change."),
    "adopt": ("removal", "Take over what a removed device wrote last."),
    "why": ("conflict", "Explain the state of a file."),
    "members": ("member", "List the members of a folder."),
    "role": ("member", "Give a member another role."),
    "remove": ("removal", "Remove a device or person from a folder."),
    "unshare": ("removal", "End sharing; the folder stays here."),
    "leave": ("member", "Stop syncing a folder; files stay."),
    "pause": ("folder", "Exchange nothing until resume."),
    "resume": ("folder", "End a pause."),
    "rescan": ("folder", "Look at every file again."),
    "doctor": ("doctor", "Examine machine and agent."),
    "completion": ("completion", "Print shell completion."),
    "demo": ("demo", "Show the main job on this machine."),
}


class Lazy(click.Group):
    """A group that imports a subcommand's module when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"meshsync.cli.{COMMANDS[cmd_name][0]}")
        found = getattr(module, f"{cmd_name}_command")
        assert isinstance(found, click.Command)
        for option in found.params:
            if isinstance(option, click.Option) and option.envvar is None:
                # After the option that is typed: by itself it would be called after the function's parameter.
                words = ("MESHSYNC", cmd_name, max(option.opts, key=len).lstrip("-"))
                option.envvar = "_".join(words).replace("-", "_").upper()
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "MESHSYNC"})
@click.option("--home", default="", metavar="DIR", help="State directory of the agent (MESHSYNC_HOME).")
@click.version_option(package_name="meshsync", message="%(prog)s %(version)s")
def cli(home: str) -> None:
    """Keep folders equal on all your devices. Start with: meshsync share PATH"""


def run(arguments: Sequence[str]) -> int:
    """Run one command line, print what it has to say, and return its exit code."""
    try:
        outcome = cli.main(list(arguments), prog_name="meshsync", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return EXIT_INTERRUPTED
    except MeshsyncError as error:
        _show(error, as_json="--json" in arguments)
        return error.exit_code
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stderr.close()
        return 0
    return outcome if isinstance(outcome, int) else 0


def main() -> None:
    """The console script."""
    raise SystemExit(run(sys.argv[1:]))


def _show(error: MeshsyncError, *, as_json: bool) -> None:
    code = str(getattr(error, "code", type(error).__name__))
    from meshsync.agent.problems import cause  # only now: a command that succeeds does not need it

    why = str(getattr(error, "why", "")) or cause(error)
    if as_json:
        fields = {"detail": error.what, "code": code, "exit_code": error.exit_code, "why": why}
        where = {"device": error.device, "folder": error.folder, "path": error.path, "next": error.next_step}
        click.echo(json.dumps({"schema": 1, **fields, **where}), err=True)
        return
    click.echo(f"Error: {printable(error.what)}", err=True)
    about = [f"{name} {value}" for name in ("device", "folder", "path") if (value := getattr(error, name))]
    if about:
        click.echo(f"  about: {printable(', '.join(about))}", err=True)
    if why:
        click.echo(f"  why:   {printable(why)}", err=True)
    if error.next_step:
        click.echo(f"  next:  {printable(error.next_step)}", err=True)


if __name__ == "__main__":
    main()
