"""`devices`: the other devices and how they are reached."""

from __future__ import annotations

import click

from meshsync.cli.client import Answer
from meshsync.cli.render import milliseconds, table
from meshsync.cli.session import Session, common
from meshsync.cli.when import ago

ID_DIGITS_SHOWN = 10


@click.command("devices")
@common
def devices_command(session: Session) -> None:
    """List the other devices. Example: meshsync devices"""
    session.emit(session.client.get("/devices"), _show)


def _show(answer: Answer) -> None:
    rows = [
        (
            device["name"],
            device["id"][:ID_DIGITS_SHOWN],
            device["path"],
            milliseconds(device["rtt_ms"]),
            ago(device["seen"]),
        )
        for device in answer["devices"]
    ]
    table(("DEVICE", "ID", "PATH", "RTT", "SEEN"), rows)
