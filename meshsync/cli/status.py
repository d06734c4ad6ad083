"""`status`, `wait` and `stats`: how things are."""

from __future__ import annotations

import click

from meshsync.cli.client import Answer
from meshsync.cli.escape import printable
from meshsync.cli.render import clock, count, duration, milliseconds, rate, size, table
from meshsync.cli.session import Session, common, folder_argument, say
from meshsync.cli.when import ago
from meshsync.limits import WAIT_S_MAX

WATCH_EVERY_S = 2.0


@click.command("status")
@click.option("--watch", is_flag=True, help="Show it again whenever it changes, until interrupted.")
@common
def status_command(session: Session, watch: bool) -> None:
    """Show folders, devices and health. Example: meshsync status --watch"""
    session.emit(session.client.get("/status"), show)
    events = session.client.events(WATCH_EVERY_S) if watch else iter(())
    for _ in events:
        if not session.as_json:
            click.clear()
        session.emit(session.client.get("/status"), show)


@click.command("wait")
@click.argument("folder", default="")
@click.option("--durable", is_flag=True, help="Also wait until a relay has acknowledged every version.")
@click.option("--timeout", type=click.FloatRange(0, WAIT_S_MAX), default=60.0, show_default=True, help="Seconds.")
@common
def wait_command(session: Session, folder: str, durable: bool, timeout: float) -> None:
    """Wait until a folder, or everything, is in sync; exit 8 after the timeout. Example: meshsync wait --durable"""
    body = {"folder": folder_argument(folder), "durable": durable, "timeout_s": timeout}
    answer = session.run_job("/waits", "Waiting", **body)
    session.emit(answer, lambda _: say("In sync and durable." if durable else "In sync."))


@click.command("stats")
@common
def stats_command(session: Session) -> None:
    """Show counters since the agent started. Example: meshsync stats"""
    session.emit(session.client.get("/stats"), _show_stats)


def show(status: Answer) -> None:
    """Print a status as tables."""
    device = printable(status["device"]["name"])
    say(f"{device}   agent {printable(status['version'])}   up {duration(status['uptime_s'])}")
    if status["folders"]:
        table(("FOLDER", "FILES", "SIZE", "STATE", "DURABLE", "VERSIONS"), [_folder(f) for f in status["folders"]])
    elif not status["shared_files"] and not status["backups"]:
        say("No folders yet. Next: meshsync share PATH")
    if status["shared_files"]:
        headings = ("SHARED FILE", "SIZE", "STATE", "WITH", "STORED", "PATH")
        table(headings, [_shared_file(file) for file in status["shared_files"]])
    if status["backups"]:
        headings = ("BACKUP OF OTHERS", "BLOBS", "SIZE", "STATE", "LINKED", "PATH")
        table(headings, [_backup(kept) for kept in status["backups"]])
    rows = [_device(device) for device in status["devices"]] + [_relay(relay) for relay in status["relays"]]
    if rows:
        table(("DEVICE", "PATH", "RTT", "DOWN", "UP", "SEEN"), rows)
    _show_sums(status)
    _show_health(status["health"])


def state(folder: Answer) -> str:
    """Return the cell that says what a folder is doing."""
    if folder["state"] != "syncing" or not folder["total_bytes"]:
        return str(folder["state"])
    words = f"syncing {100 * folder['done_bytes'] // folder['total_bytes']} %"
    if folder["rate_bytes_s"] >= 1:
        words += f", {rate(folder['rate_bytes_s'], 1)}"
    if folder["eta_s"] is not None:
        words += f", ETA {clock(folder['eta_s'])}"
    return words


def _folder(folder: Answer) -> tuple[str, ...]:
    if not folder["relayed"]:
        durable = "-"
    elif folder["not_durable"]:
        durable = f"{count(max(0, folder['files'] - folder['not_durable']))} of {count(folder['files'])}"
    else:
        durable = "all"
    held = f", {folder['held']} held" if folder["held"] and folder["state"] != "held" else ""
    sizes = (count(folder["files"]), size(folder["bytes"]))
    return (folder["name"], *sizes, state(folder) + held, durable, count(folder["versions"]))


def _shared_file(file: Answer) -> tuple[str, ...]:
    side = "to " if file["given"] else "from "
    who = side + file["device"] if file["device"] else "nobody yet"
    stored = "-" if not file["relayed"] else "yes" if file["stored"] else "not yet"
    return (file["name"], size(file["bytes"]), file["state"], who, stored, file["path"])


def _backup(kept: Answer) -> tuple[str, ...]:
    linked = f"{kept['linked']} of {max(0, kept['members'] - 1)}"
    return (kept["name"], count(kept["blobs"]), size(kept["bytes"]), kept["state"], linked, kept["path"])


def _device(device: Answer) -> tuple[str, ...]:
    if device["path"] == "offline":
        return (device["name"], "offline", "-", "-", "-", ago(device["seen"]))
    path = f"{device['path']} {device['address']}".strip()
    rates = (rate(device["down_bytes_s"]), rate(device["up_bytes_s"]))
    return (device["name"], path, milliseconds(device["rtt_ms"]), *rates, "now")


def _relay(relay: Answer) -> tuple[str, ...]:
    path = relay["address"] if relay["connected"] else "offline"
    return ("relay", path, milliseconds(relay["rtt_ms"]), "-", "-", "now" if relay["connected"] else "-")


def _show_sums(status: Answer) -> None:
    saved = status["saved"]
    words = []
    if saved["dedup_bytes"] or saved["delta_bytes"]:
        words.append(f"Saved: {size(saved['dedup_bytes'])} by deduplication, {size(saved['delta_bytes'])} by deltas.")
    conflicts = sum(folder["conflicts"] for folder in status["folders"])
    if conflicts:
        words.append(f"Conflicts: {conflicts} (meshsync conflicts)")
    if words:
        say("    ".join(words))


def _show_health(items: list[Answer]) -> None:
    if not items:
        say("Health: ok")
    for item in items:
        why = f" ({printable(item['why'])})" if item["why"] else ""
        following = f" Next: {printable(item['next'])}" if item["next"] else ""
        say(f"Health: {printable(item['what'])}{why}.{following}")


def _show_stats(stats: Answer) -> None:
    rows = [(kind, size(link["received"]), size(link["sent"])) for kind, link in sorted(stats["links"].items())]
    table(("LINK", "RECEIVED", "SENT"), rows)
    served = f"served {size(stats['content_bytes_served'])}"
    say(f"Content: fetched {size(stats['content_bytes_fetched'])}, {served}.")
    kinds = ("fetched", "damaged", "reused")
    say("Chunks: " + ", ".join(f"{count(stats[f'chunks_{kind}'])} {kind}" for kind in kinds) + ".")
