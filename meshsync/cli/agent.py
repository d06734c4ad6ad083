"""`up` and `down`: the agent itself."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import click

from meshsync.agent import config as stored
from meshsync.agent.config import ENGINES, Config
from meshsync.cli import launch
from meshsync.cli.client import Answer
from meshsync.cli.escape import printable
from meshsync.cli.render import milliseconds
from meshsync.cli.session import Session, common, say
from meshsync.errors import AgentNotRunning
from meshsync.limits import UP_RELAY_WAIT_S


@click.command("up")
@click.option("--name", default="", help="Name of this device; default: the host's name.")
@click.option("--person", default="", metavar="NAME", help="Whose device this is, for the members of its folders.")
@click.option("--listen", default="", metavar="ADDR", help="Address to listen on, HOST:PORT; port 0: any.")
@click.option("--relay", "relays", multiple=True, metavar="URL", help="Relay with its invitation; may be repeated.")
@click.option("--no-discovery", is_flag=True, help="Neither announce nor look for devices on the LAN.")
@click.option("--engine", type=click.Choice(ENGINES), default=None, help="QUIC engine.")
@click.option("--foreground", is_flag=True, help="Stay in the foreground, for service supervisors.")
@common
def up_command(
    session: Session,
    *,
    name: str,
    person: str,
    listen: str,
    relays: tuple[str, ...],
    no_discovery: bool,
    engine: str | None,
    foreground: bool,
) -> None:
    """Start the agent in the background, or again if it runs with other options.

    Options are kept for the next start. Example: meshsync up --relay quic://HOST:4433#TOKEN
    """
    session.home.create()
    running = launch.is_running(session.home)
    known = stored.load(session.home.config)
    config = _merge(
        known,
        name=name,
        person=person,
        listen=listen,
        relays=relays,
        no_discovery=no_discovery,
        engine=engine,
    )
    if running and config == known:
        _report(session, "Agent already running")
        return
    # First: what the new agent would refuse stops no agent and changes no option.
    if config.listen != known.listen:
        launch.check_listen(config.listen)
    passphrase = launch.unlock(session.home)
    stored.save(session.home.config, config)
    if running:
        launch.stop(session.home)
    if foreground:
        session.home.pid.write_text(f"{os.getpid()}\n", encoding="ascii")  # the agent takes this process over
        launch.replace(session.home, config, passphrase)
    launch.start(session.home, config, passphrase)
    if config.relays:
        _await_relays(session)
    _report(session, "Agent restarted" if running else "Agent running")


@click.command("down")
@common
def down_command(session: Session) -> None:
    """Stop the agent; returns when it is gone. Example: meshsync down"""
    try:
        launch.stop(session.home)
        text = "Agent stopped."
    except AgentNotRunning:
        text = "No agent was running."  # what was asked for is so
    session.emit({"schema": 1, "done": True}, lambda _: say(text))


def _merge(
    config: Config,
    *,
    name: str,
    person: str,
    listen: str,
    relays: tuple[str, ...],
    no_discovery: bool,
    engine: str | None,
) -> Config:
    return replace(
        config,
        name=name or config.name,
        person=person or config.person,
        listen=listen or config.listen,
        relays=relays or config.relays,
        discovery=config.discovery and not no_discovery,
        engine=engine or config.engine,
    )


def _await_relays(session: Session) -> None:
    """Give the relays a moment, so that the line printed says what the user wants to know."""
    from meshsync.runtime import SystemRuntime

    now = SystemRuntime(threads=1).monotonic
    deadline = now() + UP_RELAY_WAIT_S
    events = session.client.events(UP_RELAY_WAIT_S)
    while now() < deadline:
        relays = session.client.get("/status")["relays"]
        if relays and all(relay["connected"] for relay in relays):
            return
        next(events, None)


def _report(session: Session, text: str) -> None:
    session.emit(session.client.get("/status"), lambda status: say(_line(text, status)))


def _line(text: str, status: Answer) -> str:
    relays = "".join(f" Relay: {_relay(relay)}." for relay in status["relays"])
    return f"{text} as '{printable(status['device']['name'])}'.{relays}"


def _relay(relay: dict[str, Any]) -> str:
    if not relay["connected"]:
        return f"not connected ({printable(relay['address'])})"
    return f"connected ({milliseconds(relay['rtt_ms'])})"
