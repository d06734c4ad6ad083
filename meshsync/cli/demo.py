"""`demo`: the main job on this machine, each step checked. Ends with a table: step, result, time, bytes.

Invariant: nothing outside a temporary directory and loopback is touched; the exit code is 0 only if every step held.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from meshsync.cli.demo_mesh import Mesh
from meshsync.cli.demo_steps import STEPS, Story
from meshsync.cli.escape import printable
from meshsync.cli.render import size, table
from meshsync.errors import MeshsyncError
from meshsync.runtime import SystemRuntime


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    step: str
    ok: bool
    result: str
    time_s: float
    bytes: int


@click.command("demo")
@click.option("--keep", is_flag=True, help="Leave the temporary directory behind.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, schema 1.")
def demo_command(keep: bool, as_json: bool) -> None:
    """Pair, sync, edit, conflict, restore and repair between real processes, in under a minute.

    Example: meshsync demo
    """
    directory = Path(tempfile.mkdtemp(prefix="meshsync-demo-"))
    try:
        rows = run_steps(directory, quiet=as_json)
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)
    ok = len(rows) == len(STEPS) and all(row.ok for row in rows)
    if as_json:
        click.echo(json.dumps({"schema": 1, "ok": ok, "steps": [asdict(row) for row in rows]}))
    else:
        _show(rows)
        if keep:
            click.echo(f"Kept: {printable(str(directory))}")
    if not ok:
        click.get_current_context().exit(1)


def run_steps(directory: Path, *, quiet: bool) -> list[Row]:
    """Run the steps until one fails, in a mesh under `directory`, and return their rows."""
    runtime = SystemRuntime(threads=1)
    rows: list[Row] = []
    with Mesh(directory, runtime) as mesh:
        story = Story(mesh)
        for title, step in STEPS:
            if not quiet and sys.stderr.isatty():
                click.echo(f"{title} ...", err=True)
            since = runtime.monotonic()
            try:
                outcome = step(story)
            except MeshsyncError as error:
                rows.append(Row(title, False, str(error), runtime.monotonic() - since, 0))
                break
            rows.append(Row(title, True, outcome.result, runtime.monotonic() - since, outcome.bytes))
    return rows


def _show(rows: list[Row]) -> None:
    cells = [
        (
            row.step,
            ("ok: " if row.ok else "FAILED: ") + row.result,
            f"{row.time_s:.1f} s",
            size(row.bytes) if row.bytes else "-",
        )
        for row in rows
    ]
    table(("STEP", "RESULT", "TIME", "BYTES"), cells)
    click.echo(f"{sum(row.ok for row in rows)} of {len(STEPS)} steps, {sum(row.time_s for row in rows):.0f} s.")
