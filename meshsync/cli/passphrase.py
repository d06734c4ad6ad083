"""`passphrase`: seal this device's keys, or keep them plain again."""

from __future__ import annotations

import os
import sys

import click

from meshsync.agent import device_key
from meshsync.agent.home import Home
from meshsync.agent.key_file import check_passphrase, passphrase_bytes
from meshsync.agent.passphrase import FILE_VARIABLE, given
from meshsync.cli.session import Session, common, say
from meshsync.errors import KeysLocked
from meshsync.runtime import SystemRuntime


@click.command("passphrase")
@click.argument("action", type=click.Choice(["set", "remove", "status"]))
@click.option("--new-file", default="", metavar="FILE", help="Read the new passphrase from a file of this user.")
@common
def passphrase_command(session: Session, *, action: str, new_file: str) -> None:
    """Seal this device's keys with a passphrase, asked for at each start. Example: meshsync passphrase set"""
    if new_file and action != "set":
        raise click.UsageError("--new-file goes with: meshsync passphrase set")
    home = session.home
    before = device_key.needs_passphrase(home)
    if action == "set":
        present = obtain(home) if before else None
        new = _new(new_file)
        runtime = SystemRuntime(threads=1)
        try:
            device_key.set_passphrase(home, runtime, new, lambda: present)
        finally:
            runtime.close()
    elif action == "remove" and before:
        present = obtain(home)
        device_key.remove_passphrase(home, lambda: present)
    sealed = device_key.needs_passphrase(home)
    session.emit({"schema": 1, "sealed": sealed, "before": before}, lambda _: _show(action, before, sealed))


def obtain(home: Home) -> bytes:
    """Return the passphrase of a home whose keys are sealed: from where the environment says, else from the terminal.

    Raises KeysLocked if there is neither.
    """
    told = given(os.environ)
    if told is not None:
        return told
    if not sys.stdin.isatty():
        raise KeysLocked(
            "this device's keys are sealed, and there is no terminal to ask for the passphrase",
            path=str(home.device_key),
            next_step=f"{FILE_VARIABLE}=FILE meshsync up",
        )
    return passphrase_bytes(str(click.prompt("Passphrase of this device", hide_input=True, err=True)))


def _new(file: str) -> bytes:
    if file:
        data = given({FILE_VARIABLE: file})
        assert data is not None
        return check_passphrase(data.decode())
    if not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask for the new passphrase: use --new-file FILE")
    typed = click.prompt("New passphrase", hide_input=True, confirmation_prompt=True, err=True)
    return check_passphrase(str(typed))


def _show(action: str, before: bool, sealed: bool) -> None:
    if action == "set":
        say("The keys of this device are sealed. Every start asks for the passphrase; without it they cannot be had.")
        if not before:
            say("They lay on this disk unsealed until now: what copied it earlier, a backup too, has them.")
    elif sealed:
        say("The keys of this device are sealed with a passphrase.")
    else:
        say("The keys of this device are not sealed. To seal them: meshsync passphrase set")
