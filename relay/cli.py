"""`meshsync-relay`: start a relay, invite devices, look at its state. Invariant: exit codes are those of `meshsync`."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import click
from platformdirs import user_data_path

from meshsync.errors import MeshsyncError
from meshsync.limits import RELAY_GRACE_S, RELAY_THREADS, STORE_SCRUB_BYTES
from meshsync.runtime import Runtime, SystemRuntime, run_loop, tune_allocator
from meshsync.store.files import SystemFiles
from meshsync.store.packs import PackStore
from meshsync.transport.quic import split_address
from relay.config import DEFAULT_LISTEN, RelayConfig, load_keys, make_invitation
from relay.drivers.packs import ThreadedChunkStore
from relay.drivers.sqlite_log import SqliteLog
from relay.inspect import check as check_all
from relay.inspect import require_data
from relay.server import RelayServer, make_core, public_address, start
from relay.upkeep import collect_all

SCHEMA = 1
EXIT_INTEGRITY = 7
DAY_S = 24 * 3600
P = ParamSpec("P")

_data = click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), default=None, help="Directory of everything it keeps."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
_listen = click.option("--listen", default=DEFAULT_LISTEN, show_default=True, help="Numeric host and UDP port.")
_advertise = click.option("--advertise", default="", metavar="HOST[:PORT]", help="Address that devices are told.")


def _typed(command: Callable[P, None]) -> Callable[P, None]:
    """Turn typed errors into a sentence on stderr and their exit code."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except MeshsyncError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            sys.exit(130)

    return run


@click.group(context_settings={"auto_envvar_prefix": "MESHSYNC_RELAY"})
@click.version_option(package_name="meshsync")
def main() -> None:
    """The always-on node: stores what your devices seal, and cannot read it."""


@main.command()
@_data
@_listen
@_advertise
@click.option(
    "--floor",
    type=click.FloatRange(0, 36500),
    default=RELAY_GRACE_S / DAY_S,
    show_default=True,
    metavar="DAYS",
    help="How long to keep, at least, what owners let go of; counted while the relay runs.",
)
@click.option("--engine", type=click.Choice(["qh3", "aioquic"]), default="qh3", hidden=True)
@_json
@_typed
def up(data: Path | None, listen: str, advertise: str, floor: float, engine: str, as_json: bool) -> None:
    """Run a relay until it is stopped (Ctrl-C or SIGTERM).

    Example: meshsync-relay up --listen 0.0.0.0:4433 --advertise relay.example
    """
    config = RelayConfig(_directory(data), listen, advertise, engine, grace_s=round(floor * DAY_S))
    _run(lambda runtime: _serve(config, runtime, as_json))


@main.command()
@_data
@_listen
@_advertise
@click.option("--revoke-others", is_flag=True, help="Withdraw all earlier invitations.")
@_json
@_typed
def invite(data: Path | None, listen: str, advertise: str, revoke_others: bool, as_json: bool) -> None:
    """Make a new invitation; a running relay takes it at once.

    Example: meshsync-relay invite --advertise relay.example
    """
    config = RelayConfig(_directory(data), listen, advertise)
    require_data(config)
    runtime = SystemRuntime(threads=1)
    keys = load_keys(config, SystemFiles(), runtime)
    secret = make_invitation(config, SystemFiles(), runtime, revoke_others=revoke_others)
    address = public_address(config, split_address(listen)[1], keys, secret).text
    click.echo(json.dumps({"schema": SCHEMA, "invitation": address}) if as_json else f"meshsync up --relay {address}")


@main.command()
@_data
@_json
@_typed
def status(data: Path | None, as_json: bool) -> None:
    """Show the folders, their records and bytes.

    Example: meshsync-relay status --json
    """
    config = RelayConfig(_directory(data))
    require_data(config)
    _run(lambda runtime: _status(config, runtime, as_json))


@main.command()
@_data
@_json
@_typed
def check(data: Path | None, as_json: bool) -> None:
    """Follow every log's hash chain and look for every promised blob. The relay must be stopped.

    Example: meshsync-relay check
    """
    config = RelayConfig(_directory(data))
    require_data(config)
    _run(lambda runtime: _check(config, runtime, as_json))


@main.command()
@_data
@_json
@_typed
def scrub(data: Path | None, as_json: bool) -> None:
    """Read and verify every stored blob. The relay must be stopped; a running one scrubs by itself, in steps.

    Example: meshsync-relay scrub
    """
    config = RelayConfig(_directory(data))
    require_data(config)
    store = PackStore(config.chunks_path)
    try:
        blobs, size = 0, 0
        while True:
            report = store.scrub(STORE_SCRUB_BYTES)
            blobs, size = blobs + report.checked_blobs, size + report.checked_bytes
            if report.done:
                break
        damaged = [blob.hex() for blob in store.damaged()]
    finally:
        store.close()
    if as_json:
        click.echo(json.dumps({"schema": SCHEMA, "blobs": blobs, "bytes": size, "damaged": damaged}))
    else:
        click.echo(f"{blobs} blobs, {size} bytes read; {len(damaged)} damaged.")
    sys.exit(EXIT_INTEGRITY if damaged else 0)


@main.command()
@_data
@_json
@_typed
def gc(data: Path | None, as_json: bool) -> None:
    """Remove what nobody needs any more, and give back its space. The relay must be stopped; a running one does it
    every ten minutes. What owners let go of has to have waited.

    Example: meshsync-relay gc
    """
    config = RelayConfig(_directory(data))
    require_data(config)
    _run(lambda runtime: _gc(config, runtime, as_json))


def _directory(data: Path | None) -> Path:
    return data if data is not None else user_data_path("meshsync-relay", appauthor=False)


def _run(program: Callable[[Runtime], Coroutine[Any, Any, int]]) -> None:
    tune_allocator()
    runtime = SystemRuntime(threads=RELAY_THREADS)
    try:
        code = run_loop(program(runtime))
    finally:
        runtime.close()
    if code:
        sys.exit(code)


async def _serve(config: RelayConfig, runtime: Runtime, as_json: bool) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = await start(config, runtime)
    try:
        _announce(server, config, as_json)
        await stop.wait()
    finally:
        await server.close()
    return 0


async def _gc(config: RelayConfig, runtime: Runtime, as_json: bool) -> int:
    chunks = ThreadedChunkStore(PackStore(config.chunks_path), runtime)
    log = SqliteLog(config.log_path, runtime)
    try:
        before = (await chunks.usage()).disk_bytes
        removed = await collect_all(make_core(config, load_keys(config, SystemFiles(), runtime), runtime, log, chunks))
        freed = before - (await chunks.usage()).disk_bytes
    finally:
        await log.close()
        await chunks.close()
    if as_json:
        click.echo(json.dumps({"schema": SCHEMA, "removed": removed, "freed": freed}))
    else:
        click.echo(f"{removed} blobs removed, {freed} bytes given back.")
    return 0


def _announce(server: RelayServer, config: RelayConfig, as_json: bool) -> None:
    invitation = server.address.text
    if as_json:
        line = {
            "schema": SCHEMA,
            "address": server.address.without_secret().text,
            "invitation": invitation,
            "device": server.core.keys.device.hex(),
            "data": str(config.data),
        }
        click.echo(json.dumps(line))
    else:
        click.echo(f"Relay ready. Devices join with:  meshsync up --relay {invitation}")
    sys.stdout.flush()


async def _status(config: RelayConfig, runtime: Runtime, as_json: bool) -> int:
    log = SqliteLog(config.log_path, runtime)
    try:
        states = [(folder, await log.state(folder)) for folder in await log.folders()]
    finally:
        await log.close()
    folders = [
        {"id": folder.hex(), "records": state.index, "bytes": state.bytes_used, "bytes_max": state.bytes_max}
        for folder, state in states
        if state is not None
    ]
    packs = sum(path.stat().st_size for path in config.chunks_path.glob("*.pack"))
    if as_json:
        click.echo(json.dumps({"schema": SCHEMA, "folders": folders, "disk_bytes": packs}))
        return 0
    for folder in folders:
        click.echo(f"{str(folder['id'])[:10]}  {folder['records']} records  {folder['bytes']} bytes")
    click.echo(f"{len(folders)} folders, {packs} bytes of packs.")
    return 0


async def _check(config: RelayConfig, runtime: Runtime, as_json: bool) -> int:
    chunks = ThreadedChunkStore(PackStore(config.chunks_path), runtime)
    log = SqliteLog(config.log_path, runtime)
    try:
        finding = await check_all(log, chunks)
    finally:
        await log.close()
        await chunks.close()
    if as_json:
        counts = {"folders": finding.folders, "records": finding.records, "blobs": finding.blobs}
        click.echo(json.dumps({"schema": SCHEMA, **counts, "problems": finding.problems}))
    else:
        for problem in finding.problems:
            click.echo(problem)
        click.echo(f"{finding.records} records and {finding.blobs} blobs; {len(finding.problems)} problems.")
    return EXIT_INTEGRITY if finding.problems else 0
