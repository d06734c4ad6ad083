"""The agent's process: `python -m meshsync.agent`. Prints a line of JSON when ready, ends on SIGTERM or `stop`.

Invariant: its relays, whose addresses carry invitations, come from `config.toml` alone, never from the command line.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import platform
import signal
import sys

import click

from meshsync.agent import config, log_lines
from meshsync.agent.daemon import Agent, Options
from meshsync.agent.events import EventRing
from meshsync.agent.home import Home, find_home
from meshsync.agent.local_api import LocalApi
from meshsync.agent.passphrase import given
from meshsync.agent.service import Service
from meshsync.discovery.base import Discovery
from meshsync.discovery.mdns import MdnsDiscovery
from meshsync.errors import MeshsyncError
from meshsync.limits import GC_THRESHOLDS
from meshsync.runtime import SystemRuntime, raise_descriptor_limit, run_loop, tune_allocator


@click.command()
@click.option("--home", default="", help="State directory.")
@click.option("--name", default="", help="What other devices call this one.")
@click.option("--listen", default="", help="HOST:PORT to listen on.")
@click.option("--no-discovery", is_flag=True, help="Do not look for devices on the local network.")
@click.option("--engine", default="", help="QUIC engine: qh3 or aioquic.")
@click.option("--person", default="", help="Whose device this is, for the other members.")
def main(*, home: str, name: str, listen: str, no_discovery: bool, engine: str, person: str) -> None:
    """Run the agent until it is told to stop."""
    log_lines.begin(os.environ.get("MESHSYNC_LOG", "WARNING"))
    tune_allocator()
    raise_descriptor_limit()
    where = find_home(home)
    try:
        where.create()
        options = Options(
            name=name or platform.node() or "device",
            listen=listen,
            relays=config.load(where.config).relays,
            engine=engine,
            fault=os.environ.get("MESHSYNC_FAULT", ""),
            person=person,
        )
        run_loop(_run(where, options, discover=not no_discovery))
    except MeshsyncError as error:
        click.echo(f"meshsync: {error}", err=True)
        sys.exit(error.exit_code)


async def _run(where: Home, options: Options, discover: bool) -> None:
    runtime = SystemRuntime()
    discoveries: list[Discovery] = [MdnsDiscovery(runtime)] if discover else []
    agent = Agent(runtime, where, options, discoveries, passphrase=lambda: given(os.environ))
    events = EventRing()
    api = LocalApi(Service(agent), events, runtime)
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, agent.stopping.set)
    await agent.start()
    try:
        await api.start(where.socket)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        telling = runtime.spawn(_tell(agent, events), "tell changes")
        ready = {
            "schema": 1,
            "ready": True,
            "device": {"id": agent.keys.device.hex(), "name": options.name},
            "socket": str(where.socket),
            "port": agent.endpoint.port,
        }
        print(json.dumps(ready), flush=True)
        await agent.stopping.wait()
        telling.cancel()
        await api.stop()
    finally:
        await agent.stop()
        runtime.close()


async def _tell(agent: Agent, events: EventRing) -> None:
    """Publish a hint to listeners whenever something a user could see has changed."""
    count = 0
    while True:
        count = await agent.changes.after(count)
        events.publish("status", {"change": count})
        await agent.runtime.sleep(0.25)


if __name__ == "__main__":
    main()
